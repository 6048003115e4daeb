"""Where events lie when recurrence or attention wants them padded: (B,) lengths come in, index plans go out.

Events stay jagged, (E, ...), wherever rows are treated alike; only what mixes a sample's events sees (B, T, ...), oldest event
first, zeros behind the newest one. An event is known by its age, 0 for the newest: padding and what was cut off do not shift it.
Legend: B samples, E events, T slots (the longest history, at least 1), W channels.
"""

from collections.abc import Callable
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from interformer_rec.ops.padding.buckets import offsets_of, plan_buckets
from interformer_rec.ops.pooling import segment_pool


def by_length(x_BTW: Tensor, lengths: Tensor, function: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """`function`(x[rows, :width], rows) for samples of similar length together, zeros behind; rows keep their order.

    For attention, which costs the square of what samples are padded to. Lengths count from the first slot; 0 goes as 1. A graph that is
    being exported has one shape for all: there the samples stay together.
    """
    if torch.compiler.is_compiling():
        return function(x_BTW, torch.arange(x_BTW.shape[0], device=x_BTW.device))
    widths, order = lengths.clamp(min=1).sort()
    buckets = plan_buckets(widths.tolist())
    counts = [count for count, _ in buckets]
    pieces = zip(buckets, x_BTW[order].split(counts), order.split(counts), strict=True)
    longest = x_BTW.shape[1]
    parts = [F.pad(function(x[:, :width], rows), (0, 0, 0, longest - width)) for (_, width), x, rows in pieces]
    return torch.cat(parts)[order.argsort()]


class PaddedLayout:
    """Slots of the events of B samples."""

    def __init__(self, lengths: Tensor, events: int) -> None:
        self.lengths = lengths.to(torch.int64)
        self.size = lengths.numel()
        self.width = max(1, int(self.lengths.max()))  # T
        samples = torch.arange(self.size, device=lengths.device)
        self.sample = samples.repeat_interleave(self.lengths, output_size=events)  # (E,)
        self.position = torch.arange(events, device=lengths.device) - offsets_of(self.lengths)[self.sample]  # (E,)
        self.age = self.lengths[self.sample] - 1 - self.position  # (E,)
        self.slots = self.sample * self.width + self.position  # (E,)

    @cached_property
    def mask(self) -> Tensor:
        """(B, T) bool, True at events."""
        return torch.arange(self.width, device=self.lengths.device) < self.lengths[:, None]

    def pad(self, values_EW: Tensor) -> Tensor:
        """(E, ...) -> (B, T, ...), zeros where no event is."""
        flat = values_EW.new_zeros(self.size * self.width, *values_EW.shape[1:])
        return flat.index_copy(0, self.slots, values_EW).unflatten(0, (self.size, self.width))

    def unpad(self, padded_BTW: Tensor) -> Tensor:
        """(B, T, ...) -> (E, ...)."""
        return padded_BTW.flatten(0, 1).index_select(0, self.slots)

    def repeat(self, values_BW: Tensor) -> Tensor:
        """(B, ...) -> (E, ...): each sample's row for each of its events."""
        return values_BW.index_select(0, self.sample)

    def sum(self, values_EW: Tensor) -> Tensor:
        """(E, W) -> (B, W) sums over a sample's events; zeros where it has none."""
        return segment_pool(values_EW, self.lengths, "sum")

    def softmax(self, scores_E: Tensor) -> Tensor:
        """(E,) -> (E,) weights that add up to 1 over each sample's events."""
        hidden = torch.finfo(scores_E.dtype).min
        return self.unpad(self.pad(scores_E).masked_fill(~self.mask, hidden).softmax(1))

    def newest(self, values_EW: Tensor, count: int) -> Tensor:
        """(E, W) -> (B, count, W): the newest events, newest first; zeros where a sample has fewer."""
        kept = (self.age < count).nonzero().squeeze(1)
        flat = values_EW.new_zeros(self.size * count, *values_EW.shape[1:])
        places = self.sample[kept] * count + self.age[kept]
        return flat.index_copy(0, places, values_EW.index_select(0, kept)).unflatten(0, (self.size, count))
