"""Several jagged groups of events of the same samples become one: by age (side by side) or by group (one after another)."""

from __future__ import annotations

import torch
from torch import Tensor

from interformer_rec.ops.buckets import offsets_of
from interformer_rec.ops.jagged import gather_rows, place_rows


def glue_by_age(groups: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """(values (E_g, w_g), lengths (B,)) a group -> (E, sum of w_g) and (B,) lengths, the longest group's.

    Events of the same age (0 = the group's newest) share a row; a group that has none so old leaves zeros.
    """
    longest = torch.stack([lengths for _, lengths in groups], 1).amax(1).to(torch.int64)
    ends = longest.cumsum(0)
    total = int(ends[-1])
    columns = []
    for values, lengths in groups:
        rows = torch.arange(values.shape[0], device=values.device)
        shift = ends - lengths.cumsum(0)  # a group's last event goes to the sample's last row
        columns.append(place_rows(values, rows + shift.repeat_interleave(lengths, output_size=rows.numel()), total))
    return torch.cat(columns, 1), longest


def glue_in_turn(groups: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """(values (E_g, d), lengths (B,)) a group -> (E, d), each sample's groups one after another, and their (B, G) lengths."""
    lengths_BG = torch.stack([lengths.to(torch.int64) for _, lengths in groups], 1)
    starts_BG = offsets_of(lengths_BG.flatten())[:-1].view_as(lengths_BG)
    rows = []
    for (values, lengths), starts in zip(groups, starts_BG.unbind(1), strict=True):
        shift = starts - offsets_of(lengths)[:-1]
        row = torch.arange(values.shape[0], device=values.device)
        rows.append(row + shift.repeat_interleave(lengths, output_size=row.numel()))
    inverse = torch.cat(rows)
    index = torch.empty_like(inverse).index_copy_(0, inverse, torch.arange(inverse.numel(), device=inverse.device))
    return gather_rows(torch.cat([values for values, _ in groups]), index, inverse), lengths_BG
