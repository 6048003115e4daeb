"""Who runs an operator: by device, dtype and width, and by choice."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from interformer_rec.errors import InputError
from interformer_rec.ops import backend
from interformer_rec.ops.backend import takes_row_kernels, takes_triton, using

CPU = torch.empty(1)


def test_a_cpu_runs_plain_torch_unless_it_is_told() -> None:
    pytest.importorskip("triton")
    assert not takes_triton(CPU) and not takes_row_kernels(CPU)
    with using("triton"):
        assert takes_triton(CPU, 256) and not takes_triton(CPU, 257)
        assert not takes_triton(CPU.double())
        with using("torch"):
            assert not takes_triton(CPU)
    assert not takes_triton(CPU)


@pytest.mark.parametrize("value, fine", [("torch", True), ("auto", True), ("triton", False), ("cuda", False)])
def test_the_environment_variable(value: str, fine: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERFORMER_OPS", value)
    if fine:
        assert backend._from_environment() == value
    else:
        with pytest.raises(InputError, match=f"INTERFORMER_OPS = '{value}': it is auto"):
            backend._from_environment()


def test_the_environment_variable_is_read_at_the_import() -> None:
    code = "from interformer_rec.ops import backend; assert backend.kept_on_torch()"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "INTERFORMER_OPS": "torch"}, check=True)
