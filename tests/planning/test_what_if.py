from __future__ import annotations

from pathlib import Path

import pytest

from interformer_rec.errors import InputError
from interformer_rec.planning.answer import DoesNotFit, place
from interformer_rec.planning.choose.compare import by_price, fewest_devices
from interformer_rec.planning.what_if import fewest_nodes, parse_sweep, sweep
from tests.planning.cases import CONFIG, cluster, problem

BIG = CONFIG.replace("num_embeddings: 900", "num_embeddings: 1500000000")  # 89 GiB of weights, 5.6 of state


def test_a_sweep_has_a_row_for_every_job(tmp_path: Path):
    dear, cheap = cluster(price_per_node_hour=100), cluster(name="cheap", price_per_node_hour=10)
    outcomes = sweep(problem(tmp_path), [dear, cheap], [1, 2], [16, 64])
    assert [(o.cluster, o.nodes, o.batch_size) for o in outcomes] == [
        (name, nodes, batch) for name in ("two-gpus", "cheap") for nodes in (1, 2) for batch in (16, 64)
    ]
    for o in outcomes:
        assert o.samples_per_second == pytest.approx(1000 * o.batch_size * o.ranks / o.step_ms)
        assert o.price_per_million_samples == pytest.approx(o.price_per_hour / (o.samples_per_second * 3600) * 1e6)


def test_rows_that_do_not_fit_say_why_and_are_not_the_cheapest(tmp_path: Path):
    outcomes = sweep(problem(tmp_path, text=BIG), [cluster()], [1, 8], [16])
    assert outcomes[0].step_ms is None and "no plan for 5 tables" in outcomes[0].why
    assert fewest_devices(outcomes) == [outcomes[1]]
    assert fewest_devices(outcomes[:1]) == by_price(outcomes) == []


def test_the_fewest_nodes_are_enough_and_one_less_is_not(tmp_path: Path):
    placed = fewest_nodes(problem(tmp_path, text=BIG))
    assert placed.problem.nodes > 1
    with pytest.raises(DoesNotFit):
        place(placed.problem.changed(nodes=placed.problem.nodes - 1))
    with pytest.raises(DoesNotFit):
        fewest_nodes(problem(tmp_path, text=BIG, hardware={"max_nodes": 2}))
    assert fewest_nodes(problem(tmp_path)).problem.nodes == 1


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
