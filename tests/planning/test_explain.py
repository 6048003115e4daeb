from __future__ import annotations

from pathlib import Path

import pytest

from interformer_rec.planning.answer import place
from interformer_rec.planning.constraints import SHARDING_TYPES, TableConstraints
from interformer_rec.planning.explain import explain, what_would_help
from tests.planning.cases import CONFIG, CPU, GPU, problem


@pytest.mark.parametrize("kind", [GPU, CPU])
def test_every_option_of_every_table_is_taken_or_explained(tmp_path: Path, kind):
    placed = place(problem(tmp_path, kind, nodes=2))
    reports = explain(placed)
    assert [r.ms for r in reports] == sorted((r.ms for r in reports), reverse=True)
    for report in reports:
        seen = {option.sharding for option in report.rejected if not option.kernel.startswith("fused_uvm")}
        assert seen | {report.sharding} == set(SHARDING_TYPES)
        assert all(option.reason for option in report.rejected)
        option = next(o for o in placed.options if o.name == report.name)
        assert report.ranks == tuple(sorted({s.rank for s in option.shards}))


def test_slower_by_is_what_the_estimator_says_of_that_plan(tmp_path: Path):
    """Force the rejected option, everything else where it was: the slowest rank is as much slower as was said."""
    placed = place(problem(tmp_path, nodes=2))
    report = next(r for r in explain(placed) if any(o.slowest_ms and o.slowest_ms > 0 for o in r.rejected))
    option = next(o for o in report.rejected if o.slowest_ms and o.slowest_ms > 0)
    wish = {report.name: TableConstraints(sharding=(option.sharding,), kernels=(option.kernel,))}
    others = {
        o.name: TableConstraints(sharding=(o.sharding_type,), kernels=(o.compute_kernel,))
        for o in placed.options
        if o.name != report.name
    }
    forced = place(
        placed.problem.changed(constraints=placed.problem.constraints.model_copy(update={"tables": {**others, **wish}}))
    )
    # the search may also move the others, so it can only do better than "this table alone"
    assert placed.perf <= forced.perf * (1 + 1e-9)
    assert forced.perf <= (placed.perf + option.slowest_ms) * (1 + 1e-9)


def test_explaining_changes_nothing(tmp_path: Path):
    placed = place(problem(tmp_path, nodes=2))
    before = [(o.name, [s.rank for s in o.shards]) for o in placed.options]
    assert explain(placed) == explain(placed)
    assert [(o.name, [s.rank for s in o.shards]) for o in placed.options] == before


def test_what_does_not_fit_says_where_and_by_how_much(tmp_path: Path):
    text = CONFIG.replace("num_embeddings: 900", "num_embeddings: 300000000")  # 17.9 GiB in one piece, devices have 16
    placed = place(problem(tmp_path, nodes=2, text=text))
    user = next(r for r in explain(placed) if r.name == "user")
    (whole,) = [o for o in user.rejected if o.sharding == "table_wise"]
    assert whole.reason.startswith("does not fit: ") and "GiB too much on rank" in whole.reason
    lacking = float(whole.reason.split()[3])
    free = (placed.problem.usable - placed.problem.constant.always - placed.problem.constant.dense_stage) / 2**30
    assert lacking == pytest.approx(300000001 * 17 * 4 / 2**30 - free, abs=0.1)


def test_ruled_out_options_name_the_rule(tmp_path: Path):
    (tmp_path / "c.yaml").write_text("tables: {user: {sharding: [table_wise]}}")
    reports = {r.name: r for r in explain(place(problem(tmp_path, CPU, constraints=str(tmp_path / "c.yaml"))))}
    reasons = {o.sharding: o.reason for o in reports["user"].rejected}
    assert reasons["row_wise"].startswith("TorchRec has no row_wise for an EmbeddingBagCollection on cpu")
    assert reasons["data_parallel"].startswith("constraints allow table_wise only (without that: ")
    assert "1.8.0 fails" in {o.sharding: o.reason for o in reports["item"].rejected}["data_parallel"]


def test_only_the_costliest_are_explained_and_those_asked_for(tmp_path: Path):
    reports = explain(place(problem(tmp_path)), limit=1, first=["city"])
    assert [bool(r.rejected) for r in reports] == [i == 0 or r.name == "city" for i, r in enumerate(reports)]


def test_what_would_help_names_the_bottleneck(tmp_path: Path):
    slow_network = place(problem(tmp_path, nodes=2, batch_size=4096, hardware={"inter_node_gb_per_s": 0.01}))
    help_ = what_would_help(slow_network)
    assert min(help_, key=help_.get) == "twice the inter-node bandwidth"
    assert all(ms < slow_network.time.total for ms in help_.values())
    launch_bound = what_would_help(place(problem(tmp_path)))
    assert [what.split()[0] for what in launch_bound] == ["a", "half"]  # dense part, host's time
