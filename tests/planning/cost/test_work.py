from __future__ import annotations

import pytest

from interformer_rec.planning.cost.lengths import Lengths
from interformer_rec.planning.cost.load import Job, TableLoad
from interformer_rec.planning.cost.repeats import Repeats
from interformer_rec.planning.cost.work import shares, work

JOB = Job(ranks=8, local_ranks=4, batch_size=100, device="cuda")


def table(pooled: bool = True, **changes) -> TableLoad:
    fields = {
        "name": "t", "rows": 1000, "dim": 32, "pooled": pooled, "lengths": (Lengths.constant(3),), "optimizer": "sgd",
    }  # fmt: skip
    return TableLoad(**(fields | changes))


def test_shares_of_a_link():
    assert shares("table_wise", 8, 8) == (7 / 8, 0)
    assert shares("table_wise", 32, 8) == (7 / 32, 24 / 32)
    assert shares("table_row_wise", 32, 8) == (7 / 8, 24 / 32 / 8)
    assert shares("row_wise", 1, 1) == (0, 0)


def test_by_hand():
    done = work(table(), "table_wise", (1000, 32), JOB)
    vectors = 8 * 100 * 32 * 4
    assert (done.ids, done.made) == (2400, vectors)
    assert (done.near, done.far) == (vectors * 3 / 8, vectors * 4 / 8)
    assert done.read == 2400 * 32 * 4
    assert done.near_ids + done.far_ids == pytest.approx((2400 * 8 + 800 * 4) * 7 / 8)
    events = work(table(pooled=False), "table_wise", (1000, 32), JOB)
    assert events.made == 2400 * 32 * 4


def test_a_rank_without_rows_adds_up_zeros_but_receives_no_ids():
    """A 5-row table on 8 ranks: a reduce-scatter has no empty part; an all-to-all has."""
    sums = [work(table(rows=5), "row_wise", (rows, 32), JOB) for rows in (1, 0)]
    assert sums[0].near == sums[1].near > 0 and sums[0].far == sums[1].far
    assert sums[1].ids == sums[1].read == sums[1].state == sums[1].near_ids == 0
    full, empty = (work(table(pooled=False, rows=5), "row_wise", (rows, 32), JOB) for rows in (1, 0))
    assert full.ids == pytest.approx(2400 / 5) and empty.near == empty.far == empty.ids == 0


def test_all_ids_are_somewhere():
    skewed = Repeats(head=((1.0, 0.1), (10.0, 0.3), (100.0, 0.7)))
    for repeats in (Repeats(), skewed):
        for pooled in (True, False):
            one = table(pooled, repeats=repeats, ordered=True)
            parts = [work(one, "row_wise", (125, 32), JOB, first=i == 0) for i in range(8)]
            assert sum(part.ids for part in parts) == pytest.approx(2400)
    assert parts[0].ids > 0.7 * 2400  # the most frequent 125 of a vocabulary lie on the first rank


def test_a_distinct_id_is_asked_for_once_a_rank():
    once = Job(ranks=8, local_ranks=4, batch_size=100, device="cuda", deduplicate=True)
    hot = Repeats(((300.0, 60.0), (2400.0, 110.0)))
    done = work(table(False, repeats=hot), "table_wise", (1000, 32), once)
    assert done.ids == pytest.approx(8 * 60) and done.made == pytest.approx(8 * 60 * 32 * 4)
    assert done.distinct == pytest.approx(110)
    pooled = work(table(True, repeats=hot), "table_wise", (1000, 32), once)
    assert pooled.ids == 2400  # TorchRec has no such form of an EmbeddingBagCollection


def test_precision_of_vectors_and_state_of_optimizers():
    half = work(table(), "table_wise", (1000, 32), Job(8, 4, 100, "cuda", communication="bf16"))
    full = work(table(), "table_wise", (1000, 32), JOB)
    assert half.near == full.near / 2 and half.far_back == full.far_back / 2 and half.near_ids == full.near_ids
    state = {kind: work(table(optimizer=kind), "table_wise", (1000, 32), JOB).state for kind in
             ("sgd", "rowwise_adagrad", "adagrad", "adam")}  # fmt: skip
    assert state["adagrad"] == 2 * state["sgd"] and state["adam"] == 3 * state["sgd"]
    assert state["rowwise_adagrad"] == pytest.approx(state["sgd"] * 33 / 32)
