from __future__ import annotations

from pathlib import Path

import pytest

from interformer_rec.errors import InputError
from interformer_rec.planning.answer import DoesNotFit, place
from interformer_rec.planning.what_if import Outcome, cheapest, fewest_nodes, parse_sweep, smallest_changes, sweep
from tests.planning.cases import CONFIG, CPU, cluster, problem

BIG = CONFIG.replace("num_embeddings: 900", "num_embeddings: 1500000000")  # 89 GiB of weights, 5.6 of state


def test_a_sweep_has_a_row_for_every_job(tmp_path: Path):
    dear, cheap = cluster(price_per_node_hour=100), cluster(name="cheap", price_per_node_hour=10)
    outcomes = sweep(problem(tmp_path), [dear, cheap], [1, 2], [16, 64])
    assert [(o.cluster, o.nodes, o.batch_size) for o in outcomes] == [
        (name, nodes, batch) for name in ("two-gpus", "cheap") for nodes in (1, 2) for batch in (16, 64)
    ]
    for o in outcomes:
        assert o.samples_per_second == pytest.approx(1000 * o.batch_size * o.ranks / o.step_ms)
        assert o.price_per_billion_samples == pytest.approx(o.price_per_hour / (o.samples_per_second * 3600) * 1e9)
    best = cheapest(outcomes)
    assert (best.cluster, best.nodes, best.batch_size) == ("cheap", 1, 64)


def test_rows_that_do_not_fit_say_why_and_are_not_the_cheapest(tmp_path: Path):
    outcomes = sweep(problem(tmp_path, text=BIG), [cluster()], [1, 8], [16])
    assert outcomes[0].step_ms is None and "no plan for 5 tables" in outcomes[0].why
    assert cheapest(outcomes) == outcomes[1]
    assert cheapest(outcomes[:1]) is None
    assert cheapest([Outcome("a", 2, 16, 1, step_ms=1.0), Outcome("b", 1, 8, 1, step_ms=9.0)]).cluster == "b"


def test_the_fewest_nodes_are_enough_and_one_less_is_not(tmp_path: Path):
    placed = fewest_nodes(problem(tmp_path, text=BIG))
    assert placed.problem.nodes > 1
    with pytest.raises(DoesNotFit):
        place(placed.problem.changed(nodes=placed.problem.nodes - 1))
    with pytest.raises(DoesNotFit):
        fewest_nodes(problem(tmp_path, text=BIG, hardware={"max_nodes": 2}))
    assert fewest_nodes(problem(tmp_path)).problem.nodes == 1


def test_when_nothing_fits_every_offered_change_does(tmp_path: Path):
    asked = problem(tmp_path, text=BIG, nodes=2)
    changes = {change.what: change.placed for change in smallest_changes(asked)}
    for placed in changes.values():
        assert placed.memory.peak.max() <= placed.problem.usable
    (host,) = [placed for what, placed in changes.items() if what.startswith("keep 1 table(s) in host memory")]
    assert {o.compute_kernel for o in host.options if o.name == "user"} == {"fused_uvm_caching"}
    assert any("half precision" in what for what in changes)
    (nodes,) = [what for what in changes if "nodes" in what]
    assert nodes.endswith("instead of 2")


def test_constraints_in_the_way_are_found(tmp_path: Path):
    text = CONFIG.replace("num_embeddings: 900", "num_embeddings: 300000000")
    (tmp_path / "c.yaml").write_text("tables: {user: {sharding: [table_wise]}}")
    asked = problem(tmp_path, text=text, nodes=2, constraints=str(tmp_path / "c.yaml"))
    first = next(iter(smallest_changes(asked)))
    assert first.what.startswith("lift the constraints")
    assert {o.sharding_type for o in first.placed.options if o.name == "user"} != {"table_wise"}


def test_a_batch_too_large_is_found(tmp_path: Path):
    changes = [change.what for change in smallest_changes(problem(tmp_path, CPU, batch_size=1_000_000))]
    assert any(what.startswith("use a batch of ") for what in changes)


def test_parse_sweep():
    assert parse_sweep(["nodes=1,2", "cluster=a,b", "batch=64"]) == {
        "nodes": ["1", "2"],
        "cluster": ["a", "b"],
        "batch": ["64"],
    }


@pytest.mark.parametrize(
    "part",
    [
        "nodes",
        "nodes=",
        "gpus=1",
        "nodes=0",
        "nodes=1,x",
        "batch=-1",
        "batch=1.5",
        "nodes=,",
        "nodes=1,,2",
        "nodes=\u00b2",
        "batch=9999999999999999999999",
    ],
)
def test_bad_sweeps(part):
    with pytest.raises(InputError, match="--what-if"):
        parse_sweep([part])
