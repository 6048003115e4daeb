"""The throughput suite measures what it says: same numbers padded and jagged, FLOPs as torch counts them, lengths as asked for."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import embeddings, lengths, seq_length
from benchmarks.harness import plot
from benchmarks.harness.compare import compare
from benchmarks.harness.interleaved import Times, measure
from benchmarks.harness.machine import peak_bytes
from benchmarks.harness.result_file import read_result
from benchmarks.model_flops import FlopCount
from benchmarks.padded import pad_events
from benchmarks.variants import Steps
from benchmarks.workload import WORKLOADS, inputs
from interformer_rec.errors import InputError
from interformer_rec.model.interformer import InterFormer

CPU = torch.device("cpu")


def tiny(preset: str = "default", merge: str = "separate", longest: int = 12, split: bool = False):
    shape = WORKLOADS["tiny"].with_(preset=preset, merge=merge, layers=2)
    changes = {"sequence": {"merge": merge}} if preset == "paper" else {}
    shown = {"candidate": ("candidate_column0", "candidate_column1", "number0")}
    return shape.features(longest).model_copy(update=shown), shape.model(**changes, split=split)


@pytest.mark.parametrize("preset", ["default", "paper"])
@pytest.mark.parametrize("merge, split", [("separate", False), ("masknet", False), ("concat", False), ("concat", True)])
def test_padded_histories_are_the_same_histories(preset, merge, split):
    same_padded(*tiny(preset, merge, split=split))


@pytest.mark.parametrize("flow", ["sole", "sep", "n2s", "s2n"])
def test_padded_histories_are_the_same_whatever_the_flow(flow):
    features, options = tiny()
    same_padded(features, options.model_copy(update={"flow": flow}))


def same_padded(features, options):
    """Logits and the gradients of all weights."""
    drawn = {g.name: lengths.draw("zipf", 20, 12, 0.25, i) for i, g in enumerate(features.sequences)}
    assert min(n.min() for n in drawn.values()) == 0
    torch.manual_seed(0)
    model = InterFormer(features, options).double()
    batch = inputs(features, options, drawn, CPU, torch.float64)
    found = []
    for embedded in (batch.embedded, pad_events(batch.embedded, 12)):
        logits = model(batch.dense, embedded)
        grads = torch.autograd.grad(logits.sum(), list(model.parameters()), allow_unused=True)
        found.append([logits, *(torch.zeros(0) if grad is None else grad for grad in grads)])
    for jagged, padded in zip(*found, strict=True):
        torch.testing.assert_close(padded, jagged, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("merge, split", [("separate", False), ("masknet", False), ("concat", False), ("concat", True)])
def test_flops_are_those_of_torchs_counter(merge, split):
    """Over fixed lengths, where nothing is padded; the counted model uses the math attention, whose products it sees."""
    features, options = tiny(merge=merge, longest=40, split=split)
    model = InterFormer(features, options)
    count = FlopCount(features, options, model)
    drawn = {group.name: np.full(4, 24) for group in features.sequences}
    batch = inputs(features, options, drawn, CPU)
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):
        model(batch.dense, pad_events(batch.embedded, 24)).sum().backward()
    found = count.of(drawn)
    assert found.total == pytest.approx(counter.get_total_flops(), rel=0.02)
    assert 0 < found.attention < found.total


def test_flops_of_a_window_are_those_of_the_pairs_that_see_each_other():
    """Events beyond every window: the counter sees whole blocks, the model's products only what they stand for."""
    features, options = tiny(longest=300)
    near = options.sequence.model_copy(update={"window": 3, "merge": "separate"})
    windowed = options.model_copy(update={"sequence": near})
    drawn = {group.name: np.array([300, 0, 1]) for group in features.sequences}
    whole = FlopCount(features, options, InterFormer(features, options)).of(drawn)
    part = FlopCount(features, windowed, InterFormer(features, windowed)).of(drawn)
    cls = options.summary.x_tokens
    place = np.arange(300 + cls)
    seen = (np.abs(place[:, None] - place) <= 3) | (place < cls) | (place[:, None] < cls)
    pairs = seen.sum() + cls**2 + (1 + cls) ** 2
    assert part.attention / whole.attention == pytest.approx(pairs / ((300 + cls) ** 2 + cls**2 + (1 + cls) ** 2))
    assert part.total - part.attention == pytest.approx(whole.total - whole.attention)


def test_lengths_in_turns(tmp_path, monkeypatch):
    words = (
        "seq_length --in-turns --workload tiny --lengths 4,16 --window 2 --attention-every 1,2 --layers 2 --events 64"
    )
    monkeypatch.setattr(
        sys,
        "argv",
        [*words.split(), "--rounds", "2", "--threads", "1", "--device", "cpu", "--json", str(tmp_path / "out.json")],
    )
    seq_length.main()
    rows = json.loads((tmp_path / "out.json").read_text())["cases"]
    assert [(row["attention_every"], row["longest"]) for row in rows] == [(1, 4), (1, 16), (2, 4), (2, 16)]
    assert [row["times_the_shortest"]["median"] for row in rows][::2] == [1.0, 1.0]
    assert all(row["cpu_ns_per_event"] > 0 and row["window"] == 2 for row in rows)


def test_flops_follow_events():
    features, options = tiny(longest=64)
    count = FlopCount(features, options, InterFormer(features, options))
    names = [group.name for group in features.sequences]
    short, long, half = (dict.fromkeys(names, np.array(n)) for n in ([16] * 6, [32] * 6, [32] * 3 + [0] * 3))
    empty = dict.fromkeys(names, np.zeros(6, np.int64))
    linear = [count.of(n).total - count.of(n).attention for n in (empty, short, long, half)]
    assert linear[2] - linear[0] == pytest.approx(2 * (linear[1] - linear[0]), rel=1e-6)
    assert linear[3] == pytest.approx(linear[1], rel=1e-6)
    assert count.of(long).attention > 3 * count.of(short).attention


@pytest.mark.parametrize("fill", [0.1, 0.25, 0.4])
def test_zipf_lengths_have_the_fill_asked_for(fill):
    drawn = lengths.draw("zipf", 20_000, 200, fill)
    assert drawn.min() >= 0 and drawn.max() <= 200
    assert drawn.mean() / 200 == pytest.approx(fill, rel=0.05)
    assert np.median(drawn) < drawn.mean()  # many short, few long


def test_length_distributions():
    assert set(lengths.draw("fixed", 5, 7, 0.25)) == {7}
    data = lengths.draw("data", 1000, 50, 0.25)
    assert data.max() == 50 and (data < 50).any()
    with pytest.raises(ValueError, match="fixed, zipf, data"):
        lengths.draw("uniform", 1, 1, 0.25)
    with pytest.raises(ValueError, match=r"0 to 0\.5"):
        lengths.draw("zipf", 1, 10, 0.9)


@pytest.mark.parametrize("variant", ["jagged", "padded", "jagged, overlap", "jagged, linear", "jagged, empty"])
def test_a_step_has_gradients_and_leaves_none(variant):
    features, options = tiny()
    steps = Steps(features, options, {g.name: np.array([3, 0, 12]) for g in features.sequences}, CPU, "fp32")
    seen = []
    steps.model.preprocess.dense[0].weight.register_hook(lambda grad: seen.append(float(grad.abs().sum())))
    first, second = steps.get(variant)(), steps.get(variant)()
    assert torch.isfinite(first) and first == second and len(seen) == 2 and min(seen) > 0
    assert all(parameter.grad is None for parameter in steps.model.parameters())


def test_turns_are_interleaved():
    order = []
    times = measure({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3, warm_up=1)
    assert [len(t.seconds) for t in times.values()] == [3, 3]
    assert order.count("a") == order.count("b") == 4 and "aaa" not in "".join(order)
    ratio = Times([1.0, 2.0, 4.0]).ratio(Times([2.0, 4.0, 4.0]))
    assert ratio["median"] == 2.0


def test_peak_counts_what_a_step_adds():
    peak = peak_bytes(lambda: torch.ones(64 << 20, dtype=torch.uint8), CPU)
    assert peak is None or 60 << 20 < peak < 200 << 20


def case(ms: float, p99: float | None = None, **what):
    return {"variant": "jagged", "longest": 64, **what, "p50_ms": ms, "p99_ms": p99 or ms}


def test_compare_flags_beyond_noise():
    cases = [case(10), case(10, 20, longest=128), case(10, longest=256), case(1, longest=9)]
    before = {"benchmark": "x", "device": "A", "cases": cases}
    after = {"benchmark": "x", "device": "B", "cases": [case(12), case(12, longest=128), case(8, longest=256)]}
    found = compare(before, after, 0.05)
    verdicts = {change["case"]["longest"]: change["verdict"] for change in found["changes"]}
    assert verdicts == {"64": "slower", "128": "same", "256": "faster"}  # 128 was noisy: up to twice its median
    assert found["differences"] == {"device": ["A", "B"]}
    assert [key["longest"] for key in found["only_before"]] == ["9"]
    with pytest.raises(InputError, match="'x', the other of 'y'"):
        compare(before, {**after, "benchmark": "y"}, 0.05)


def test_a_variant_that_cannot_run_is_a_row(monkeypatch, capsys):
    def get(steps: Steps, variant: str):
        return whole(steps, variant) if variant == "jagged" else lambda: torch.empty(1 << 60)

    whole = Steps.get
    monkeypatch.setattr(Steps, "get", get)
    command = (
        "seq_length --workload tiny --lengths 4 --events 64 --distributions zipf --rounds 2 --threads 1 --device cpu"
    )
    monkeypatch.setattr(sys, "argv", command.split())
    seq_length.main()
    lines = capsys.readouterr().out.splitlines()
    assert any("jagged" in line and "%" in line for line in lines)
    assert any("padded" in line and "RuntimeError" in line for line in lines)


@pytest.mark.slow
def test_command(tmp_path, monkeypatch, capsys):
    result, picture = tmp_path / "r.json", tmp_path / "r.png"
    command = [
        "seq_length",
        "--workload",
        "tiny",
        "--lengths",
        "4,8",
        "--events",
        "64",
        "--distributions",
        "fixed,zipf",
    ]
    command += ["--rounds", "2", "--threads", "1", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", [*command, "--json", str(result)])
    seq_length.main()
    cases = json.loads(result.read_text())["cases"]
    assert len(cases) == 2 * 2 * 2
    assert all(c["samples_per_second"] > 0 and c["mfu"] > 0 for c in cases)
    assert {c["fill"] for c in cases if c["distribution"] == "fixed"} == {1.0}
    monkeypatch.setattr(sys, "argv", ["plot", str(result), "--out", str(picture)])
    assert plot.main() == 0
    assert picture.read_bytes()[:4] == b"\x89PNG"
    monkeypatch.setattr(sys, "argv", [*command, "--workload", "huge"])
    with pytest.raises(SystemExit) as stopped:
        seq_length.main()
    assert stopped.value.code == 2 and "kuairand" in capsys.readouterr().err


def test_a_result_over_ranks_has_a_picture(tmp_path, monkeypatch):
    result = Path(__file__).parents[2] / "benchmarks" / "results" / "scaling_lengths-2cores-2026-11-22.json"
    monkeypatch.setattr(sys, "argv", ["plot", str(result), "--out", str(tmp_path / "r.png")])
    assert plot.main() == 0 and (tmp_path / "r.png").read_bytes()[:4] == b"\x89PNG"


def test_embeddings_command(tmp_path, monkeypatch):
    command = [
        "embeddings",
        "--dims",
        "8",
        "--pooling",
        "1,2",
        "--table-rows",
        "200",
        "--lookups",
        "64",
        "--rounds",
        "1",
    ]
    monkeypatch.setattr(sys, "argv", [*command, "--json", str(tmp_path / "e.json")])
    embeddings.main()
    rows = json.loads((tmp_path / "e.json").read_text())["cases"]
    assert {row["alternative"] for row in rows} >= {"torch", "adagrad", "rowwise_adagrad"}
    assert all(row["of_ceiling"] > 0 and row["distinct"] <= 64 for row in rows)
    monkeypatch.setattr(sys, "argv", ["plot", str(tmp_path / "e.json")])
    assert plot.main() == 0 and (tmp_path / "e.png").read_bytes()[:4] == b"\x89PNG"


def test_the_plot_of_committed_request_rows_has_a_line_for_each_history():
    result = read_result(
        str(Path(__file__).parents[2] / "benchmarks/results/requests_batch4096-2cores-2026-11-30.json")
    )
    (axis,) = plot.DRAWN[result["benchmark"]](result["cases"]).axes
    labels = axis.get_legend_handles_labels()[1]
    assert labels == ["histories of up to 100 events", "histories of up to 1,000 events"]
    assert list(axis.containers[0].lines[0].get_xdata()) == [1, 8, 64]
