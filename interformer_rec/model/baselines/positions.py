"""Learned vectors by age: the layout of a history comes in, (E, d) goes out."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from interformer_rec.model.baselines.padded import PaddedLayout


class Positions(nn.Module):
    """Row a is for the event of age a, 0 the newest; older than the table: its last row. Rows start at length about 1."""

    def __init__(self, longest: int, d: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.randn(longest, d) / math.sqrt(d))

    def forward(self, layout: PaddedLayout) -> Tensor:
        """One row an event."""
        return self.rows.index_select(0, layout.age.clamp(max=len(self.rows) - 1))
