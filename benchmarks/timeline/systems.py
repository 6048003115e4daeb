"""What is compared. In: a data set's config; out: the run config of each system.

continued    data.windows with growing tables: each window is evaluated on, then trained on
frozen       continued until the middle window, then as it is
fixed        as continued, with vocabularies of the first windows (data.windows.fit_on)
hashed       as continued, ids by hash into as many rows
retrained    a new model on all windows before, with growing tables of the same size
"""

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.timeline.sets import ROOT, Timeline
from interformer_rec.config import run as run_config
from interformer_rec.config.run import RunConfig
from interformer_rec.errors import InputError

IN_TIME_ORDER = ("continued", "fixed", "hashed")
SYSTEMS = (*IN_TIME_ORDER, "frozen", "retrained")


def tree_of(timeline: Timeline, folder: Path) -> dict[str, Any]:
    """The data set's config as it is written, from the repository or, of made-up days, beside them."""
    path = ROOT / timeline.config if timeline.config else folder / "config.yaml"
    if not path.is_file():
        raise InputError(
            f"there is no config {str(path)!r}: write the data with `interformer data`, or name --data-dir"
        )
    tree: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return tree


def system_config(
    tree: dict[str, Any], timeline: Timeline, system: str, data: Path, out: Path, changes: Sequence[str] = ()
) -> RunConfig:
    """The run of a system on the windows in `data`; of `retrained` they are its training files. Raises InputError."""
    tree = copy.deepcopy(tree)
    tables = tree["features"]["tables"]
    for name in timeline.tables:
        if name not in tables:
            raise InputError(f"the config has no table {name!r}")
    for name, table in tables.items():
        if table.get("ids", "vocab") == "vocab":
            large = timeline.tables.get(name)
            tables[name] = _table(system if large or system == "fixed" else "continued", large or timeline.others)
    tree["data"].pop("windows", None)
    fixed = {**timeline.overrides, "training.out": str(out), "training.device": "cpu", "training.checkpoint.keep": 1}
    if system == "retrained":
        fixed["data.train"] = f"{data}/*/*.parquet"
    else:
        tree["data"]["windows"] = {"path": str(data), "by": "folder", "fit_on": timeline.fit_on, "gap": "warn"}
    lines = [f"{key}={json.dumps(value)}" for key, value in fixed.items()]
    return run_config.parse_yaml(yaml.safe_dump(tree), f"{timeline.config}, {system}", [*lines, *changes])


def _table(system: str, rows: int) -> dict[str, Any]:
    if system == "hashed":
        return {"ids": "hash", "num_embeddings": rows}
    if system == "fixed":
        return {"ids": "vocab", "num_embeddings": rows}
    return {"ids": "vocab", "grow": {"rows": rows}}
