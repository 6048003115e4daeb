"""Figures of a run's page. In: records of its log; out: {title, about, svg, legend} of a figure, as the page shows it."""

from typing import Any

from markupsafe import Markup

from interformer_rec.text import number
from interformer_rec.training.report.plots import SERIES, Series, curves

METRICS = {
    "auc": "AUC",
    "gauc": "GAUC",
    "gauc_request": "GAUC by request",
    "logloss": "Logloss",
    "ne": "NE",
    "calibration": "Calibration",
    "base_rate": "Base rate",
}


def by_label(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """{"click/auc": 0.7} -> {"click": {"auc": 0.7}}."""
    labels: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        label, slash, metric = key.rpartition("/")
        if slash and metric in METRICS:
            labels.setdefault(label, {})[metric] = value
    return labels


def curve_figure(
    title: str, about: str, series: list[Series], y: str, x: str = "step", **style: bool
) -> dict[str, Any] | None:
    """Lines over steps, time or windows; None where no series has a point."""
    series = [one for one in series if one.points]
    if not series:
        return None
    return figure(title, about, series, curves(series, x, y, **style))


def figure(title: str, about: str, series: list[Series], svg: str) -> dict[str, Any]:
    """A plot that is drawn, with its legend."""
    legend = [(index % SERIES + 1, one.name) for index, one in enumerate(series)]
    return {"title": title, "about": about, "svg": Markup(svg), "legend": legend if len(legend) > 1 else []}


def points(records: list[dict[str, Any]], key: str) -> tuple[tuple[float, float], ...]:
    """(step, value) wherever the value is a number."""
    found = ((record["step"], number(record.get(key))) for record in records)
    return tuple((x, y) for x, y in found if y is not None)
