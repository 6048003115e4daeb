"""A linear map on the token axis, the same for every sample and channel: (B, n_in, d) -> (B, n_out, d)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from interformer_rec.ops.backend import IN_GRAPHS, runs

_CHUNK = 1 << 20  # floats of per-sample weight gradients alive at once


class _MixOnCPU(torch.autograd.Function):
    """As a batch of small products: no transposed copies, and a contiguous result for what follows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.bmm(weight.expand(x.shape[0], *weight.shape), x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        turned = weight.t()
        grad_x = torch.bmm(turned.expand(x.shape[0], *turned.shape), grad)
        grad_weight = torch.zeros_like(weight)
        rows = max(1, _CHUNK // weight.numel())
        for g, part in zip(grad.split(rows), x.split(rows), strict=True):
            grad_weight += torch.bmm(g, part.transpose(1, 2)).sum(0)
        return grad_x, grad_weight


@runs(**IN_GRAPHS)
def mix_tokens(x_BND: Tensor, weight_MN: Tensor) -> Tensor:
    """(B, n, d) and (m, n) -> (B, m, d)."""
    if torch.compiler.is_compiling() and x_BND.device.type == "cpu":
        return torch.bmm(weight_MN.expand(x_BND.shape[0], *weight_MN.shape), x_BND)
    if x_BND.device.type == "cpu" and x_BND.dtype == weight_MN.dtype and not torch.is_autocast_enabled("cpu"):
        return _MixOnCPU.apply(x_BND, weight_MN)
    return F.linear(x_BND.transpose(1, 2), weight_MN).transpose(1, 2)
