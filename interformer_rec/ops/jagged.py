"""Jagged layouts: (B,) lengths come in; where each sample's tokens lie goes out, and tokens are prepended and picked, once a batch.

Legend: B samples, c CLS tokens a sample, E events in all, J = E + B * c tokens in all, G groups of events in a sample.

    lengths 2, 0, 1 and c = 1     tokens of a sample: its CLS tokens, then its events, oldest first
    values_J    C a b | C | C d   token_offsets 0 3 4 6

Each row is written once, forward and backward: gathers and copies, no scatter-add anywhere.
"""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from interformer_rec.ops.backend import HAS_TRITON, IN_GRAPHS, runs, takes_row_kernels
from interformer_rec.ops.padding.buckets import Buckets, Gather, offsets_of
from interformer_rec.ops.padding.windowed import WindowMask, window_mask
from interformer_rec.ops.pooling import segment_pool

if HAS_TRITON:
    from interformer_rec.ops.triton.tokens import Prepend, TakeSummary


class _Place(torch.autograd.Function):
    """Rows of x at `rows` (each once) of a tensor of zeros with `total` rows; the gradient gathers them back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, total: int) -> Tensor:
        ctx.save_for_backward(rows)
        return x.new_zeros(total, *x.shape[1:]).index_copy_(0, rows, x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (rows,) = ctx.saved_tensors
        return grad.index_select(0, rows), None, None


class _Take(torch.autograd.Function):
    """x at `rows` (each once); the gradient puts them back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.size = x.shape[0]
        return x.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (rows,) = ctx.saved_tensors
        return grad.new_zeros(ctx.size, *grad.shape[1:]).index_copy_(0, rows, grad.contiguous()), None


def place_rows(values_E: Tensor, rows: Tensor, total: int) -> Tensor:
    """(E, ...) -> (total, ...): row i goes to `rows[i]` (all different), the others are zero."""
    return _Place.apply(values_E, rows, total)


@runs(**IN_GRAPHS)
def take_rows(values_E: Tensor, rows: Tensor) -> Tensor:
    """values_E[rows]; the rows are all different."""
    return _Take.apply(values_E, rows)


def gather_rows(values_E: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
    """values_E[index] for a permutation and its inverse."""
    return Gather.apply(values_E, index, inverse, None)


class JaggedLayout:
    """Where the tokens of B samples lie: c CLS tokens, then `lengths[i]` events.

    `lengths` are (B,) integers >= 0; c >= 1, so that no sample is without a token. `parts_BG`, where events of G groups
    follow each other inside a sample, holds their (B, G) counts: ages count inside a group. `events`: the sum of the lengths,
    where the caller knows it; else the host asks the device. Nothing here waits for a GPU but that and `buckets`.
    """

    def __init__(self, lengths: Tensor, cls: int, parts_BG: Tensor | None = None, events: int | None = None) -> None:
        if cls < 1:
            raise ValueError(f"a layout needs at least 1 CLS token, not {cls}")
        self.cls = cls
        self.lengths = lengths.to(torch.int64)
        self.parts_BG = self.lengths[:, None] if parts_BG is None else parts_BG.to(torch.int64)
        self.batch_size = lengths.numel()
        self.tokens = self.lengths + cls
        self.token_offsets = offsets_of(self.tokens)
        self.events = int(self.lengths.sum()) if events is None else events  # E
        self.total = self.events + self.batch_size * cls  # J

    @cached_property
    def buckets(self) -> Buckets:
        """How the tokens are padded where an operator needs that."""
        return Buckets(self.tokens, self.token_offsets, self.total)

    def _per_token(self, values_B: Tensor) -> Tensor:
        return values_B.repeat_interleave(self.tokens, output_size=self.total)

    @cached_property
    def position(self) -> Tensor:
        """(J,) place of a token in its sample; the CLS tokens are 0 .. c - 1."""
        arange = torch.arange(self.total, device=self.lengths.device)
        return arange - self._per_token(self.token_offsets[:-1])

    @cached_property
    def is_event(self) -> Tensor:
        """(J,) bool: not a CLS token."""
        return self.position >= self.cls

    @cached_property
    def event_rows(self) -> Tensor:
        """(E,) rows of the events among the tokens."""
        sample = torch.arange(self.batch_size, device=self.lengths.device)
        sample = sample.repeat_interleave(self.lengths, output_size=self.events)
        return torch.arange(self.events, device=self.lengths.device) + (sample + 1) * self.cls

    @cached_property
    def group_ends(self) -> Tensor:
        """(B, G) positions in the sample at which its groups of events end."""
        return self.cls + self.parts_BG.cumsum(1)

    @cached_property
    def ages(self) -> Tensor:
        """(J,) events: 0 for the newest of its group, 1 for the one before, ...; CLS tokens: -1."""
        ages = torch.full_like(self.position, -1)
        for end_B in reversed(self.group_ends.unbind(1)):
            end = self._per_token(end_B)
            ages = torch.where(self.is_event & (self.position < end), end - 1 - self.position, ages)
        return ages

    @cached_property
    def event_bias(self) -> list[Tensor]:
        """(samples, width) float32 for each bucket: 0 at events, hugely negative at CLS tokens and padding; added to scores."""
        hidden = torch.finfo(torch.bfloat16).min  # finite in every dtype we train in
        plan = self.buckets
        bias = torch.zeros(plan.valid_slots.shape, device=self.lengths.device)
        bias.masked_fill_(~(plan.valid_slots & self.is_event[plan.row_of_slot]), hidden)
        return plan.split(bias)

    def window_masks(self, window: int, like: Tensor) -> list[WindowMask]:
        """What tokens see with a window, for each bucket, in the dtype of `like`; the same for all layers."""
        cached = self.__dict__.setdefault("_window_masks_cache", {})
        key = window, like.dtype
        if key not in cached:
            parts = zip(self.buckets.plan, self.buckets.masks, strict=True)
            cached[key] = [window_mask(mask, shape, self.cls, window, like) for shape, mask in parts]
        return cached[key]

    @runs(kernel=True, **IN_GRAPHS)
    def prepend(self, cls_BcD: Tensor, events_ED: Tensor) -> Tensor:
        """(B, c, d) and (E, d) -> (J, d)."""
        if takes_row_kernels(events_ED):
            return Prepend.apply(cls_BcD, events_ED, self.token_offsets)
        both = torch.cat([cls_BcD.flatten(0, 1), events_ED])
        cls_rows = self.token_offsets[:-1, None] + torch.arange(self.cls, device=both.device)
        inverse = torch.cat([cls_rows.flatten(), self.event_rows])  # row of each row of `both`
        index = torch.empty_like(inverse).index_copy_(0, inverse, torch.arange(self.total, device=both.device))
        return Gather.apply(both, index, inverse, None)

    def mean(self, events_ED: Tensor) -> Tensor:
        """(E, d) -> (B, d): of the events; zeros where there is none."""
        return segment_pool(events_ED, self.lengths, "mean")

    @runs(kernel=True)
    def take_summary(self, values_J: Tensor, recent: int) -> Tensor:
        """(J, d) -> (B, c + G * recent, d): the CLS tokens, then each group's newest events, newest first; zeros where missing."""
        if takes_row_kernels(values_J):
            return TakeSummary.apply(values_J, self.token_offsets, self.group_ends, self.cls, recent)
        rows, places, total = self._summary_rows(recent)
        taken = take_rows(values_J, rows)
        taken = taken if places is None else place_rows(taken, places, total)
        return taken.view(self.batch_size, -1, *values_J.shape[1:])

    def _summary_rows(self, recent: int) -> tuple[Tensor, Tensor | None, int]:
        cached = self.__dict__.setdefault("_summary_rows_cache", {})
        if recent not in cached:
            device = self.lengths.device
            wanted = [torch.arange(self.cls, device=device).expand(self.batch_size, -1)]
            exists = [torch.ones_like(wanted[0], dtype=torch.bool)]
            back = torch.arange(recent, device=device)
            for count, end in zip(self.parts_BG.unbind(1), self.group_ends.unbind(1), strict=True):
                wanted.append(end[:, None] - 1 - back)
                exists.append(back < count[:, None])
            rows = (self.token_offsets[:-1, None] + torch.cat(wanted, 1)).flatten()
            places = torch.cat(exists, 1).flatten().nonzero().squeeze(1)
            complete = places.numel() == rows.numel()
            cached[recent] = (rows, None, rows.numel()) if complete else (rows[places], places, rows.numel())
        return cached[recent]
