"""Who runs an operator: by device, dtype and width, and by choice."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

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
def test_the_environment_variable(value: str, fine: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import interformer_rec.ops.backend"],
        env={"INTERFORMER_OPS": value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) is fine
    assert fine or f"INTERFORMER_OPS = '{value}': it is auto" in done.stderr
