"""Several jagged groups of events of the same samples become one: by age (side by side), by group (one after another), or as a union.

Legend: B samples, G groups, E_g events of a group, E of all that go out.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from interformer_rec.ops.backend import IN_GRAPHS, runs
from interformer_rec.ops.jagged import gather_rows, place_rows
from interformer_rec.ops.padding.buckets import offsets_of
from interformer_rec.ops.rectangle import event_mask, masked


@runs(compiled="plain")
def glue_by_age(groups: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """(values (E_g, w_g), lengths (B,)) a group -> (E, sum of w_g) and (B,) lengths, the longest group's.

    Events of the same age (0 = the group's newest) share a row; a group that has none so old leaves zeros. Of rectangles, all with as
    many places: (B, T, sum of w_g).
    """
    longest = torch.stack([lengths for _, lengths in groups], 1).amax(1).to(torch.int64)
    if groups[0][0].ndim == 3:
        kept = [masked(values, event_mask(lengths, values.shape[1])) for values, lengths in groups]
        return torch.cat(kept, dim=2), longest
    ends = longest.cumsum(0)
    total = int(ends[-1])
    columns = []
    for values, lengths in groups:
        rows = torch.arange(values.shape[0], device=values.device)
        shift = ends - lengths.cumsum(0)  # a group's last event goes to the sample's last row
        columns.append(place_rows(values, rows + shift.repeat_interleave(lengths, output_size=rows.numel()), total))
    return torch.cat(columns, 1), longest


@runs(**IN_GRAPHS)
def glue_in_turn(groups: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """(values (E_g, d), lengths (B,)) a group -> (E, d), each sample's groups one after another, and their (B, G) lengths.

    Of rectangles: (B, sum of T_g, d).
    """
    lengths_BG = torch.stack([lengths.to(torch.int64) for _, lengths in groups], 1)
    if groups[0][0].ndim == 3:
        return torch.cat([values for values, _ in groups], dim=1), lengths_BG
    starts_BG = offsets_of(lengths_BG.flatten())[:-1].view_as(lengths_BG)
    rows = []
    for (values, lengths), starts in zip(groups, starts_BG.unbind(1), strict=True):
        shift = starts - offsets_of(lengths)[:-1]
        row = torch.arange(values.shape[0], device=values.device)
        rows.append(row + shift.repeat_interleave(lengths, output_size=row.numel()))
    inverse = torch.cat(rows)
    index = torch.empty_like(inverse).index_copy_(0, inverse, torch.arange(inverse.numel(), device=inverse.device))
    return gather_rows(torch.cat([values for values, _ in groups]), index, inverse), lengths_BG


class Union(NamedTuple):
    """Which events of G groups, laid one group after another, make the union, and where each of them stood."""

    rows_E: Tensor  # of the groups' events one group after another; sample after sample, oldest first
    lengths_B: Tensor
    marks_EG: Tensor  # bool: the event stands in the group


@runs(**IN_GRAPHS)
def union(groups: list[tuple[Tensor, Tensor]]) -> Union:
    """(ids (E_g,), lengths (B,)) a group -> each event once, if groups share it: events of equal id in a sample are the same one.

    The first group comes last, whole and in its order; before it, as older ones, the events of the second group that the first
    has not, and so on. An id that a group repeats is an event each time. On a GPU this waits for the count of events.
    """
    span = torch.stack([torch.cat([ids.new_zeros(1), ids]).amax() for ids, _ in groups]).amax() + 1
    samples = [
        torch.arange(lengths.numel(), device=ids.device).repeat_interleave(lengths, output_size=ids.numel())
        for ids, lengths in groups
    ]
    keys = [sample * span + ids for sample, (ids, _) in zip(samples, groups, strict=True)]
    starts = offsets_of(torch.tensor([key.numel() for key in keys])).tolist()
    rows, owners, marks = [], [], []
    for g, key in enumerate(keys):
        kept = torch.arange(key.numel(), device=key.device)
        if g:
            kept = kept[~torch.isin(key, torch.cat(keys[:g]))]
        absent = torch.zeros(kept.numel(), dtype=torch.bool, device=key.device)
        stands = [torch.isin(key[kept], other) for other in keys[g + 1 :]]
        rows.append(kept + starts[g])
        owners.append(samples[g][kept])
        marks.append(torch.stack([*[absent] * g, ~absent, *stands], dim=1))
    owner = torch.cat(owners[::-1])
    order = owner.argsort(stable=True)
    lengths = torch.zeros_like(groups[0][1], dtype=torch.int64).index_add_(0, owner, torch.ones_like(owner))
    return Union(torch.cat(rows[::-1])[order], lengths, torch.cat(marks[::-1])[order])
