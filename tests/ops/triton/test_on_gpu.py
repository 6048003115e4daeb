"""On a GPU, beside the conformance suite: the same bits every time, as no kernel adds with atomics."""

from __future__ import annotations

import pytest
import torch

from tests.ops import conformance
from tests.ops.catalogue import OPERATORS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch.cuda.is_available() is False: no CUDA device"),
]


@pytest.mark.parametrize("name", [one.name for one in OPERATORS if one.function.runs.kernel])
def test_the_same_bits_every_time(name: str) -> None:
    first, second = (
        conformance.found(name, torch.bfloat16, conformance.SHAPES["64"], "auto", "cuda") for _ in range(2)
    )
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)
