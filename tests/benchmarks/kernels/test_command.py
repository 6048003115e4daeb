"""Operators' benchmark: every alternative computes the same, one that does not is no number, counts are those of torch."""

from __future__ import annotations

import dataclasses
import json
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness import plot
from benchmarks.kernels import command as kernels
from benchmarks.kernels.case import Alternative, Padded, Ready, Shape
from benchmarks.kernels.command import OPERATORS, prepare

CPU = torch.device("cpu")
SHAPE = Shape(300, 20, "zipf", 0.25, 16, 2, 8, torch.float32, CPU)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("operator", OPERATORS)
def test_every_alternative_agrees_with_the_reference(operator, dtype):
    case = OPERATORS[operator](dataclasses.replace(SHAPE, dtype=dtype))
    ready, errors = prepare(case, ["compiled"])
    assert errors == [] and {"ours", "reference"} <= set(ready)
    assert all(x.dtype == dtype and (x.isfinite()).all() for x in ready["ours"].step())


def test_shapes_have_empty_and_long_samples():
    assert SHAPE.lengths.min() == 0 and SHAPE.lengths.max() > 15
    assert SHAPE.layout.total == pytest.approx(300, rel=0.3)


@pytest.mark.parametrize("spoiled", ["value", "gradient", "shape"])
def test_a_wrong_alternative_is_an_error(spoiled):
    case = OPERATORS["ffn"](SHAPE)
    right = case.alternatives["ours"]()
    wrong = {
        "value": lambda x, w1, w2: right.run(x, w1, w2) * 1.01,
        "gradient": lambda x, w1, w2: right.run(x, w1.detach(), w2) + 0 * w1.sum(),
        "shape": lambda x, w1, w2: right.run(x, w1, w2)[:-1],
    }[spoiled]
    case.alternatives = {"ours": lambda: right, "theirs": lambda: Alternative(wrong)}
    ready, errors = prepare(case, [])
    assert "theirs" not in ready and "ours" in ready
    assert [error["alternative"] for error in errors] == ["theirs"]
    assert {"value": "wrong: the output is off", "gradient": "wrong: the gradient of input 1"}.get(
        spoiled, ""
    ) in errors[0]["error"]


def test_padding_that_leaks_is_noticed():
    case = OPERATORS["pool"](SHAPE)
    padded = Padded(SHAPE.layout.tokens)
    unmasked = Alternative(lambda maps, x: (x @ maps.T).softmax(1).transpose(1, 2) @ x, padded)
    assert "is off by" in (Ready(case, unmasked).wrong() or "")


@pytest.mark.parametrize("operator", ["attention", "ffn"])
def test_flops_are_those_of_torchs_counter(operator):
    """Over fixed lengths, where nothing is padded."""
    case = OPERATORS[operator](dataclasses.replace(SHAPE, distribution="fixed"))
    counter = FlopCounterMode(display=False)
    with counter:
        case.looped().run(*case.leaves)
    assert counter.get_total_flops() == case.flops


def test_command(tmp_path, monkeypatch, capsys):
    result = tmp_path / "r.json"
    words = "kernels --operators pool,gate --lengths 8,16 --distributions zipf,fixed --d 16 --tokens 200 --rows 200"
    words += " --rounds 2 --threads 1 --device cpu --without compiled"
    command = [*words.split(), "--json", str(result)]
    monkeypatch.setattr(sys, "argv", command)
    assert kernels.main() == 0
    cases = json.loads(result.read_text())["cases"]
    assert all(case["p50_ms"] > 0 and case["of_ceiling"] > 0 for case in cases)
    assert {case["times_ours"] for case in cases if case["alternative"] == "ours"} == {1.0}
    assert {case["fill"] for case in cases if case.get("distribution") == "fixed"} == {1.0}
    names = ("longest", "distribution", "alternative", "direction")
    assert len({tuple(c[name] for name in names) for c in cases if c["operator"] == "pool"}) == 2 * 2 * 4 * 2
    assert {c["alternative"] for c in cases if c["operator"] == "gate"} == {"ours", "reference"}
    monkeypatch.setattr(sys, "argv", ["plot", str(result)])
    assert plot.main() == 0 and (tmp_path / "r.png").read_bytes()[:4] == b"\x89PNG"
    monkeypatch.setattr(sys, "argv", [*command, "--operators", "attentoin"])
    with pytest.raises(SystemExit) as stopped:
        kernels.main()
    assert stopped.value.code == 2 and "attention_rotary" in capsys.readouterr().err


def test_ours_wrong_fails_the_command(monkeypatch, capsys):
    case = OPERATORS["gate"](SHAPE)
    case.alternatives = {"ours": lambda: Alternative(lambda x, gate: x * gate)}
    monkeypatch.setitem(kernels.OPERATORS, "gate", lambda shape: case)
    monkeypatch.setattr(
        sys, "argv", ["kernels", "--operators", "gate", "--d", "16", "--rows", "64", "--device", "cpu", "--rounds", "1"]
    )
    assert kernels.main() == 1
    assert "gate d 16, ours: wrong" in capsys.readouterr().err
