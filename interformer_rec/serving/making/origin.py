"""How a model came about, for its card: data, metrics, plan, releases, commit. In: what the user exports; out: facts, those there are.

A checkpoint alone has its config; metrics, plan and the machine's releases are files of a run folder. Nothing here decides anything, so a
file that is missing or damaged leaves its facts out.
"""

import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa

from interformer_rec.checkpoint.checked import small_file
from interformer_rec.config.found import CONFIG
from interformer_rec.config.run import RunConfig
from interformer_rec.errors import DamagedError
from interformer_rec.files import json_object
from interformer_rec.redaction import redact
from interformer_rec.storage import Storage

PACKAGE = Path(__file__).parents[2]
METRICS = ("auc", "gauc", "gauc_request", "logloss", "ne", "calibration")
RELEASES = ("interformer_rec", "torch", "torchrec", "ranks", "started")  # of environment.json


def origin(path: str, config: RunConfig) -> dict[str, Any]:
    """Facts by name; `path`: the run folder or checkpoint."""
    written = {split: config.written(("data", split)) for split in ("train", "valid", "test")}
    facts: dict[str, Any] = {
        f"data.{split}": redact(str(value)) for split, value in written.items() if value is not None
    }
    place = Storage.open(path)
    if _has(place, CONFIG):
        facts |= _metrics(_json(place, "evaluation.json"))
        facts |= _plan(_json(place, "plan.json"))
        environment = _json(place, "environment.json")
        facts |= {f"trained with: {name}": environment[name] for name in RELEASES if name in environment}
    found = commit()
    return facts if found is None else {**facts, "commit of the code that exported": found}


def commit(folder: Path = PACKAGE) -> str | None:
    """Of a checkout of this project; None for an installed package, also where that lies in somebody else's repository."""
    if not (folder.parent / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(folder.parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _has(place: Storage, name: str) -> bool:
    try:
        return place.size(name) is not None
    except (OSError, pa.ArrowException):
        return False


def _json(place: Storage, name: str) -> dict[str, Any]:
    try:
        return json_object(small_file(place, name, "the run has not ended"), name)
    except (OSError, pa.ArrowException, DamagedError):
        return {}


def _metrics(evaluation: dict[str, Any]) -> dict[str, Any]:
    """Of the run's best checkpoint, on its test data or else its validation data."""
    split = next((one for one in ("test", "valid") if isinstance(evaluation.get(one), dict)), None)
    if split is None:
        return {}
    found = evaluation[split].items()
    return {f"{split}: {k}": v for k, v in found if k.rpartition("/")[2] in METRICS and isinstance(v, (int, float))}


def _plan(plan: dict[str, Any]) -> dict[str, Any]:
    """How training sharded the tables."""
    tables = plan.get("tables")
    if not isinstance(tables, dict):
        return {}
    kinds = Counter(str(one.get("sharding")) for one in tables.values() if isinstance(one, dict))
    return {"plan of training": ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())}
