"""Rows that an earlier result already has. In: its quality.json; out: the row of a system, once its runs are shown to be the same.

A row counts if the earlier study had the same data, cuts and epochs, at least these seeds, the same trials, and every one of its
runs the digest (recipe, settings found, config of this code) that the run would have here. Then the run would give the same
numbers: it is not repeated. A study of fixed recipes takes the rows whose search kept the recipe; the others are run.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.quality.search import Found
from benchmarks.quality.statistics import mean_and_spread
from interformer_rec.errors import InputError


class Known:
    """An earlier result; without a path there is nothing in it."""

    def __init__(self, path: str | None, budget: int) -> None:
        """`budget`: this study's trials a system. Raises InputError for what is no result."""
        self.path = path
        self.result = read_study(path, "--known: ") if path else {"systems": [], "differences": {}}
        self.rows: dict[str, dict[str, Any]] = {
            row["name"]: {**row, "trials": row["trials"] if budget else []}
            for row in self.result["systems"]
            if budget or not row["settings"]
        }

    def check(self, study: Mapping[str, Any]) -> None:
        """Raise InputError where the earlier study was of other data, rows of the cuts, seeds, trials or epochs."""
        if self.path is None:
            return
        for name, value in study.items():
            theirs = self.result.get(name)
            same = theirs[: len(value)] == value if name == "seeds" and theirs else theirs == value
            if not same and not (name == "budget" and value == 0):
                raise InputError(f"--known {self.path!r} has {name} {theirs}, this study {value}")

    def __contains__(self, name: str) -> bool:
        return name in self.rows

    def found(self, name: str) -> Found:
        """What its search found."""
        return Found(self.rows[name]["settings"], self.rows[name]["trials"])

    def row(self, name: str, runs: Sequence[str]) -> dict[str, Any]:
        """The row, and where it comes from; `runs`: the folder names, with digests, that its runs would have here. Raises InputError."""
        row = self.rows[name]
        kept = row["runs"][: len(runs)]
        theirs = [run["folder"] for run in kept]
        if theirs != list(runs):
            raise InputError(
                f"--known {self.path!r}: the runs of {name} are of another recipe, data cut or code version "
                f"({theirs[0]}, here {runs[0]}): run it, without --known or from a result without it"
            )
        means = {metric: mean_and_spread([run["test"][metric] for run in kept]) for metric in kept[0]["test"]}
        origin = {key: self.result[key] for key in ("date", "device", "command")}
        return {**row, **means, "runs": kept, "known": row.get("known", origin)}

    def over_users(self, name: str, metric: str, seeds: int) -> list[float] | None:
        """The interval of InterFormer minus `name` over the test's users, where the earlier study had it of these seeds."""
        difference = self.result.get("differences", {}).get(name, {}).get(metric, {})
        both = "interformer" in self.rows and name in self.rows
        return difference.get("over_users") if both and len(self.result["seeds"]) == seeds else None


def read_study(path: str, option: str = "") -> dict[str, Any]:
    """A study's result file; `option` begins the message. Raises InputError for what is none."""
    try:
        result = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{option}cannot read {path!r}: {error}") from None
    if not isinstance(result, dict) or result.get("benchmark") != "quality":
        raise InputError(f"{option}{path!r} is no result of benchmarks.quality")
    return result
