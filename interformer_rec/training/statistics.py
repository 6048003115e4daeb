"""Lengths of the histories as trained on. In: the batches of the first epoch of whole rows; out: mean, percentiles, share of empty ones."""

from __future__ import annotations

import numpy as np

from interformer_rec.batch import Batch
from interformer_rec.schema import FeatureSchema


class LengthStatistics:
    """One histogram a sequence group, of this rank's share of the rows; lengths are after truncation to max_length."""

    def __init__(self, features: FeatureSchema, epoch: int = 0) -> None:
        self.epoch = epoch  # the first one of whole rows (data.unroll)
        self.keys = {group.name: f"{group.name}.{group.columns[0].name}" for group in features.sequences}
        self.histograms = {group.name: np.zeros(group.max_length + 1, np.int64) for group in features.sequences}

    def add(self, batch: Batch, epoch: int) -> None:
        """Count a batch; earlier epochs have histories cut short, later ones bring the same rows again."""
        keys = batch.sequences.keys()
        if epoch != self.epoch or batch.rows == 0 or not keys:
            return
        lengths = batch.sequences.lengths().view(len(keys), -1).numpy()
        for group, key in self.keys.items():
            histogram = self.histograms[group]
            histogram += np.bincount(lengths[keys.index(key)], minlength=len(histogram))

    def state_dict(self) -> dict[str, list[int]]:
        """For a checkpoint, JSON-able."""
        return {group: histogram.tolist() for group, histogram in self.histograms.items()}

    def load_state_dict(self, state: dict[str, list[int]]) -> None:
        """Continue from `state_dict()`."""
        self.histograms = {group: np.array(counts, np.int64) for group, counts in state.items()}

    def to_dict(self) -> dict[str, dict[str, float]]:
        """group -> mean, p50, p95, p99, max, empty (share of rows); groups without rows are left out."""
        found = {}
        for group, histogram in self.histograms.items():
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
