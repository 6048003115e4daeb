"""Functions and inputs come in; their outputs and gradients are compared with a reference in float64."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from interformer_rec.ops.buckets import offsets_of

# ||kernel - reference|| / ||reference||, the reference on the same rounded inputs. float32 sums in another order; bfloat16 and
# float16 keep 8 and 11 bits of what a kernel writes and of what it gives to its second product.
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 2e-2, torch.float16: 2e-3}


def jagged(seed: int, samples: int, longest: int, cls: int) -> Tensor:
    """(B + 1,) offsets of samples with `cls` CLS tokens and 0 to `longest` events; one has none, one has one."""
    torch.manual_seed(seed)
    lengths = torch.randint(0, longest + 1, (samples,))
    lengths[torch.randperm(samples)[:2]] = torch.tensor([0, 1])[: min(2, samples)]
    return offsets_of(lengths + cls)


def split(values: Tensor, offsets: Tensor) -> list[Tensor]:
    """Rows of each sample."""
    return list(values.split(offsets.diff().tolist()))


def same(
    op: Callable[..., Tensor],
    plain: Callable[..., Tensor],
    inputs: list[Tensor],
    dtype: torch.dtype,
    exact: bool = False,
) -> None:
    """Outputs and all gradients agree within TOLERANCE, or to the bit; no gradient is zero by mistake."""
    leaves = [x.to(dtype).requires_grad_() for x in inputs]
    out = op(*leaves)
    assert out.dtype == dtype
    weight = torch.randn(out.shape).to(dtype)
    found = [out, *torch.autograd.grad(out, leaves, weight)]
    wide = [x.detach().double().requires_grad_() for x in leaves]
    out64 = plain(*wide)
    expected = [out64, *torch.autograd.grad(out64, wide, weight.double())]
    for mine, reference in zip(found, expected, strict=True):
        assert mine.shape == reference.shape
        error = (mine.double() - reference).norm()
        size = reference.norm()
        assert size > 0 or reference.numel() == 0
        assert error <= (0 if exact else TOLERANCE[dtype] * size), f"{error:.2e} of {size:.2e}"
