"""What a sweep's jobs are compared by: price of samples where it is known, never devices of different kinds."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from interformer_rec.planning.answer import place
from interformer_rec.planning.choose.compare import by_price, fewest_devices, scaling, without_price
from interformer_rec.planning.choose.sweep_table import show_sweep
from interformer_rec.planning.what_if import Outcome, sweep
from tests.planning.cases import cluster, problem


def job(
    name: str, nodes: int, step: float, price: float | None = None, items: dict[str, float] | None = None
) -> Outcome:
    """Of 8 ranks a node and 100 rows a rank; `price`: of a node and hour."""
    samples = 1000 * 100 * 8 * nodes / step
    million = price * nodes / 3600 / samples * 1e6 if price else None
    return Outcome(
        name,
        nodes,
        8 * nodes,
        100,
        step,
        samples,
        1.0,
        "host",
        price and price * nodes,
        million,
        items=items or {"host": step},
    )


JOBS = [
    job("old", 1, 20.0, price=30), job("new", 1, 8.0, price=90), job("new", 2, 9.0, price=90),
    job("ours", 4, 7.0), job("ours", 2, 7.5), job("theirs", 1, 99.0), Outcome("old", 9, 72, 100, why="too large"),
]  # fmt: skip


def shown(jobs: list[Outcome]) -> str:
    console = Console(width=160, file=io.StringIO())
    show_sweep(console, jobs)
    return console.file.getvalue()


def test_jobs_are_ranked_by_what_samples_cost_and_not_by_devices():
    """A million samples take step / (100 rows x 8 ranks x nodes) ms of all nodes."""
    ranked = by_price(JOBS)
    hand = {("old", 1): 20 / 800 * 30, ("new", 1): 8 / 800 * 90, ("new", 2): 9 / 800 * 90}
    assert [(one.cluster, one.nodes) for one in ranked] == sorted(hand, key=hand.get)
    for one in ranked:
        assert one.price_per_million_samples == pytest.approx(hand[one.cluster, one.nodes] / 3600 / 1000 * 1e6)
    assert [one.cluster for one in without_price(JOBS)] == ["ours", "ours", "theirs"]
    assert [(one.cluster, one.nodes) for one in fewest_devices(JOBS)] == [("ours", 2), ("theirs", 1)]


def test_unknown_prices_are_listed_apart_and_kinds_are_not_compared():
    text = shown(JOBS)
    assert (
        text.index("cheapest samples first")
        < text.index("of unknown price")
        < text.index("No plan for 9 x old, 100 rows a rank: too large")
    )
    assert "Cheapest samples: 1 x old, 100 rows a rank, 0.208 a million (30.00 an hour)" in text
    assert "Devices of different kinds are not compared" in text
    alone = shown([job("ours", 4, 7.0), job("ours", 2, 7.5)])
    assert "different kinds" not in alone and "Fewest devices of ours: 2 x ours" in alone
    assert "None of them fits: too large" in shown(JOBS[-1:])


def test_scaling_names_what_grows():
    one, four = ({"dense": 5.0, "exchange": part, "host": host} for part, host in ((1.0, 2.0), (4.0, 2.5)))
    (found,) = scaling([job("new", 4, sum(four.values()), items=four), job("new", 1, sum(one.values()), items=one)])
    assert (found.nodes, found.than_nodes, found.cause) == (4, 1, "exchange")
    assert found.efficiency == pytest.approx(8 / 11.5) and found.grew_ms == pytest.approx(3.0)
    assert "do 70% a device of what 1 do: exchange grows most, by 3 ms" in found.text


def test_a_slow_network_is_the_cause_that_is_found(tmp_path: Path):
    outcomes = sweep(problem(tmp_path, batch_size=4096), [cluster(inter_node_gb_per_s=0.05)], [1, 2, 4], [4096])
    for found, outcome in zip(scaling(outcomes), outcomes[1:], strict=True):
        assert found.efficiency == pytest.approx(outcomes[0].step_ms / outcome.step_ms)  # as many rows a rank
        assert found.efficiency < 0.9 and found.cause in (
            "all-reduce, not hidden",
            "all-to-all forward",
            "all-to-all backward",
        )
    placed = place(problem(tmp_path, batch_size=4096))
    assert outcomes[0].items == pytest.approx(placed.time.items)
