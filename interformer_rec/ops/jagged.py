"""Jagged layouts: (B,) lengths come in; an index plan to prepend, pad, unpad and pick tokens goes out, computed once a batch.

Legend: B samples, c CLS tokens a sample, E events in all, J = E + B * c tokens in all, N slots of the padded form.

    lengths 2, 0, 1 and c = 1     tokens of a sample: its CLS tokens, then its events, oldest first
    values_J    C a b | C | C d   token_offsets 0 3 4 6
    buckets     [C] [[C d]] [[C a b]]   samples by length, each bucket padded to its own longest, at most MAX_BUCKETS

Every token has exactly one slot, so padding and unpadding, and their gradients, are gathers: no scatter-add anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

MAX_BUCKETS = 8
BUCKET_COST = 256  # slots that one more bucket must save to be worth its kernel launches
_CANDIDATES = 64  # widths the plan chooses from; more would not lower the waste by much


def offsets_of(lengths: Tensor) -> Tensor:
    """(B,) lengths -> (B + 1,) offsets, int64."""
    offsets = lengths.new_zeros(lengths.numel() + 1, dtype=torch.int64)
    torch.cumsum(lengths, 0, out=offsets[1:])
    return offsets


def plan_buckets(widths: Sequence[int], max_buckets: int = MAX_BUCKETS) -> list[tuple[int, int]]:
    """Ascending widths of B samples -> (samples, width) a bucket, the cheapest division: dynamic programming over widths.

    A bucket costs samples x width + BUCKET_COST. With many different widths the ends of buckets are chosen among quantiles.
    """
    total = len(widths)
    ends = [i + 1 for i in range(total) if i + 1 == total or widths[i + 1] > widths[i]]
    if len(ends) > _CANDIDATES:
        ends = [ends[(i + 1) * len(ends) // _CANDIDATES - 1] for i in range(_CANDIDATES)]
    starts = torch.tensor([0, *ends[:-1]], dtype=torch.float64)
    ends_f = torch.tensor(ends, dtype=torch.float64)
    width = torch.tensor([widths[end - 1] for end in ends], dtype=torch.float64)
    # cost[i, j]: one bucket from candidate i to candidate j, both included
    cost = ((ends_f[None, :] - starts[:, None]) * width[None, :] + BUCKET_COST).masked_fill(
        torch.ones(len(ends), len(ends), dtype=torch.bool).tril(-1), float("inf")
    )
    best, choices = cost[0], [torch.zeros(len(ends), dtype=torch.int64)]
    rounds = [best]
    for _ in range(min(max_buckets, len(ends)) - 1):
        before = torch.cat([best.new_tensor([float("inf")]), best[:-1]])  # best division that ends just before i
        best, choice = (before[:, None] + cost).min(0)
        rounds.append(best)
        choices.append(choice)
    used = int(torch.stack([row[-1] for row in rounds]).argmin())
    plan, last = [], len(ends) - 1
    for step in range(used, -1, -1):
        first = int(choices[step][last])
        begin = ends[first - 1] if first else 0
        plan.append((ends[last] - begin, int(widths[ends[last] - 1])))
        last = first - 1
    return plan[::-1]


class _Gather(torch.autograd.Function):
    """x[index], whose gradient is grad[inverse] with the rows `holes` zero: for an index that takes each row once.

    Rows that `index` takes again only fill padding; their gradient is dropped, because nothing reads padding.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, inverse: Tensor, holes: Tensor | None) -> Tensor:
        ctx.save_for_backward(inverse, holes)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        inverse, holes = ctx.saved_tensors
        grad = grad.index_select(0, inverse)
        return (grad if holes is None else grad.index_fill_(0, holes, 0)), None, None, None


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
    """x at `rows` (each once) put at `places` of a tensor of zeros with `total` rows; the gradient puts them back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, places: Tensor | None, total: int) -> Tensor:
        ctx.save_for_backward(rows, places)
        ctx.size = x.shape[0]
        taken = x.index_select(0, rows)
        return taken if places is None else x.new_zeros(total, *x.shape[1:]).index_copy_(0, places, taken)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        rows, places = ctx.saved_tensors
        grad = grad if places is None else grad.index_select(0, places)
        return grad.new_zeros(ctx.size, *grad.shape[1:]).index_copy_(0, rows, grad.contiguous()), None, None, None


def place_rows(values_E: Tensor, rows: Tensor, total: int) -> Tensor:
    """(E, ...) -> (total, ...): row i goes to `rows[i]` (all different), the others are zero."""
    return _Place.apply(values_E, rows, total)


def gather_rows(values_E: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
    """values_E[index] for a permutation and its inverse."""
    return _Gather.apply(values_E, index, inverse, None)


class JaggedLayout:
    """Where the tokens of B samples lie: c CLS tokens, then `lengths[i]` events.

    `lengths` are (B,) integers >= 0; c >= 1, so that no sample is without a token. `parts_BG`, where events of G groups
    follow each other inside a sample, holds their (B, G) counts: ages count inside a group. The plan is made on the
    host: on a GPU a layout costs a few synchronisations a batch, whatever the number of layers.
    """

    def __init__(self, lengths: Tensor, cls: int, parts_BG: Tensor | None = None) -> None:
        if cls < 1:
            raise ValueError(f"a layout needs at least 1 CLS token, not {cls}")
        self.cls = cls
        self.lengths = lengths.to(torch.int64)
        self.parts_BG = self.lengths[:, None] if parts_BG is None else parts_BG.to(torch.int64)
        self.batch_size = lengths.numel()
        self.tokens = self.lengths + cls
        self.token_offsets = offsets_of(self.tokens)
        sorted_tokens, self.order = self.tokens.sort(stable=True)
        host = sorted_tokens.tolist()
        self.total = sum(host)  # J
        self.plan = plan_buckets(host)
        self._plan_slots(sorted_tokens)

    def _plan_slots(self, sorted_tokens: Tensor) -> None:
        device, size = self.lengths.device, self.batch_size
        counts = torch.tensor([rows for rows, _ in self.plan], device=device)
        widths = torch.tensor([width for _, width in self.plan], device=device).repeat_interleave(
            counts, output_size=size
        )
        self.inverse_order = torch.empty_like(self.order).index_copy_(0, self.order, torch.arange(size, device=device))
        slots = sum(rows * width for rows, width in self.plan)
        starts = offsets_of(widths)[:-1]
        position = torch.arange(slots, device=device) - starts.repeat_interleave(widths, output_size=slots)
        last = (sorted_tokens - 1).repeat_interleave(widths, output_size=slots)
        first_row = self.token_offsets[self.order].repeat_interleave(widths, output_size=slots)
        self.valid_slots = position <= last  # (N,)
        self.row_of_slot = first_row + torch.minimum(position, last)  # a padding slot repeats its sample's last token
        shift = starts[self.inverse_order] - self.token_offsets[:-1]
        self.slot_of_row = self._per_token(shift) + torch.arange(self.total, device=device)
        self.holes = None if slots == self.total else (~self.valid_slots).nonzero().squeeze(1)

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
        return self.is_event.nonzero().squeeze(1)

    @cached_property
    def ages(self) -> Tensor:
        """(J,) events: 0 for the newest of its group, 1 for the one before, ...; CLS tokens: -1."""
        ends = self.cls + self.parts_BG.cumsum(1)  # (B, G)
        ages = torch.full_like(self.position, -1)
        for end_B in reversed(ends.unbind(1)):
            end = self._per_token(end_B)
            ages = torch.where(self.is_event & (self.position < end), end - 1 - self.position, ages)
        return ages

    @cached_property
    def masks(self) -> list[Tensor | None]:
        """(samples, width) bool for each bucket, True at tokens; None where nothing is padded."""
        sizes = [rows * width for rows, width in self.plan]
        masks = [m.view(shape) for m, shape in zip(self.valid_slots.split(sizes), self.plan, strict=True)]
        exact = torch.stack([m.all() for m in masks]).tolist()
        return [None if full else m for m, full in zip(masks, exact, strict=True)]

    @cached_property
    def event_bias(self) -> list[Tensor]:
        """(samples, width) float32 for each bucket: 0 at events, hugely negative at CLS tokens and padding; added to scores."""
        hidden = torch.finfo(torch.bfloat16).min  # finite in every dtype we train in
        bias = torch.zeros(self.valid_slots.shape, device=self.lengths.device)
        bias.masked_fill_(~(self.valid_slots & self.is_event[self.row_of_slot]), hidden)
        parts = bias.split([rows * width for rows, width in self.plan])
        return [part.view(shape) for part, shape in zip(parts, self.plan, strict=True)]

    def prepend(self, cls_BcD: Tensor, events_ED: Tensor) -> Tensor:
        """(B, c, d) and (E, d) -> (J, d)."""
        both = torch.cat([cls_BcD.flatten(0, 1), events_ED])
        cls_rows = self.token_offsets[:-1, None] + torch.arange(self.cls, device=both.device)
        inverse = torch.cat([cls_rows.flatten(), self.event_rows])  # row of each row of `both`
        index = torch.empty_like(inverse).index_copy_(0, inverse, torch.arange(self.total, device=both.device))
        return _Gather.apply(both, index, inverse, None)

    def pad(self, values_J: Tensor) -> list[Tensor]:
        """(J, ...) -> (samples, width, ...) a bucket. Padding holds copies of real tokens: mask it or drop it."""
        flat = _Gather.apply(values_J, self.row_of_slot, self.slot_of_row, None)
        parts = flat.split([rows * width for rows, width in self.plan])
        return [part.view(*shape, *values_J.shape[1:]) for part, shape in zip(parts, self.plan, strict=True)]

    def unpad(self, parts: list[Tensor]) -> Tensor:
        """The inverse of `pad`: (samples, width, ...) a bucket -> (J, ...)."""
        flat = parts[0].flatten(0, 1) if len(parts) == 1 else torch.cat([part.flatten(0, 1) for part in parts])
        return _Gather.apply(flat, self.slot_of_row, self.row_of_slot, self.holes)

    def bucket(self, values_B: Tensor) -> list[Tensor]:
        """(B, ...) in the batch's order -> (samples, ...) a bucket."""
        permuted = _Gather.apply(values_B, self.order, self.inverse_order, None)
        return list(permuted.split([rows for rows, _ in self.plan]))

    def unbucket(self, parts: list[Tensor]) -> Tensor:
        """The inverse of `bucket`."""
        return _Gather.apply(torch.cat(parts), self.inverse_order, self.order, None)

    def take_summary(self, values_J: Tensor, recent: int) -> Tensor:
        """(J, d) -> (B, c + G * recent, d): the CLS tokens, then each group's newest events, newest first; zeros where missing."""
        rows, places, total = self._summary_rows(recent)
        taken = _Take.apply(values_J, rows, places, total)
        return taken.view(self.batch_size, -1, *values_J.shape[1:])

    def _summary_rows(self, recent: int) -> tuple[Tensor, Tensor | None, int]:
        cached = self.__dict__.setdefault("_summary_rows_cache", {})
        if recent not in cached:
            device = self.lengths.device
            wanted = [torch.arange(self.cls, device=device).expand(self.batch_size, -1)]
            exists = [torch.ones_like(wanted[0], dtype=torch.bool)]
            back = torch.arange(recent, device=device)
            for count, end in zip(self.parts_BG.unbind(1), (self.cls + self.parts_BG.cumsum(1)).unbind(1), strict=True):
                wanted.append(end[:, None] - 1 - back)
                exists.append(back < count[:, None])
            rows = (self.token_offsets[:-1, None] + torch.cat(wanted, 1)).flatten()
            places = torch.cat(exists, 1).flatten().nonzero().squeeze(1)
            complete = places.numel() == rows.numel()
            cached[recent] = (rows, None, rows.numel()) if complete else (rows[places], places, rows.numel())
        return cached[recent]
