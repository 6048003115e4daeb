"""An explanation as a page. In: what explain.json holds; out: one HTML file without scripts, readable offline."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from interformer_rec.html import environment as html
from interformer_rec.text import number

HERE = Path(__file__).parent
TITLES = {"auc": "AUC", "gauc": "GAUC", "ne": "NE", "calibration": "Calibration"}
WIDTH = 220.0  # of a bar's picture


def render(content: Mapping[str, Any]) -> str:
    """The page's HTML. The same content gives the same bytes."""
    labels = [_of_label(content, label) for label in content["labels"]]
    return html.render(HERE, "explain.html.j2", {"found": content, "labels": labels, "titles": TITLES, "width": WIDTH})


def _of_label(content: Mapping[str, Any], label: str) -> dict[str, Any]:
    """What the page shows of one label: its tables, with bars on one scale."""
    entries = [*content["features"], *content["groups"], *content["histories"], *content["fields"]]
    shown = [entry["importance"][label] for entry in entries]
    shown += [age[how][label] for age in content["ages"] for how in ("permuted", "removed")]
    low, high = _scale(shown)

    def row(entry: Mapping[str, Any], importance: Mapping[str, Any]) -> dict[str, Any]:
        return {"entry": entry, "importance": importance, "bar": _bar(importance["auc"], low, high)}

    tables = {
        name: [row(entry, entry["importance"][label]) for entry in content[name]]
        for name in ("features", "groups", "histories", "fields")
    }
    ages = [{how: row(age, age[how][label]) for how in ("permuted", "removed")} for age in content["ages"]]
    return {"name": label, "base": content["base"][label], "tables": tables, "ages": ages}


def _scale(shown: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """The range of all bars and their intervals; 0 is in it."""
    values = [number(value) for one in shown for value in (one["auc"]["mean"], *one["auc"]["interval"])]
    known = [0.0, *(value for value in values if value is not None)]
    low, high = min(known), max(known)
    return (low, high) if high > low else (0.0, 1.0)


def _bar(auc: Mapping[str, Any], low: float, high: float) -> dict[str, Any] | None:
    """Places on the picture, and whether the interval has 0 in it; None where the importance is not defined."""
    mean, *interval = (number(value) for value in (auc["mean"], *auc["interval"]))
    if mean is None or interval[0] is None or interval[1] is None:
        return None

    def place(value: float) -> float:
        return round(4 + (WIDTH - 8) * (value - low) / (high - low), 1)

    ends = sorted((place(0.0), place(mean)))
    return {
        "zero": place(0.0),
        "start": ends[0],
        "length": max(1.0, round(ends[1] - ends[0], 1)),
        "low": place(interval[0]),
        "high": place(interval[1]),
        "unsure": interval[0] <= 0 <= interval[1],
    }
