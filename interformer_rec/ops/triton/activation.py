"""Device functions of one number: GELU as torch.nn.functional.gelu computes it (by the error function), and its slope."""

# mypy: disable-error-code="no-untyped-def, valid-type, attr-defined"
from __future__ import annotations

import triton
import triton.language as tl

ROOT_HALF = tl.constexpr(0.7071067811865476)
BELL = tl.constexpr(0.3989422804014327)  # 1 / sqrt(2 pi)


@triton.jit
def gelu(x):
    """x times the normal distribution's cumulative probability at x."""
    return 0.5 * x * (1.0 + tl.erf(x * ROOT_HALF))


@triton.jit
def gelu_slope(x):
    """d gelu / dx."""
    return 0.5 * (1.0 + tl.erf(x * ROOT_HALF)) + x * BELL * tl.exp(-0.5 * x * x)
