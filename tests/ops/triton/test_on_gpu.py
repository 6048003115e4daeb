"""The same comparisons on a GPU, with the default cuts and long samples: what the interpreter cannot show."""

from __future__ import annotations

import pytest
import torch

from interformer_rec.ops.triton.attention.operator import Form
from tests.ops.triton import test_pooling, test_rows
from tests.ops.triton.attention import test_operator as test_attention
from tests.ops.triton.comparison import TOLERANCE, jagged
from tests.ops.triton.per_sample_ffn import test_operator as test_per_sample_ffn
from tests.ops.triton.steps import JaggedAttention

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture(autouse=True)
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setitem(TOLERANCE, torch.float32, 2e-5)  # three tf32 products for one
    with torch.device("cuda"):
        yield


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("window", [None, 128])
@pytest.mark.parametrize("shape", [(4, 16), (4, 64), (2, 128), (1, 256)])
def test_attention_on_gpu(shape: tuple[int, int], window: int | None, dtype: torch.dtype) -> None:
    test_attention.check(jagged(1, 40, 1024, 4), shape, Form(4, window, 1028), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [32, 64, 128, 256])
def test_pooling_ffn_and_rows_on_gpu(width: int, dtype: torch.dtype) -> None:
    offsets = jagged(2, 200, 300, 2)
    test_pooling.check(offsets, 8, width, dtype, None)
    for rank in (16, 64, 256):
        test_per_sample_ffn.check(offsets, width, rank, dtype, ())
    test_rows.check_norm((3000, width), dtype)
    test_rows.check_gate("swish", (3000, width), dtype)
    test_rows.check_gate("mask", (3000, width), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tokens", [2, 40, 300])
def test_gram_on_gpu(tokens: int, dtype: torch.dtype) -> None:
    test_rows.check_gram(tokens, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_histories_of_4096_events(dtype: torch.dtype) -> None:
    offsets = jagged(3, 4, 4096, 4)
    test_attention.check(offsets, (2, 64), Form(4, None, 4100), dtype)
    test_per_sample_ffn.check(offsets, 128, 64, dtype, ())
    test_pooling.check(offsets, 8, 128, dtype, None)


def test_the_same_bits_every_time() -> None:
    offsets = jagged(1, 40, 1024, 4)
    shape = (int(offsets[-1]), 4, 64)
    qk, v = torch.randn(shape[0], 2, 4, 64).bfloat16().requires_grad_(), torch.randn(shape).bfloat16().requires_grad_()
    runs = []
    for _ in range(2):
        ages = test_attention.ages_of(offsets, 4)
        out = JaggedAttention.apply(qk, v, offsets, ages, Form(4, None, 1028))
        runs.append([out, *torch.autograd.grad(out.square().sum(), (qk, v))])
    for first, second in zip(*runs, strict=True):
        assert torch.equal(first, second)
