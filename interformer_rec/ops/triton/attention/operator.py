"""Jagged multi-head attention, forward and backward: (J, 2, H, C) queries and keys and (J, H, C) values -> (J, H, C).

Rotary turns by age, then flash attention with an optional window; forward.py says what is computed. Works on CUDA tensors, and
on CPU tensors under the interpreter. Never run on a GPU yet.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from interformer_rec.ops.triton.attention.backward import attention_backward, delta_of
from interformer_rec.ops.triton.attention.forward import attention_forward
from interformer_rec.ops.triton.launch import check, require, rows_contiguous
from interformer_rec.ops.triton.rotary import rotate_forward, table_for


class Form(NamedTuple):
    """What kind of attention: CLS tokens a sample, the window (None: all), the longest sample in tokens, the rotary base."""

    cls: int
    window: int | None
    max_length: int
    base: float = 10_000.0


def jagged_attention_forward(
    qk_J2HC: Tensor,
    v_JHC: Tensor,
    offsets_B1: Tensor,
    ages_J: Tensor | None,
    form: Form,
) -> tuple[Tensor, Tensor, Tensor]:
    """-> output (J, H, C), log-sum-exps (H, J), turned queries and keys (J, 2, H, C); the last two for the backward.

    `ages` (J,) integers below `max_length`, below 0 for CLS tokens; None: nothing turns. Last axes contiguous, or copied.
    Raises InputError for shapes or dtypes that do not fit each other.
    """
    require("jagged attention", qk=qk_J2HC, v=v_JHC)
    shape = (v_JHC.shape[0], 2, *v_JHC.shape[1:])
    check(
        qk_J2HC.shape == shape and v_JHC.shape[2] % 2 == 0 and v_JHC.shape[2] <= 256,
        lambda: (
            f"jagged attention: queries and keys {tuple(qk_J2HC.shape)} for values {tuple(v_JHC.shape)}; they have to be "
            f"{shape}, the channels a head even and at most 256: change model.d or model.heads"
        ),
    )
    qk = rows_contiguous(qk_J2HC)
    if ages_J is not None:
        qk = rotate_forward(qk, ages_J, form.max_length, form.base)
    out, lse = attention_forward(qk, rows_contiguous(v_JHC), offsets_B1, cls=form.cls, window=form.window)
    return out, lse, qk


def jagged_attention_backward(
    grad_JHC: Tensor,
    turned_J2HC: Tensor,
    v_JHC: Tensor,
    offsets_B1: Tensor,
    ages_J: Tensor | None,
    out_JHC: Tensor,
    lse_HJ: Tensor,
    form: Form,
) -> tuple[Tensor, Tensor]:
    """Gradients of queries and keys (J, 2, H, C) and of values (J, H, C)."""
    grad = rows_contiguous(grad_JHC)
    turned = None
    if ages_J is not None:
        turned = (ages_J, table_for(form.max_length, v_JHC.shape[2], form.base, v_JHC.device))
    return attention_backward(
        *(grad, delta_of(grad, out_JHC), turned_J2HC, rows_contiguous(v_JHC), lse_HJ, offsets_B1, turned),
        cls=form.cls,
        window=form.window,
    )
