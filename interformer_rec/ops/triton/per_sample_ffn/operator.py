"""The per-sample FFN as one differentiable step: tokens (J, d) and each sample's weights come in, tokens (J, d) go out.

See forward.py for the two forms. Works on CUDA tensors, and on CPU tensors under the interpreter. Never run on a GPU
yet.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from interformer_rec.ops.triton.launch import Blocks
from interformer_rec.ops.triton.per_sample_ffn.backward import per_sample_ffn_backward
from interformer_rec.ops.triton.per_sample_ffn.forward import EPS, Saved, per_sample_ffn_forward


class Cut(NamedTuple):
    """How the kernels are cut, where not by default, and the norms' epsilon."""

    eps: float = EPS
    forward: Blocks | None = None
    backward: tuple[Blocks, Blocks] | None = None


class PerSampleFFN(torch.autograd.Function):
    """apply(values, w1, w2, offsets, gain1, gain2, residual, cut); both gains or none, residual or None."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        w1: Tensor,
        w2: Tensor,
        offsets: Tensor,
        gain1: Tensor | None,
        gain2: Tensor | None,
        residual: Tensor | None,
        cut: Cut = Cut(),  # noqa: B008  a tuple of constants
    ) -> Tensor:
        """The tokens after the FFN."""
        gains = None if gain1 is None or gain2 is None else (gain1, gain2)
        out, saved = per_sample_ffn_forward(values, w1, w2, offsets, gains, residual, eps=cut.eps, blocks=cut.forward)
        ctx.save_for_backward(values, w1, w2, offsets, gain1, gain2, *(saved or ()))
        ctx.cut, ctx.residual = cut, residual is not None
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Gradients of the values, both weights, both gains and the residual."""
        values, w1, w2, offsets, gain1, gain2, *saved = ctx.saved_tensors
        dx, dw1, dw2, dgains = per_sample_ffn_backward(
            *(grad, values, w1, w2, offsets, None if gain1 is None else (gain1, gain2)),
            Saved(*saved) if saved else None,
            eps=ctx.cut.eps,
            blocks=ctx.cut.backward,
        )
        return dx, dw1, dw2, None, *(dgains or (None, None)), grad if ctx.residual else None, None
