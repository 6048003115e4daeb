"""Forward and backward kernels as one differentiable step each, with a cut to choose: small tiles reach every branch.

In the model ops/library.py makes them differentiable, with the default cuts.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from interformer_rec.ops.triton.attention.operator import Form, jagged_attention_backward, jagged_attention_forward
from interformer_rec.ops.triton.launch import Blocks
from interformer_rec.ops.triton.per_sample_ffn.backward import per_sample_ffn_backward
from interformer_rec.ops.triton.per_sample_ffn.forward import per_sample_ffn_forward
from interformer_rec.ops.triton.pooling import attention_pool_backward, attention_pool_forward


class JaggedAttention(torch.autograd.Function):
    """apply(qk, v, offsets, ages, form)."""

    @staticmethod
    def forward(ctx: Any, qk: Tensor, v: Tensor, offsets: Tensor, ages: Tensor | None, form: Form) -> Tensor:
        out, lse, turned = jagged_attention_forward(qk, v, offsets, ages, form)
        ctx.save_for_backward(turned, v, offsets, ages, out, lse)
        ctx.form = form
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        return *jagged_attention_backward(grad, *ctx.saved_tensors, ctx.form), None, None, None


class AttentionPool(torch.autograd.Function):
    """apply(maps, values, offsets, cls, cut)."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, values: Tensor, offsets: Tensor, cls: int, cut: Blocks | None = None) -> Tensor:
        out, lse = attention_pool_forward(maps, values, offsets, cls=cls, blocks=cut)
        ctx.save_for_backward(maps, values, offsets, out, lse)
        ctx.options = {"cls": cls, "blocks": cut}
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        return *attention_pool_backward(grad, *ctx.saved_tensors, **ctx.options), None, None, None


class PerSampleFFN(torch.autograd.Function):
    """apply(values, w1, w2, offsets, forward's cut, backward's cuts)."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        w1: Tensor,
        w2: Tensor,
        offsets: Tensor,
        cut: Blocks | None = None,
        cuts: tuple[Blocks, Blocks] | None = None,
    ) -> Tensor:
        ctx.save_for_backward(values, w1, w2, offsets)
        ctx.cuts = cuts
        return per_sample_ffn_forward(values, w1, w2, offsets, cut)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        return *per_sample_ffn_backward(grad, *ctx.saved_tensors, ctx.cuts), None, None, None
