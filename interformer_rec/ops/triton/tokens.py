"""CLS tokens and events become one jagged tensor, and the summary's tokens are taken out of it: copies, each row written once.

    prepend       (B, c, d) CLS tokens and (E, d) events -> (J, d): each sample's CLS tokens, then its events
    take_summary  (J, d) -> (B, c + G * recent, d): the CLS tokens, then the newest events of each of G groups, newest first

`offsets` (B + 1,) count tokens, CLS included; `ends` (B, G) are the positions in the sample where its groups end. A group that has
fewer than `recent` events leaves zeros. Same as JaggedLayout's methods, without index tensors. Never run on a GPU yet.
"""

# mypy: disable-error-code="no-untyped-def, valid-type, attr-defined"
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from interformer_rec.ops.triton.launch import launch, rows_contiguous
from interformer_rec.ops.triton.tiles import locate, store_tile, tiles

_ROWS = 32


@triton.jit(do_not_specialize=["samples"])
def prepend_kernel(first, events, tokens, offsets, samples, CLS: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr,
                   ROWS: tl.constexpr, BACK: tl.constexpr):  # fmt: skip
    """One program: a tile of one sample's tokens, from the two parts, or BACK into them."""
    sample, start, length, position = locate(offsets, tl.program_id(0), samples, ROWS)
    if position >= length:
        return
    row = position + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK_D)[None, :]
    is_cls = (row < CLS)[:, None] & (column < D)
    is_event = ((row >= CLS) & (row < length))[:, None] & (column < D)
    one = first + sample.to(tl.int64) * CLS * D + row[:, None] * D + column
    # before this sample's events lie all tokens before it, less the CLS tokens of the samples before it
    other = events + (start - sample.to(tl.int64) * CLS) * D + (row[:, None] - CLS) * D + column
    both = tokens + start * D + row[:, None] * D + column
    if BACK:
        values = tl.load(both, mask=is_cls | is_event, other=0.0)
        tl.store(one, values, mask=is_cls)
        tl.store(other, values, mask=is_event)
    else:
        values = tl.load(one, mask=is_cls, other=0.0) + tl.load(other, mask=is_event, other=0.0)
        tl.store(both, values, mask=is_cls | is_event)


@triton.jit
def take_summary_kernel(values, out, offsets, ends, row_stride, CLS: tl.constexpr, GROUPS: tl.constexpr,
                        RECENT: tl.constexpr, D: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_D: tl.constexpr):  # fmt: skip
    """One program: one sample's summary."""
    sample = tl.program_id(0).to(tl.int64)
    start = tl.load(offsets + sample).to(tl.int64)
    slot = tl.arange(0, BLOCK_S)
    column = tl.arange(0, BLOCK_D)[None, :]
    position = tl.where(slot < CLS, slot, -1)
    begin = CLS
    for group in tl.static_range(GROUPS):
        end = tl.load(ends + sample * GROUPS + group).to(tl.int32)
        back = slot - CLS - group * RECENT
        position = tl.where((back >= 0) & (back < RECENT) & (back < end - begin), end - 1 - back, position)
        begin = end
    pointers = values + start * row_stride + position[:, None] * row_stride + column
    taken = tl.load(pointers, mask=(position >= 0)[:, None] & (column < D), other=0.0)
    slots = CLS + GROUPS * RECENT
    store_tile(out + sample * slots * D, slot, D, slots, tl.arange(0, BLOCK_D), D, taken)


@triton.jit(do_not_specialize=["samples"])
def put_summary_kernel(grad, out, offsets, ends, samples, CLS: tl.constexpr, GROUPS: tl.constexpr,
                       RECENT: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, ROWS: tl.constexpr):  # fmt: skip
    """One program: a tile of one sample's tokens; each reads the slot it was taken to, or nothing."""
    sample, start, length, first = locate(offsets, tl.program_id(0), samples, ROWS)
    if first >= length:
        return
    here = sample.to(tl.int64)
    row = first + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK_D)
    slot = tl.where(row < CLS, row, -1)
    begin = CLS
    for group in tl.static_range(GROUPS):
        end = tl.load(ends + here * GROUPS + group).to(tl.int32)
        back = end - 1 - row
        slot = tl.where((row >= begin) & (back >= 0) & (back < RECENT), CLS + group * RECENT + back, slot)
        begin = end
    pointers = grad + here * (CLS + GROUPS * RECENT) * D + slot[:, None] * D + column[None, :]
    values = tl.load(pointers, mask=(slot >= 0)[:, None] & (column < D)[None, :], other=0.0)
    store_tile(out + start * D, row, D, length, column, D, values)


def _prepend(cls_BCD: Tensor, events_ED: Tensor, tokens_JD: Tensor, offsets_B1: Tensor, back: bool) -> None:
    samples, cls, width = cls_BCD.shape
    launch(
        prepend_kernel,
        (tiles(tokens_JD.shape[0], samples, _ROWS) if tokens_JD.shape[0] else 0,),
        *(cls_BCD, events_ED, tokens_JD, offsets_B1, samples),
        CLS=cls,
        D=width,
        BLOCK_D=triton.next_power_of_2(width),
        ROWS=_ROWS,
        BACK=back,
    )


def prepend_forward(cls_BCD: Tensor, events_ED: Tensor, offsets_B1: Tensor) -> Tensor:
    """(B, c, d), (E, d) and token offsets (B + 1,) -> (B * c + E, d)."""
    samples, cls, width = cls_BCD.shape
    out = events_ED.new_empty(samples * cls + events_ED.shape[0], width)
    _prepend(cls_BCD.to(events_ED.dtype).contiguous(), events_ED.contiguous(), out, offsets_B1, False)
    return out


def prepend_backward(grad_JD: Tensor, cls: int, offsets_B1: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the CLS tokens (B, c, d) and the events (E, d)."""
    samples, (rows, width) = offsets_B1.numel() - 1, grad_JD.shape
    grad_cls, grad_events = grad_JD.new_empty(samples, cls, width), grad_JD.new_empty(rows - samples * cls, width)
    _prepend(grad_cls, grad_events, grad_JD.contiguous(), offsets_B1, True)
    return grad_cls, grad_events


def take_summary_forward(values_JD: Tensor, offsets_B1: Tensor, ends_BG: Tensor, *, cls: int, recent: int) -> Tensor:
    """(J, d) -> (B, c + G * recent, d)."""
    values, (samples, groups) = rows_contiguous(values_JD), ends_BG.shape
    slots, width = cls + groups * recent, values.shape[1]
    out = values.new_empty(samples, slots, width)
    launch(
        take_summary_kernel,
        (samples,),
        *(values, out, offsets_B1, ends_BG.contiguous(), values.stride(0)),
        CLS=cls,
        GROUPS=groups,
        RECENT=recent,
        D=width,
        BLOCK_S=triton.next_power_of_2(slots),
        BLOCK_D=triton.next_power_of_2(width),
    )
    return out


def take_summary_backward(
    grad_BSD: Tensor, rows: int, offsets_B1: Tensor, ends_BG: Tensor, *, cls: int, recent: int
) -> Tensor:
    """(B, c + G * recent, d) -> (rows, d), zeros where nothing was taken."""
    (samples, groups), width = ends_BG.shape, grad_BSD.shape[2]
    out = grad_BSD.new_empty(rows, width)
    launch(
        put_summary_kernel,
        (tiles(rows, samples, _ROWS) if rows else 0,),
        *(grad_BSD.contiguous(), out, offsets_B1, ends_BG.contiguous(), samples),
        CLS=cls,
        GROUPS=groups,
        RECENT=recent,
        D=width,
        BLOCK_D=triton.next_power_of_2(width),
        ROWS=_ROWS,
    )
    return out


class Prepend(torch.autograd.Function):
    """apply(cls (B, c, d), events (E, d), offsets)."""

    @staticmethod
    def forward(ctx: Any, cls: Tensor, events: Tensor, offsets: Tensor) -> Tensor:
        """All tokens (J, d)."""
        ctx.save_for_backward(offsets)
        ctx.cls = cls.shape[1]
        return prepend_forward(cls, events, offsets)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Gradients of both parts."""
        return *prepend_backward(grad, ctx.cls, *ctx.saved_tensors), None


class TakeSummary(torch.autograd.Function):
    """apply(values (J, d), offsets, ends (B, G), cls, recent)."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, offsets: Tensor, ends: Tensor, cls: int, recent: int) -> Tensor:
        """The summary's tokens (B, c + G * recent, d)."""
        ctx.save_for_backward(offsets, ends)
        ctx.rows, ctx.options = values.shape[0], {"cls": cls, "recent": recent}
        return take_summary_forward(values, offsets, ends, **ctx.options)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """The tokens' gradient (J, d)."""
        return take_summary_backward(grad, ctx.rows, *ctx.saved_tensors, **ctx.options), None, None, None, None
