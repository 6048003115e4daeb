"""Commands that the pages show are commands that there are: their options, keys of --set, benchmarks, make targets."""

import re
import shlex
from pathlib import Path
from typing import get_args, get_origin

import pytest
from pydantic import BaseModel

from interformer_rec import cli
from interformer_rec.config.run import RunConfig
from interformer_rec.planning.arguments import joined

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:python -m benchmarks|make) [^`]+)`")  # `interformer plan --out` is a name of an option
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.md")]
)


def lines(text: str) -> list[str]:
    """Lines of shell blocks, those that go on joined; of blocks with prompts, which hold output too, those behind one. In prose: INLINE."""
    found = []
    for language, block in FENCE.findall(text):
        whole = block.replace("\\\n", " ").splitlines()
        if language == "bash":
            found += whole
        elif language == "console":
            found += [line.removeprefix("$ ") for line in whole if line.startswith("$ ")]
    return [*found, *(command.replace("\n", " ") for command in INLINE.findall(FENCE.sub("", text)))]


def words(line: str) -> list[str]:
    try:
        return shlex.split(line, comments=True)
    except ValueError:  # output that stands in a block
        return []


def commands(path: Path) -> list[list[str]]:
    """argv of every use of the command line; a torchrun of it, and what follows `--` of a component, too."""
    found = []
    for line in lines(path.read_text(encoding="utf-8")):
        argv = words(line)
        if argv[:1] == ["interformer"]:
            found.append(argv[1:])
        elif "interformer_rec.cli" in argv:
            found.append([word for word in argv[argv.index("interformer_rec.cli") + 1 :] if word != "--"])
    return found


def known_key(key: str) -> bool:
    """Whether a run config can have the key a.b.c; indices and names of the user's own are passed over."""
    models: list[type[BaseModel]] = [RunConfig]
    named = False
    for part in key.split("."):
        if named:  # a name of the user's own
            named = False
            continue
        fields = [model.model_fields[part] for model in models if part in model.model_fields]
        if not fields and models and not part.isdigit():
            return False
        if fields:
            models = [model for field in fields for model in inside(field.annotation)]
            named = any(get_origin(field.annotation) is dict for field in fields)
    return True


def inside(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in inside(argument)]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_are_understood(path):
    parser, wrong = cli.parser(), []
    for argv in commands(path):
        try:
            args = parser.parse_args(joined(argv, cli.TWO_WORDS))
        except SystemExit as ended:
            if ended.code != 0:  # --help
                wrong.append(" ".join(argv))
            continue
        if args.command in ("train", "config", "plan"):
            wrong += [pair for pair in getattr(args, "set", None) or [] if not known_key(pair.partition("=")[0])]
    assert wrong == (["trainin.epochs=2"] if path.name == "bring-your-own-parquet.md" else [])  # shown with its error


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_benchmarks_and_make_targets_are_there(path):
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for line in lines(path.read_text(encoding="utf-8")):
        argv = words(line)
        for module in (word for word in argv if re.fullmatch(r"benchmarks(\.\w+)+", word)):
            place = ROOT / module.replace(".", "/")
            assert place.with_suffix(".py").is_file() or (place / "__main__.py").is_file(), line
        if argv[:1] == ["make"] and len(argv) > 1 and argv[1].isidentifier():
            assert argv[1] in targets, line


def test_an_old_name_would_be_found():
    assert known_key("model.ensemble_members") and known_key("features.sequences.0.columns.1.table")
    assert (
        known_key("sharding.tables.user") and not known_key("model.embedding_sets") and not known_key("trainin.epochs")
    )
    assert commands(ROOT / "README.md") and commands(ROOT / "docs/guides/faults.md")
