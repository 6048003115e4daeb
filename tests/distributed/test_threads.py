"""Ranks that torchrun starts share the host's cores; a number that somebody chose stays."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from interformer_rec.distributed import threads


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "variable, elastic, ranks, expected",
    [
        ("1", True, 4, 4),
        ("1", True, 5, 3),
        ("1", True, 99, 1),
        ("3", True, 4, 2),
        ("1", False, 4, 2),
        ("1", True, 1, 2),
    ],
)
def test_share_of_sixteen_cores(
    variable: str, elastic: bool, ranks: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    if elastic:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "some")
    monkeypatch.setattr(threads, "usable_cores", lambda: 16)
    threads.share_cores(ranks)
    assert torch.get_num_threads() == expected
