"""2D groups by hand: a group's plan, the dense all-reduce of all, and a ring that averages the tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from interformer_rec.errors import InputError
from interformer_rec.planning.answer import DoesNotFit, place
from interformer_rec.planning.choose.compare import by_price, in_groups, scaling, without_price
from interformer_rec.planning.choose.replicas import replicated
from interformer_rec.planning.what_if import Outcome, sweep
from tests.planning.cases import CONFIG, cluster, problem


def test_a_step_by_hand(tmp_path: Path):
    asked = problem(tmp_path, nodes=4, batch_size=4096, hardware={"inter_node_gb_per_s": 0.5})
    found = replicated(asked, 2)
    inner = place(problem(tmp_path, nodes=2, batch_size=4096, hardware={"inter_node_gb_per_s": 0.5}))
    for item in ("lookup", "all-to-all forward", "all-to-all backward", "update", "dense forward"):
        assert found.time.items[item] == pytest.approx(inner.time.items[item])
    assert found.time.all_reduce == place(asked).time.all_reduce
    assert found.time.starts == pytest.approx(
        inner.time.starts + 0.03 * (8 - 4) / 100
    )  # of the all-reduce alone, in ms
    held = (inner.memory.always["table weights"] + inner.memory.always["table optimizer state"]).max()
    assert found.sync_ms == pytest.approx(2 * 1 / 2 * held / (0.5e6 * 0.8))
    assert found.step_ms == found.time.total + found.sync_ms


def test_from_when_on_it_pays():
    job = Outcome("a", 4, 8, 16, step_ms=10.0)
    two = replace(job, groups=2, step_ms=8.0 + 7.0, sync_ms=7.0)  # saves 2 ms a step, an average costs 7
    four = replace(job, groups=4, step_ms=11.0 + 1.0, sync_ms=1.0)
    assert in_groups([job, two, four]) == [(two, 4), (four, None)]
    assert in_groups([two]) == [(two, None)]


def test_groups_that_cannot_be(tmp_path: Path):
    for groups in (0, 1, 3):
        with pytest.raises(InputError, match=f"{groups} groups do not divide 4 nodes"):
            replicated(problem(tmp_path, nodes=4), groups)
    big = CONFIG.replace("num_embeddings: 900", "num_embeddings: 700000000")  # 42 GiB: four nodes hold it, one does not
    with pytest.raises(DoesNotFit):
        replicated(problem(tmp_path, nodes=4, text=big), 4)


def test_a_sweep_lists_them_apart(tmp_path: Path):
    outcomes = sweep(problem(tmp_path), [cluster(price_per_node_hour=3)], [2], [16], [1, 2])
    alone, two = outcomes
    assert (alone.groups, two.groups) == (1, 2) and two.step_ms > two.sync_ms > 0
    assert by_price(outcomes) == [alone] and without_price(outcomes) == [] and scaling(outcomes) == []
