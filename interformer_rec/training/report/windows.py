"""The windows of a run on its page. In: the records of its log; out: figures over the windows, and a table of the newest."""

from collections.abc import Iterator
from typing import Any

from interformer_rec.text import number
from interformer_rec.training.report.figures import METRICS, by_label, curve_figure
from interformer_rec.training.report.plots import SERIES, Series

MOST = 50  # windows in the table
ABOUT = {
    "auc": "Of each window, by weights that have not seen it; the line is the mean over windows until then.",
    "gauc": "As AUC, within groups.",
    "gauc_request": "As AUC, within requests.",
    "logloss": "Of each window, by weights that have not seen it; the line is over all rows until then.",
    "ne": "Logloss over the entropy of the base rate of the same rows; below 1 is better than the base rate.",
    "calibration": "Predicted over observed positives: away from 1, the base rate has moved.",
}
GROWTH = {
    "admitted": ("Ids admitted", "To growing tables, at the start of each window.", "ids"),
    "freed": ("Rows freed", "Of growing tables: their ids were not seen for long, or others needed the room.", "rows"),
    "used_rows": ("Rows in use", "Of growing tables; the others wait for new ids.", "rows"),
    "waiting": ("Ids that wait", "For a row of a growing table: not seen often enough yet, or without room.", "ids"),
}


def windows_of(records: list[dict[str, Any]]) -> dict[str, Any] | None:
    """`plots`, and `rows` of the newest windows with `columns`; None of a run without windows."""
    windows = [record for record in records if record["split"] == "window" and isinstance(record.get("window"), str)]
    if not windows:
        return None
    own = [by_label({key: value for key, value in record.items() if not key.startswith("all/")}) for record in windows]
    labels = list(dict.fromkeys(label for record in own for label in record))
    plots = []
    for metric, about in ABOUT.items():
        series = []
        for label in labels:
            series.append(Series(label, _points(windows, f"{label}/{metric}"), "dots"))
            series.append(Series(f"{label}, all windows", _points(windows, f"all/{label}/{metric}")))
        plots.append(curve_figure(METRICS[metric], about, series, METRICS[metric], "window"))
    plots += [_unknown(windows), *_growth(windows, [record for record in records if record["split"] == "growth"])]
    first = labels[0] if labels else ""
    over_all = {key.removeprefix("all/"): value for key, value in windows[-1].items() if key.startswith("all/")}
    return {
        "over_all": by_label(over_all).get(first, {}),
        "plots": [plot for plot in plots if plot is not None],
        "label": first if len(labels) > 1 else None,
        "columns": {
            key: title for key, title in METRICS.items() if any(key in record.get(first, {}) for record in own)
        },
        "rows": [
            {"name": record["window"], "rows": record.get("rows"), "values": values.get(first, {})}
            for record, values in list(zip(windows, own, strict=True))[-MOST:]
        ][::-1],
        "count": len(windows),
    }


def _growth(windows: list[dict[str, Any]], growth: list[dict[str, Any]]) -> Iterator[dict[str, Any] | None]:
    """Of the growing tables: a record stands where that of its window does."""
    places = {(record["epoch"], record["step"]): place for place, record in enumerate(windows, 1)}
    by_window: list[dict[str, Any]] = [{} for _ in windows]
    for record in growth:
        if (place := places.get((record["epoch"], record["step"]))) is not None:
            by_window[place - 1] = record
    for key, (title, about, y) in GROWTH.items():
        yield _largest(title, about, by_window, f"/{key}", y)


def _unknown(windows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Of the columns with the largest shares."""
    about = "Share of a column's ids that the vocabulary of its table does not hold."
    return _largest("Unknown ids", about, windows, "/unknown", "share", percent=True)


def _largest(
    title: str, about: str, windows: list[dict[str, Any]], ends: str, y: str, **style: bool
) -> dict[str, Any] | None:
    """The series with the largest sums among those whose key ends so."""
    keys = dict.fromkeys(key for record in windows for key in record if key.endswith(ends))
    sums = {key: sum(number(record.get(key)) or 0.0 for record in windows) for key in keys}
    most = sorted((key for key, total in sums.items() if total > 0), key=lambda key: -sums[key])[:SERIES]
    series = [Series(key.removesuffix(ends), _points(windows, key), "dots") for key in most]
    return curve_figure(title, about, series, y, "window", from_zero=True, **style)


def _points(windows: list[dict[str, Any]], key: str) -> tuple[tuple[float, float], ...]:
    """(number of the window, value) wherever the value is a number."""
    found = ((float(place), number(record.get(key))) for place, record in enumerate(windows, 1))
    return tuple((x, y) for x, y in found if y is not None)
