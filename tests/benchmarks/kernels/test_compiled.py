"""Kernels compiled for GPUs that are not here: no register spills, shared memory in bounds, Hopper's and Blackwell's matrix instruction."""

from __future__ import annotations

import itertools
import json
import sys

import pytest
import torch
import triton

from benchmarks.kernels import compile_report
from benchmarks.kernels.compile_report import attention_launches, launches
from benchmarks.kernels.compiled import SHARED_LIMIT, Facts, compile_launch
from interformer_rec.ops.triton.launch import Launch, written_down

# Their products are many enough to be worth the tensor cores' widest form.
MATRIX_BOUND = {"attention_forward_kernel", "keys_kernel", "queries_kernel", "ffn_forward_kernel", "ffn_tokens_kernel"}
# Bytes a thread, where no cut that was tried does without: (kernel, width, capability).
SPILLS = {
    ("attention_forward_kernel", 256, 90): 80,
    ("attention_forward_kernel", 256, 100): 48,
    ("rotate_kernel", 256, 100): 8,
    ("gate_backward_kernel", 128, 100): 16,
    ("ffn_forward_kernel", 256, 80): 16,
}
MATRIX_INSTRUCTION = {90: "HGMMA", 100: "UTCHMMA"}


def check(facts: Facts, width: int) -> None:
    assert facts.spilled <= SPILLS.get((facts.kernel, width, facts.capability), 0), facts
    assert facts.shared <= SHARED_LIMIT[facts.capability], facts
    if facts.kernel in MATRIX_BOUND and facts.capability >= 90 and width <= 128:
        assert facts.tensor_core == MATRIX_INSTRUCTION[facts.capability], facts


@pytest.fixture(autouse=True)
def compiler() -> None:
    if triton.knobs.runtime.interpret:
        pytest.skip("TRITON_INTERPRET is set: nothing is compiled")


def attention(capability: int, **options: object) -> dict[str, Launch]:
    with written_down(capability) as found:
        attention_launches(64, **options)
    return {launch.kernel.__name__: launch for launch in found}


@pytest.mark.parametrize(
    "capability, kernel", [(90, "attention_forward_kernel"), (90, "queries_kernel"), (80, "attention_forward_kernel")]
)
def test_attention_compiles_without_spills(capability: int, kernel: str) -> None:
    check(compile_launch(attention(capability)[kernel], capability), 64)


def test_launches_written_down_are_those_that_run() -> None:
    found = attention(90, window=16, dtype=torch.float16)
    assert list(found) == ["rotate_kernel", "attention_forward_kernel", "delta_kernel", "keys_kernel", "queries_kernel"]
    for launch in found.values():
        given = [*launch.arguments, *launch.constants]
        assert given == launch.kernel.arg_names


@pytest.mark.slow
@pytest.mark.parametrize("capability, width", [(90, 64), (90, 128), (90, 256), (80, 128), (100, 128)])
def test_every_kernel_compiles_without_spills(capability: int, width: int) -> None:
    for _, launch in launches(width, capability):
        check(compile_launch(launch, capability), width)


@pytest.mark.slow
def test_the_report_is_a_command(tmp_path, monkeypatch, capsys) -> None:
    """Of the first two kernels: each is a line on the screen and a row of the file, as the compiler has found it."""
    first = list(itertools.islice(launches(16, 90), 2))
    monkeypatch.setattr(compile_report, "launches", lambda width, capability: iter(first))
    command = ["compile_report", "--width", "16", "--capability", "90", "--json", str(tmp_path / "table.json")]
    monkeypatch.setattr(sys, "argv", command)
    compile_report.main()
    table = json.loads((tmp_path / "table.json").read_text())
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    assert table["triton"] == triton.__version__
    assert [row["kernel"] for row in rows] == ["rotate_kernel", "attention_forward_kernel"]
    for row, (_, launch) in zip(rows, first, strict=True):
        assert (row["width"], row["capability"], row["form"]) == (16, 90, "all")
        facts = compile_launch(launch, 90)._asdict()
        assert {name: row[name] for name in facts} == facts and facts["registers"] > 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2 and "kernel attention_forward_kernel" in printed[1]
