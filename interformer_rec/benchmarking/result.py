"""Turns become a result. In: answers of turns, point by point; out: cases with medians and spread, and the JSON that has them all.

benchmark.json has a line for each case, so that a difference of two files shows what changed. docs/guides/throughput.md says what the keys
mean.
"""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from interformer_rec.benchmarking.point import Point
from interformer_rec.benchmarking.prediction import Prediction, price_of
from interformer_rec.benchmarking.rows.prepared import Written
from interformer_rec.config.features import FeatureSchema
from interformer_rec.errors import DamagedError, InputError
from interformer_rec.files import json_by_lines, json_object, write_whole
from interformer_rec.redaction import redact

FORMAT = 1
JSON, PAGE = "benchmark.json", "benchmark.html"


@dataclass
class Case:
    """A point with what is known of it so far."""

    point: Point
    written: Written
    prediction: Prediction
    flops_a_row: float | None  # None: the part has no products
    ceiling: float  # FLOP/s of a rank
    price_per_node_hour: float | None  # of the cluster that this machine is
    nodes: int
    turns: list[Mapping[str, Any]] = field(default_factory=list)
    error: str = ""

    def to_dict(self, features: FeatureSchema) -> dict[str, Any]:
        """Flat but for the prediction and the stages; times in ms, rates a second, None where nothing is known."""
        return {
            **self.point.to_dict(),
            "batch_size": self.written.batch_size,
            "file_longest": self.written.longest,
            **(self._measured(features) if self.turns else {}),
            "predicted": self.prediction.to_dict(),
            "error": redact(self.error) or None,
        }

    def _measured(self, features: FeatureSchema) -> dict[str, Any]:
        steps = [ms for turn in self.turns for ms in turn["step_ms"]]
        seconds = [sum(turn["step_ms"]) / 1e3 for turn in self.turns]
        rates = [sum(turn["rows"]) / taken for turn, taken in zip(self.turns, seconds, strict=True)]
        rate, rows = statistics.median(rates), sum(sum(turn["rows"]) for turn in self.turns)
        events = self._events_a_row(features)
        p25, p50, p75 = (float(value) for value in np.percentile(steps, [25, 50, 75]))
        predicted = self.prediction.step_ms
        peaks = [turn["peak_bytes"] for turn in self.turns]
        known = [value for turn in peaks for value in turn if value is not None]
        return {
            "turns": len(self.turns),
            "steps": len(steps),
            "step_ms": p50,
            "step_ms_p25": p25,
            "step_ms_p75": p75,
            "samples_per_second": rate,
            "samples_per_second_low": min(rates),
            "samples_per_second_high": max(rates),
            "requests_a_row": sum(sum(turn["requests"]) for turn in self.turns) / rows,
            "cpu_ms_a_sample": sum(sum(turn["cpu_ms"]) for turn in self.turns) / rows,
            "events_a_row": events,
            "events_per_second": rate * events,
            "flops_a_row": self.flops_a_row,
            "mfu": self.flops_a_row * rate / (self.ceiling * self.point.ranks) if self.flops_a_row else None,
            "peak_bytes": max(known) if known else None,
            "wait_share": self._wait_share(),
            "sent_bytes": self.turns[-1]["sent_bytes"],
            "stages_ms": _mean_stages(self.turns),
            "predicted_over_measured": predicted / p50 if predicted is not None else None,
            "price_per_million_samples": price_of(self.price_per_node_hour, self.nodes, rate),
        }

    def _events_a_row(self, features: FeatureSchema) -> float:
        """Of all histories, mean over the rows of all turns."""
        keys = [f"{group.name}.{group.columns[0].name}" for group in features.sequences]
        found = [sum(turn["elements"].get(key, 0.0) for key in keys) for turn in self.turns]
        return float(np.average(found, weights=[sum(turn["rows"]) for turn in self.turns]))

    def _wait_share(self) -> float | None:
        waits = [turn["wait_ms"] for turn in self.turns]
        if None in waits:
            return None
        return sum(map(sum, waits)) / sum(sum(turn["step_ms"]) for turn in self.turns)


def _mean_stages(turns: list[Mapping[str, Any]]) -> dict[str, float] | None:
    stages = [turn["stages_ms"] for turn in turns]
    if not stages or None in stages:
        return None
    return {name: round(statistics.median(one[name] for one in stages), 4) for name in stages[0]}


def write(out: Path, result: Mapping[str, Any]) -> None:
    """benchmark.json, whole at any time."""
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / JSON, json_by_lines(result))


def read(path: str) -> dict[str, Any]:
    """A result by its folder or file. Raises InputError for what is none."""
    place = Path(path) / JSON if Path(path).is_dir() else Path(path)
    try:
        found = json_object(place.read_bytes(), repr(str(place)))
    except (OSError, DamagedError) as error:
        raise InputError(
            f"cannot read {str(place)!r}: {error}. Name what `interformer benchmark` has written"
        ) from None
    if found.get("format") != FORMAT or not isinstance(found.get("cases"), list):
        raise InputError(f"{str(place)!r} is no result of `interformer benchmark` that this release reads")
    return found
