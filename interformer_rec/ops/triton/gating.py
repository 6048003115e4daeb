"""Element-wise gates after a product: rows x and what a linear map made of them come in; the gated rows go out, in one pass.

    swish  x * sigmoid(gate)      the Gating of the summaries
    mask   x * (gate + bias)      MaskNet's S_cat * MLP_mask(S_cat), whose products are left to cuBLAS

The backward makes both gradients in one pass (and the bias's, summed by program, then over programs). Never run on a GPU yet.
"""

# mypy: disable-error-code="no-untyped-def, valid-type, attr-defined"
from __future__ import annotations

from typing import Any, Literal

import torch
import triton
import triton.language as tl
from torch import Tensor

from interformer_rec.ops.triton.launch import check, launch, programs, require
from interformer_rec.ops.triton.tiles import load_tile, store_tile

Kind = Literal["swish", "mask"]
_ROWS = 16
_COLUMNS = 256


@triton.jit
def gate_forward_kernel(x, gate, bias, out, rows, D: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
                        SWISH: tl.constexpr):  # fmt: skip
    """One program: ROWS rows, COLUMNS columns."""
    first = tl.program_id(0).to(tl.int64) * ROWS
    row = tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    x_tile = load_tile(x + first * D, row, D, rows - first, column, D, True, D % COLUMNS != 0).to(tl.float32)
    gate_tile = load_tile(gate + first * D, row, D, rows - first, column, D, True, D % COLUMNS != 0).to(tl.float32)
    if SWISH:
        gate_tile = tl.sigmoid(gate_tile)
    else:
        gate_tile += tl.load(bias + column, mask=column < D, other=0.0).to(tl.float32)[None, :]
    store_tile(out + first * D, row, D, rows - first, column, D, x_tile * gate_tile)


@triton.jit
def gate_backward_kernel(x, gate, bias, grad, dx, dgate, dbias, rows, D: tl.constexpr, ROWS: tl.constexpr,
                         COLUMNS: tl.constexpr, SWISH: tl.constexpr):  # fmt: skip
    """One program: every num_programs-th block of ROWS rows of COLUMNS columns; its own sum of the bias's gradient, (programs, D)."""
    row = tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    sums = tl.zeros((COLUMNS,), tl.float32)
    for tile in range(tl.program_id(0), tl.cdiv(rows, ROWS), tl.num_programs(0)):
        first = tl.cast(tile, tl.int64) * ROWS
        left = rows - first
        x_tile = load_tile(x + first * D, row, D, left, column, D, True, D % COLUMNS != 0).to(tl.float32)
        gate_tile = load_tile(gate + first * D, row, D, left, column, D, True, D % COLUMNS != 0).to(tl.float32)
        g = load_tile(grad + first * D, row, D, left, column, D, True, D % COLUMNS != 0).to(tl.float32)
        along = g * x_tile
        if SWISH:
            gate_tile = tl.sigmoid(gate_tile)
            along = along * gate_tile * (1.0 - gate_tile)
        else:
            gate_tile += tl.load(bias + column, mask=column < D, other=0.0).to(tl.float32)[None, :]
            sums += tl.sum(along, 0)
        store_tile(dx + first * D, row, D, left, column, D, g * gate_tile)
        store_tile(dgate + first * D, row, D, left, column, D, along)
    if not SWISH:
        tl.store(dbias + tl.program_id(0) * D + column, sums, mask=column < D)


def gate_forward(x: Tensor, gate: Tensor, bias: Tensor | None, kind: Kind) -> Tensor:
    """(..., d) rows, a gate of the same shape and, for "mask", a bias (d,) -> (..., d). Raises InputError for other shapes."""
    require("gating", x=x, gate=gate)
    check(
        x.shape == gate.shape and (bias is not None) == (kind == "mask"),
        lambda: (
            f"gating: rows {tuple(x.shape)} and gate {tuple(gate.shape)} of kind {kind!r}; the shapes have to be the same, and "
            "a bias belongs to the kind 'mask'"
        ),
    )
    flat, width = x.contiguous(), x.shape[-1]
    out = torch.empty_like(flat)
    rows = flat.numel() // width
    columns = min(_COLUMNS, triton.next_power_of_2(width))
    launch(
        gate_forward_kernel,
        (triton.cdiv(rows, _ROWS), triton.cdiv(width, columns)),
        *(flat, gate.contiguous(), flat if bias is None else bias, out, rows),
        D=width,
        ROWS=_ROWS,
        COLUMNS=columns,
        SWISH=kind == "swish",
    )
    return out


def gate_backward(
    grad: Tensor, x: Tensor, gate: Tensor, bias: Tensor | None, kind: Kind
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of the rows (..., d), the gate (..., d) and the bias (d,)."""
    flat, width = x.contiguous(), x.shape[-1]
    rows = flat.numel() // width
    dx, dgate = torch.empty_like(flat), torch.empty_like(flat)
    columns = min(_COLUMNS, triton.next_power_of_2(width))
    grid = min(programs(x.device), triton.cdiv(rows, _ROWS))
    sums = torch.empty(grid, width, dtype=torch.float32, device=x.device)
    launch(
        gate_backward_kernel,
        (grid, triton.cdiv(width, columns)),
        *(flat, gate.contiguous(), flat if bias is None else bias, grad.contiguous(), dx, dgate, sums, rows),
        D=width,
        ROWS=_ROWS,
        COLUMNS=columns,
        SWISH=kind == "swish",
    )
    return dx, dgate, None if bias is None else sums.sum(0).to(bias.dtype)


class Gate(torch.autograd.Function):
    """apply(x, gate, bias, kind)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gate: Tensor, bias: Tensor | None, kind: Kind) -> Tensor:
        """The gated rows."""
        ctx.save_for_backward(x, gate, bias)
        ctx.kind = kind
        return gate_forward(x, gate, bias, kind)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Gradients of the rows, the gate and the bias."""
        x, gate, bias = ctx.saved_tensors
        return *gate_backward(grad, x, gate, bias, ctx.kind), None
