"""Rotary positions (Su et al. 2021) by age: channels (2j, 2j + 1) of a head turn by age * base^(-2j / head_dim).

Ages count from the newest event, so neither padding nor cutting off the oldest events moves anyone. Tokens of age -1 (CLS) do
not turn.
"""

import torch
from torch import Tensor

from interformer_rec.ops.backend import IN_GRAPHS, runs


def rotary_table(ages_J: Tensor, heads: int, head_dim: int, base: float, dtype: torch.dtype) -> Tensor:
    """(J,) ages -> (J, heads * head_dim / 2) complex unit numbers, the same for every head; `dtype` float32 or float64.

    Written out for all heads: turning then is one contiguous product, several times faster than a broadcast one.
    """
    frequency = base ** (-torch.arange(0, head_dim, 2, device=ages_J.device, dtype=torch.float64) / head_dim)
    ages, place = torch.unique(ages_J.clamp(min=0), return_inverse=True)
    angle = ages.to(torch.float64)[:, None] * frequency.repeat(heads)
    return torch.polar(torch.ones_like(angle), angle).to(
        torch.complex128 if dtype == torch.float64 else torch.complex64
    )[place]


@runs(**IN_GRAPHS)
def rotate(x: Tensor, table: Tensor) -> Tensor:
    """(J, heads * head_dim) turned by its table, in x's dtype. Half precision is turned in float32."""
    real = torch.float64 if table.dtype == torch.complex128 else torch.float32
    turned = torch.view_as_complex(x.to(real).unflatten(-1, (-1, 2))) * table
    return torch.view_as_real(turned).flatten(-2).to(x.dtype)
