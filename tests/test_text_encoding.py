"""A rule of tests/test_architecture.py: text files are UTF-8 wherever they are read. In: sources; out: complaints."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def text_names_its_encoding(tree: dict[str, ast.Module]) -> list[str]:
    """What a file or a program holds must not depend on the locale of the machine (LC_ALL=C is common in containers)."""
    return [
        f"{path}:{node.lineno}: {ast.unparse(node.func)}() of text without encoding="
        for path, module in tree.items()
        for node in ast.walk(module)
        if isinstance(node, ast.Call) and _is_text(node) and not any(word.arg == "encoding" for word in node.keywords)
    ]


def _is_text(call: ast.Call) -> bool:
    """Whether a call reads or writes text of a file or of a program."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    options = {word.arg: ast.unparse(word.value) for word in call.keywords}
    if name == "read_text":
        return not call.args  # with one it is a file of an installed package, always UTF-8
    if name in ("write_text", "TextIOWrapper"):
        return True
    given = [*call.args, *(word.value for word in call.keywords if word.arg == "mode")]
    modes = [one.value for one in given if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    modes = [mode for mode in modes if re.fullmatch(r"[rwxa][bt+]*", mode)]
    if name in ("open", "fdopen", "NamedTemporaryFile", "TemporaryFile"):
        bare = (
            isinstance(call.func, ast.Name) or not call.args
        )  # open(path), path.open(); Storage.open(path) is not one
        return not any("b" in mode for mode in modes) if modes else bare and name == "open" and "mode" not in options
    return options.get("text") == "True" or options.get("universal_newlines") == "True"


@pytest.mark.parametrize(
    "text, refused",
    [
        ("open(path)", True),
        ("path.open()", True),
        ("path.open('w')", True),
        ("path.write_text(text)", True),
        ("gzip.open(path, 'rt')", True),
        ("subprocess.run(command, text=True)", True),
        ("open(path, 'rb')", False),
        ("path.open(encoding='utf-8')", False),
        ("Storage.open(location)", False),
        ("os.open(path, os.O_RDONLY)", False),
        ("distribution.read_text('METADATA')", False),
    ],
)
def test_what_is_text(text, refused):
    assert bool(text_names_its_encoding({"a.py": ast.parse(text)})) == refused


@pytest.mark.parametrize("folder", ["benchmarks", "launch"])
def test_text_beside_the_package_names_its_encoding(folder):
    files = [*(ROOT / folder).rglob("*.py"), ROOT / "setup.py"]
    assert text_names_its_encoding({str(path): ast.parse(path.read_text(encoding="utf-8")) for path in files}) == []
