"""Lengths of the histories as trained on. In: the batches of the first epoch of whole rows; out: mean, percentiles, share of empty ones."""

from typing import Any

import numpy as np

from interformer_rec.batch import Batch
from interformer_rec.config.features import FeatureSchema
from interformer_rec.errors import DamagedError
from interformer_rec.training.loop import Hook, StepInfo


class LengthStatistics(Hook):
    """One histogram a sequence group, of this rank's share of the rows; lengths are after truncation to max_length.

    A histogram reaches to the longest history seen: max_length may be far more than any history has."""

    def __init__(self, features: FeatureSchema, epoch: int = 0) -> None:
        self.epoch = epoch  # the first one of whole rows (data.history_pretraining)
        self.keys = {group.name: f"{group.name}.{group.columns[0].name}" for group in features.sequences}
        self.histograms: dict[str, np.ndarray] = {group.name: np.zeros(1, np.int64) for group in features.sequences}
        self.events = {name: np.zeros_like(histogram) for name, histogram in self.histograms.items()}

    def step(self, info: StepInfo) -> None:
        """Count its batch."""
        self.add(info.batch, info.epoch)

    def add(self, batch: Batch, epoch: int) -> None:
        """Count a batch; later epochs bring the same rows again. Before whole rows, epoch 0 stands for them: a run may end there."""
        keys = batch.sequences.keys()
        if epoch not in (0, self.epoch) or batch.rows == 0 or not keys:
            return
        lengths = batch.sequences.lengths().view(len(keys), -1).numpy()
        for group, key in self.keys.items():
            histograms = self.histograms if epoch == self.epoch else self.events
            counts = np.bincount(lengths[keys.index(key)], minlength=len(histograms[group]))
            counts[: len(histograms[group])] += histograms[group]
            histograms[group] = counts

    def state_dict(self) -> dict[str, dict[str, list[int]]]:
        """For a checkpoint, JSON-able."""
        return {
            name: {group: histogram.tolist() for group, histogram in histograms.items()}
            for name, histograms in (("rows", self.histograms), ("events", self.events))
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`. Raises DamagedError for one of other sequences."""
        for name, histograms in (("rows", self.histograms), ("events", self.events)):
            saved = {group: np.array(counts, np.int64) for group, counts in state[name].items()}
            if saved.keys() != histograms.keys() or not all(len(counts) for counts in saved.values()):
                raise DamagedError(
                    "the state of the history lengths in a checkpoint is of other sequences than the run's"
                )
            histograms.update(saved)

    def to_dict(self) -> dict[str, dict[str, float]]:
        """group -> mean, p50, p95, p99, max, empty (share of rows); groups without rows are left out."""
        found = {}
        for group, histogram in self.histograms.items():
            histogram = histogram if histogram.any() else self.events[group]
            rows = int(histogram.sum())
            if not rows:
                continue
            share = histogram.cumsum() / rows
            found[group] = {
                "mean": float((histogram * np.arange(len(histogram))).sum() / rows),
                **{f"p{int(100 * p)}": int(np.searchsorted(share, p)) for p in (0.5, 0.95, 0.99)},
                "max": int(histogram.nonzero()[0].max()),
                "empty": float(histogram[0] / rows),
            }
        return found
