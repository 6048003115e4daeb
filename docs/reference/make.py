"""Writes the reference pages from the code, one line a key. In: the config models, the log's metrics; out: docs/reference/*.md.

python -m docs.reference.make

A key's type, bounds, default and description are those of its pydantic field: to correct a page, correct the field.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from docs.reference import explain_json, search_spaces, sharding
from docs.reference.keys import Key, first_sentence, keys, table
from docs.reference.plan_json import ESTIMATES, NAMED, OF_A_RUN
from docs.reference.run_folder import CHECKPOINT, FILES, GROWTH, METRICS, PUBLISH, RECORDS, split_of
from interformer_rec.config.baselines import AnyModelConfig
from interformer_rec.config.model import PRESETS, ModelConfig
from interformer_rec.config.run import RunConfig
from interformer_rec.planning.constraints import Constraints
from interformer_rec.planning.cost.cluster import Cluster, Efficiency
from interformer_rec.training.start.resume_keys import TABLE

FOLDER = Path(__file__).parent
NOTE = "Written by `python -m docs.reference.make` from the code; change it there."


def model_kinds() -> list[type[BaseModel]]:
    """The classes under `model`, InterFormer first."""
    return list(get_args(get_args(AnyModelConfig)[0]))


def run_keys() -> dict[str, list[Key]]:
    """Section of a run config -> its keys; those of `model` apart."""
    sections: dict[str, list[Key]] = {"": []}
    for key in keys(RunConfig):
        section, dot, _ = key.path.partition(".")
        if section == "model":
            continue
        if key.kind == "mapping" and not dot:
            sections[section] = []
        else:
            sections[section if dot else ""].append(key)
    return sections


def prose(*sentences: str) -> str:
    """A paragraph, wrapped."""
    return textwrap.fill(" ".join([NOTE, *sentences]), 120, break_on_hyphens=False, break_long_words=False) + "\n"


def config_page() -> str:
    """docs/reference/config.md."""
    lines = [
        "# Keys of a run config\n",
        prose(
            "`a.b` is key `b` below key `a`; `a[].b` is `b` in each entry of the list `a`, and `a.NAME.b` is `b` below a name of your own.",
            "On the command line `--set a.b=VALUE` sets a key; VALUE is YAML, and a list is written whole: `--set 'model.head=[64, 32]'`.",
        ),
    ]
    intro = {name: first_sentence(schema) for name, schema in RunConfig.model_json_schema()["$defs"].items()}
    classes = {
        name: next(iter(get_args(field.annotation)), field.annotation) for name, field in RunConfig.model_fields.items()
    }
    for section, found in run_keys().items():
        if section:
            lines.append(f"## {section}\n\n{intro[classes[section].__name__]}\n")
        lines.append(table(found) + "\n")
    lines.append("## model\n\n`model.kind` chooses the model; without it InterFormer is trained.\n")
    for model in model_kinds():
        kind = model.model_fields["kind"].default
        lines.append(f"### kind: {kind}\n\n{first_sentence(model.model_json_schema())}\n")
        lines.append(table(keys(model, "model.")) + "\n")
    return "\n".join(lines).rstrip("\n") + "\n"


def cluster_page() -> str:
    """docs/reference/cluster.md."""
    about = prose(
        "`interformer plan --cluster NAME` takes a name of configs/clusters/ or the path of such a file",
        "([guide](../guides/planning.md#clusters)). GiB is 2^30 bytes; GB/s is 10^9 bytes a second in one direction.",
    )
    return f"# Keys of a cluster file\n\n{about}\n{table(keys(Cluster))}\n"


def constraints_page() -> str:
    """docs/reference/constraints.md."""
    about = prose("`interformer plan --constraints FILE` reads it ([guide](../guides/planning.md#constraints)).")
    return f"# Keys of a constraints file\n\n{about}\n{table(keys(Constraints))}\n"


def leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted path and value of everything in a tree of mappings."""
    for name, inner in value.items():
        if isinstance(inner, dict):
            yield from leaves(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", inner


def presets_page() -> str:
    """docs/reference/presets.md: the keys in which presets differ."""
    whole = {name: dict(leaves(ModelConfig(preset=name).model_dump(mode="json"), "model.")) for name in PRESETS}
    differing = [
        path for path, value in whole["default"].items() if any(found[path] != value for found in whole.values())
    ]
    head = f"| key | {' | '.join(f'`{name}`' for name in whole)} |\n|{'---|' * (len(whole) + 1)}"
    rows = [
        f"| `{path}` | {' | '.join(f'`{json.dumps(found[path])}`' for found in whole.values())} |"
        for path in differing
        if path != "model.preset"
    ]
    about = prose(
        "`model.preset` sets these keys, where they are not given themselves; all others are alike. `default` is the form that this",
        "project recommends ([why](../decisions/0004-model-choices.md)), `paper` the letter of the paper.",
    )
    return "\n".join(["# Presets of InterFormer\n", about, head, *rows]) + "\n"


def run_folder_page() -> str:
    """docs/reference/run-folder.md."""
    files = [f"| `{name}` | {meaning} |" for name, meaning in FILES.items()]
    records = [f"| `{name}` | all | {meaning} |" for name, meaning in RECORDS.items()]
    records += [f"| `{name}` | {split_of(name)} | {meaning} |" for name, meaning in METRICS.items()]
    records += [f"| `{name}` | checkpoint | {meaning} |" for name, meaning in CHECKPOINT.items()]
    records += [f"| `{name}` | growth | {meaning} |" for name, meaning in GROWTH.items()]
    records += [f"| `{name}` | publish | {meaning} |" for name, meaning in PUBLISH.items()]
    about = prose("`training.out` says where the folder is; by default runs/NAME.")
    log = textwrap.fill(
        "A number that is not defined is null. TensorBoard has the same numbers under the tag SPLIT/FIELD, at the record's step: "
        "`train/loss`, `valid/click/auc`, `checkpoint/bytes`. A resumed run appends to metrics.jsonl; of two records of one split, "
        "epoch and step the later one holds.",
        120,
    )
    parts = ["# Files of a run\n", about, "| file | holds |\n|---|---|", *files]
    parts += [f"\n## Fields of metrics.jsonl\n\n{log}\n", "| field | records | meaning |\n|---|---|---|", *records]
    return "\n".join(parts) + "\n"


def sharding_page() -> str:
    """docs/reference/sharding.md."""
    about = prose(
        "`sharding.default`, `sharding.tables` and `sharding` of a constraints file name a type, `kernels` of a constraints file a kernel",
        "([guide](../guides/planning.md#constraints)). A type that a table may not have is an error in `sharding.tables`;",
        "`sharding.default` holds for the tables that may have it. `auto` leaves the choice to the planner.",
    )
    parts = ["# Which table may be sharded how\n", about]
    for pooled, title in sharding.KINDS.items():
        parts += [f"## {title}\n", sharding.HEAD, *sharding.rows(pooled), ""]
    parts += ["## Types and kernels\n", "| name | meaning |\n|---|---|", *sharding.meanings()]
    return "\n".join(parts) + "\n"


def plan_keys() -> dict[str, str]:
    """Every key of a plan file -> its meaning; the assumptions are the cluster's."""
    assumed = {
        ".".join(filter(None, ["assumptions", name, NAMED.get(f"assumptions.{name}")])): field.description or ""
        for name, field in Efficiency.model_fields.items()
    }
    return {**OF_A_RUN, **ESTIMATES, **assumed}


def plan_page() -> str:
    """docs/reference/plan.md."""
    about = prose(
        "`interformer plan --out FILE` writes a plan and `--json` prints it; `interformer train` writes one as plan.json of the run",
        "folder, which has the keys marked `run` only. `sharding.plan`, `interformer plan diff` and `--statistics` read it",
        "([guide](../guides/planning.md)). Names in capitals stand for those of a table, a list of ids, an item.",
    )
    rows = [f"| `{key}` | {'run' if key in OF_A_RUN else ''} | {meaning} |" for key, meaning in plan_keys().items()]
    return "\n".join(["# Keys of a plan file\n", about, "| key | in a run | meaning |\n|---|---|---|", *rows]) + "\n"


def resume_page() -> str:
    """docs/reference/resume-keys.md: a table for each section of a config, a line a key."""
    about = prose(
        "`*` stands for an entry of a list or for a name of your own. The [guide](../guides/resume.md) has the rules in short, and what",
        "`in any order` and `at an epoch's end` mean.",
    )
    sections: dict[str, list[str]] = {}
    for row in TABLE:
        for key in row.keys:
            sections.setdefault(key.partition(".")[0], []).append(f"| `{key}` | {row.change} | {row.why} |")
    parts = ["# Which keys may change on --resume\n", about]
    for section, lines in sorted(sections.items()):
        parts += [f"## {section}\n", "| key | on `--resume` | why |\n|---|---|---|", *sorted(lines), ""]
    return "\n".join(parts).rstrip("\n") + "\n"


PAGES = {
    "config.md": config_page,
    "cluster.md": cluster_page,
    "constraints.md": constraints_page,
    "explain.md": lambda: explain_json.page(prose),
    "plan.md": plan_page,
    "presets.md": presets_page,
    "resume-keys.md": resume_page,
    "run-folder.md": run_folder_page,
    "search-spaces.md": lambda: search_spaces.page(NOTE),
    "sharding.md": sharding_page,
}


def missing() -> list[str]:
    """Keys without a description."""
    found = [key for section in run_keys().values() for key in section]
    found += [key for model in model_kinds() for key in keys(model, f"{model.__name__}: model.")]
    found += [key._replace(path=f"cluster: {key.path}") for key in keys(Cluster)]
    found += [key._replace(path=f"constraints: {key.path}") for key in keys(Constraints)]
    return [key.path for key in found if not key.meaning] + [key for key, meaning in plan_keys().items() if not meaning]


if __name__ == "__main__":
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
