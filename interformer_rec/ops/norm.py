"""RMSNorm: x / sqrt(mean(x^2) + eps) * gain over the last axis (Zhang & Sennrich 2019, as torch.nn.functional.rms_norm)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from interformer_rec.ops.backend import HAS_TRITON, IN_GRAPHS, runs, takes_row_kernels

if HAS_TRITON:
    from interformer_rec.ops.triton.norm import RMSNorm

EPS = 1e-6


class _RMSNorm(torch.autograd.Function):
    """On a CPU torch composes rms_norm of many passes (4 to 5 times layer_norm's time); this one makes four and six."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, eps: float) -> Tensor:
        width = x.shape[-1]
        power = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_()
        scale = power.div_(width).add_(eps).rsqrt_()
        ctx.save_for_backward(x, gain, scale)
        return (x * scale).mul_(gain)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, gain, scale = ctx.saved_tensors
        width = x.shape[-1]
        product = grad * x
        flat, scale_flat = product.reshape(-1, width), scale.reshape(-1)
        grad_gain = scale_flat @ flat  # (width,): sum over rows of grad * x * scale
        along = (flat @ gain).mul_(scale_flat.pow(3)).div_(width).view_as(scale)
        grad_x = (grad * gain).mul_(scale).sub_(torch.mul(x, along, out=product))
        return grad_x, grad_gain, None


@runs(kernel=True, **IN_GRAPHS)
def rms_norm(x: Tensor, gain: Tensor, eps: float = EPS) -> Tensor:
    """(..., d) and a gain (d,) -> (..., d), in x's dtype."""
    if takes_row_kernels(x, x.shape[-1]):
        return RMSNorm.apply(x, gain, eps)
    if x.device.type != "cpu" or x.dtype != gain.dtype or torch.compiler.is_compiling():
        return F.rms_norm(x, (x.shape[-1],), gain.to(x.dtype), eps)
    return _RMSNorm.apply(x, gain, eps)
