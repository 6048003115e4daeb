"""Element-wise gates: rows and what a linear map made of them come in, the gated rows go out. On a GPU one pass each way."""

import torch
import torch.nn.functional as F
from torch import Tensor

from interformer_rec.ops.backend import HAS_TRITON, IN_GRAPHS, runs, takes_row_kernels

if HAS_TRITON:
    from interformer_rec.ops.triton.gating import Gate


@runs(kernel=True, **IN_GRAPHS)
def swish_gate(x: Tensor, gate: Tensor) -> Tensor:
    """x * sigmoid(gate), both (..., d)."""
    if takes_row_kernels(gate):
        return Gate.apply(x.to(gate.dtype), gate, None, "swish")
    return x * torch.sigmoid(gate)


@runs(kernel=True, **IN_GRAPHS)
def mask_gate(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x * (W x + b): (..., d), (d, d), (d,) -> (..., d)."""
    if takes_row_kernels(x):
        mask = F.linear(x, weight)
        return Gate.apply(x.to(mask.dtype), mask, bias, "mask")
    return x * F.linear(x, weight, bias)
