"""FLOPs of the model's matrix products on real events. In: an InterFormer and the lengths of a batch; out: FLOPs of a step.

Padding, recomputation and element-wise work do not count: this is the numerator of MFU (Chowdhery et al. 2022, appendix B).
A row costs a + b n + c (n + CLS)^2 for n events, with a window c times the pairs that see each other; a, b and c are
counted as for a plan, on meta tensors over histories of three fixed lengths, which have no padding. The backward pass takes
twice the forward's products.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.model import ModelConfig
from interformer_rec.model.embedding.embedded import Embedded, Events, field_groups
from interformer_rec.model.interformer import InterFormer
from interformer_rec.planning.cost.counter import forward_flops

POINTS = (8, 16, 32)  # events


@dataclass(frozen=True)
class Flops:
    """Of a step, forward and backward."""

    total: float
    attention: float  # the part that grows with the square of a history's length


class FlopCount:
    """Counts once per model, answers for any lengths."""

    def __init__(self, features: FeatureSchema, options: ModelConfig, model: InterFormer) -> None:
        self.merge = model.preprocess.merge
        self.cls, self.window = options.summary.x_tokens, options.sequence.window
        counted = copy.deepcopy(model).to(device="meta", dtype=torch.float32).eval()
        self.groups = len(features.sequences)
        totals = [_row_flops(counted, features, options, n) for n in POINTS]
        # so few events attend in one product, window or not (ops/padding/windowed.py)
        terms = [self._terms(dict.fromkeys(range(self.groups), np.array([n])), None) for n in POINTS]
        self.weights = np.linalg.solve(np.array(terms, dtype=np.float64), np.array(totals, dtype=np.float64))

    def of(self, lengths: Mapping[str, np.ndarray]) -> Flops:
        """FLOPs of a step over rows of these lengths (a group's name -> (B,))."""
        parts = self.weights * self._terms(lengths, self.window)
        return Flops(3 * float(parts.sum()), 3 * float(parts[2]))

    def _terms(self, lengths: Mapping[Any, np.ndarray], window: int | None) -> np.ndarray:
        """Rows, events of all groups, and the pairs of a sequence's tokens that see each other."""
        counts = np.stack(list(lengths.values())).astype(np.float64)
        sequences = {"masknet": counts.max(0), "concat": counts.sum(0)}.get(self.merge, counts)
        events = counts.max(0).sum() * self.groups if self.merge == "masknet" else counts.sum()
        pairs = (sequences + self.cls) ** 2
        if window is not None:
            hidden = np.maximum(0, sequences - window - 1)
            pairs -= hidden * (hidden + 1)
        return np.array([counts.shape[1], events, pairs.sum()])


def _row_flops(model: InterFormer, features: FeatureSchema, options: ModelConfig, length: int) -> int:
    """Of one row whose histories all have `length` events."""
    meta = torch.device("meta")
    groups = field_groups(features, options.embedding_dim)
    fields = {dim: torch.empty(1, len(group), dim, device=meta) for dim, group in groups.items()}
    events = {
        group.name: Events(
            torch.empty(1, length, len(group.columns) * options.embedding_dim, device=meta),
            torch.empty(1, dtype=torch.int64, device=meta),
        )
        for group in features.sequences
    }
    return forward_flops(lambda: model(torch.empty(1, len(features.dense), device=meta), Embedded(fields, events)))
