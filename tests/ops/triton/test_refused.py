"""What the kernels cannot take is refused in words, before anything is launched."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from interformer_rec.errors import InputError
from interformer_rec.ops.triton.attention.operator import Form, jagged_attention_forward
from interformer_rec.ops.triton.gating import gate_forward
from interformer_rec.ops.triton.gram import gram_forward
from interformer_rec.ops.triton.per_sample_ffn.forward import per_sample_ffn_forward
from interformer_rec.ops.triton.pooling import attention_pool_forward


@pytest.mark.parametrize(
    "qk, v, says",
    [
        (torch.zeros(4, 2, 2, 16), torch.zeros(4, 2, 16).bfloat16(), "one dtype"),
        (torch.zeros(4, 2, 2, 16).double(), torch.zeros(4, 2, 16).double(), "one dtype"),
        (torch.zeros(5, 2, 2, 16), torch.zeros(4, 2, 16), "model.heads"),
        (torch.zeros(4, 2, 2, 300), torch.zeros(4, 2, 300), "at most 256"),
    ],
)
def test_attention(qk: Tensor, v: Tensor, says: str) -> None:
    with pytest.raises(InputError, match=says):
        jagged_attention_forward(qk, v, torch.tensor([0, 4]), None, Form(2, None, 303))


def test_the_others() -> None:
    with pytest.raises(InputError, match=r"\(B, d, r\)"):
        per_sample_ffn_forward(torch.zeros(4, 8), torch.zeros(3, 8, 2), torch.zeros(3, 2, 8), torch.tensor([0, 1, 4]))
    with pytest.raises(InputError, match=r"model\.d"):
        attention_pool_forward(torch.zeros(2, 16), torch.zeros(4, 8), torch.tensor([0, 4]), cls=2)
    with pytest.raises(InputError, match="same"):
        gate_forward(torch.zeros(3, 4), torch.zeros(3, 5), None, "swish")
    with pytest.raises(InputError, match="a bias belongs"):
        gate_forward(torch.zeros(3, 4), torch.zeros(3, 4), None, "mask")
    with pytest.raises(InputError, match="at most 256"):
        gram_forward(torch.zeros(3, 4, 300))
