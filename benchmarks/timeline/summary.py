"""What the windows say together. In: every system's judged windows; out: paired differences over the last third, compute, memory, targets.

A difference is the mean over windows of A's metric minus B's. Two intervals: Student's t over the windows, and a bootstrap over the users
of those windows, each draw the same for both systems. Only windows that both systems were judged on count.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from benchmarks.quality.statistics import Scored, by_user, check_same_rows, t_interval
from benchmarks.timeline.runs import Judged
from interformer_rec.metrics.over_users import drawn, percentiles

T = TypeVar("T")
Windows = Mapping[str, Judged]
RESAMPLES = 400
WITHIN, COMPUTE, ADMISSION = 0.001, 0.2, 0.1  # targets: AUC, compute continued / retrained, admission / training
METRICS = ("auc", "ne", "calibration_error")


def last_third(windows: Sequence[T]) -> list[T]:
    """The last third of all windows, rounded up."""
    return list(windows)[-max(1, -(-len(windows) // 3)) :]


def difference(ours: Windows, theirs: Windows, windows: Sequence[str]) -> dict[str, Any] | None:
    """ours - theirs; None where no window was judged by both. calibration_error: |calibration - 1|."""
    common = [name for name in windows if name in ours and name in theirs]
    if not common:
        return None
    found: dict[str, Any] = {"windows": len(common)}
    for metric in METRICS:
        values = [_value(ours[name].row, metric) - _value(theirs[name].row, metric) for name in common]
        found[metric] = {"mean": float(np.mean(values)), "over_windows": t_interval(values)}
    pairs = [(ours[name].scored, theirs[name].scored) for name in common]
    found["auc"]["over_users"] = over_users(pairs)
    return found


def over_users(pairs: Sequence[tuple[Scored, Scored]], resamples: int = RESAMPLES) -> list[float]:
    """Interval of the mean over windows of the difference in AUC, users drawn anew."""
    users = np.unique(np.concatenate([ours.users for ours, _ in pairs]))
    prepared = []
    for ours, theirs in pairs:
        check_same_rows([ours], [theirs])
        index = np.searchsorted(users, ours.users)
        prepared.append([by_user(one, index, len(users)) for one in (ours, theirs)])
    draws = drawn(len(users), resamples, seed=0)[1:]
    return percentiles(
        np.nanmean([ours.at(draws)["auc"] - theirs.at(draws)["auc"] for ours, theirs in prepared], axis=0)
    )


def compute(continued: Windows, retrained: Windows, windows: Sequence[str]) -> dict[str, Any]:
    """CPU seconds of training, summed over the windows from the second on. What was not retrained is taken from the rows before it, at
    the CPU seconds a row of what was."""
    rows = {name: continued[name].row["rows"] for name in windows}
    epochs = continued[windows[0]].row["trained_rows"] / rows[windows[0]]
    measured = sum(one.row["train_cpu_seconds"] for one in retrained.values())
    trained = sum(one.row["trained_rows"] for one in retrained.values())
    before = np.cumsum([rows[name] for name in windows])[:-1]  # of each window from the second on
    every = float(before.sum()) * epochs
    total = measured if len(retrained) == len(windows) - 1 else measured / trained * every
    ours = [continued[name].row for name in windows]
    seconds = sum(row["train_cpu_seconds"] + row["admission_cpu_seconds"] for row in ours)
    return {
        "continued_cpu_seconds": seconds,
        "retrained_cpu_seconds": total,
        "retrained_cpu_seconds_measured": measured,
        "windows_retrained": len(retrained),
        "ratio": seconds / total,
        "ratio_of_rows": sum(row["trained_rows"] for row in ours) / every,
    }


def summary(found: Mapping[str, Windows], windows: Sequence[str]) -> dict[str, Any]:
    """Differences, compute, memory, admission, and which targets hold."""
    late = last_third(windows)
    ours = found["continued"]
    differences = {name: difference(ours, found[name], late) for name in found if name != "continued"}
    result: dict[str, Any] = {"last_third": late, "differences": differences}
    result["means"] = {name: _means(judged, late) for name, judged in found.items()}
    every = [ours[name].row for name in windows]
    admission, training = (sum(row[f"{part}_cpu_seconds"] for row in every) for part in ("admission", "train"))
    result["admission_share"] = admission / training
    result["table_bytes"] = sorted({row["table_bytes"] for row in every})
    if found.get("retrained"):
        result["compute"] = compute(ours, found["retrained"], windows)
    result["targets"] = targets(result)
    return result


def targets(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each with what was measured; met: None where that was not."""
    retrained, fixed = (result["differences"].get(name) for name in ("retrained", "fixed"))
    ratio = result["compute"]["ratio"] if "compute" in result else None
    gained = fixed["auc"]["over_users"] if fixed else None
    rows: list[tuple[str, Any, bool | None]] = [
        (f"continued - retrained >= -{WITHIN} AUC", retrained and retrained["auc"]["mean"], None),
        (f"compute continued / retrained <= {COMPUTE}", ratio, None if ratio is None else ratio <= COMPUTE),
        ("growing - fixed > 0 AUC, interval over users excludes 0", gained, gained and gained[0] > 0),
        (f"admission / training <= {ADMISSION}", result["admission_share"], result["admission_share"] <= ADMISSION),
        ("table bytes constant", result["table_bytes"], len(result["table_bytes"]) == 1),
    ]
    first = rows[0][1]
    rows[0] = (rows[0][0], first, None if first is None else first >= -WITHIN)
    return [{"target": text, "measured": value, "met": met} for text, value, met in rows]


def _value(row: Mapping[str, Any], metric: str) -> float:
    return abs(row["calibration"] - 1) if metric == "calibration_error" else float(row[metric])


def _means(judged: Windows, windows: Sequence[str]) -> dict[str, Any]:
    """Over those of the windows that were judged."""
    rows = [judged[name].row for name in windows if name in judged]
    return {
        "windows": len(rows),
        **{metric: float(np.mean([_value(row, metric) for row in rows])) for metric in METRICS if rows},
    }
