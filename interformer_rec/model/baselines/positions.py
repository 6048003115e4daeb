"""Learned vectors by age: the layout of a history comes in, (E, d) goes out."""

import math

import torch
from torch import Tensor, nn

from interformer_rec.model.baselines.padded import PaddedLayout

MOST_AGES = 16_384  # rows of a table: a larger max_length is no reason to make vectors that no event reads


class Positions(nn.Module):
    """Row a is for the event of age a, 0 the newest; older than the table: its last row. Rows start at length about 1."""

    def __init__(self, longest: int, d: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.randn(min(longest, MOST_AGES), d) / math.sqrt(d))

    def forward(self, layout: PaddedLayout) -> Tensor:
        """One row an event; of a rectangle one a place, (T, d)."""
        return self.rows.index_select(0, layout.age.clamp(max=len(self.rows) - 1))
