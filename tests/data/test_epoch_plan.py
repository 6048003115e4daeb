"""The plan of an epoch: every row once, equal steps, and resuming, also on another number of ranks."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from interformer_rec.config.data import DataConfig
from interformer_rec.data.epoch_plan import Cursor, Plan, plan_epoch
from interformer_rec.errors import InputError

GROUP_ROWS = np.array([7, 1, 12, 5, 30, 2, 9, 4, 17, 3])
TOTAL = int(GROUP_ROWS.sum())


def planned(group_rows: np.ndarray = GROUP_ROWS, **options: Any) -> Plan:
    """Options of `data:` and of plan_epoch."""
    data = {key: options.pop(key) for key in ("batch_size", "shuffle_rows", "balance") if key in options}
    return plan_epoch(group_rows, DataConfig(**{"shuffle_rows": 0, "balance": "none", **data}), **options)


def rows_of(plan: Plan, rank: int, step: int) -> list[int]:
    """Global row numbers (in file order) of a batch."""
    starts = np.cumsum(GROUP_ROWS) - GROUP_ROWS
    out = []
    for span in plan.batch(rank, step):
        rows = np.concatenate([starts[g] + np.arange(GROUP_ROWS[g]) for g in plan.buffers[span.buffer]])
        out += rows[plan.order(span.buffer, rows**2 % 97, rows % 13)[span.start : span.stop]].tolist()
    return out


def all_rows(plan: Plan) -> list[list[list[int]]]:
    return [[rows_of(plan, r, s) for s in range(plan.first_step, plan.steps)] for r in range(plan.world_size)]


def flat(nested: list[list[list[int]]]) -> list[int]:
    return [row for of_rank in nested for batch in of_rank for row in batch]


@pytest.mark.parametrize("balance", ["none", "events", "groups"])
@pytest.mark.parametrize("shuffle_rows", [0, 1, 10, 25, 1000])
@pytest.mark.parametrize("world_size", [1, 2, 3, 7, 100])
def test_every_row_is_read_once_and_every_rank_has_as_many_steps(world_size, shuffle_rows, balance):
    options = {"world_size": world_size, "shuffle_rows": shuffle_rows, "balance": balance}
    plan = planned(batch_size=4, seed=3, epoch=2, **options)
    batches = all_rows(plan)
    assert sorted(flat(batches)) == list(range(TOTAL))
    assert {len(of_rank) for of_rank in batches} == {plan.steps}
    sizes = [sum(map(len, of_rank)) for of_rank in batches]
    assert max(sizes) - min(sizes) <= 1 and plan.rank_rows.tolist() == sizes
    for step in range(plan.steps):
        together = sum(len(of_rank[step]) for of_rank in batches)
        assert plan.loss_rows(step) == pytest.approx(together / world_size)


def test_units_hold_at_least_shuffle_rows_and_do_not_depend_on_the_world_size():
    one = planned(batch_size=4, seed=1, shuffle_rows=20)
    many = planned(batch_size=9, world_size=5, seed=1, shuffle_rows=20)
    assert (one.buffer_rows[:-1] >= 20).all()
    assert [u.tolist() for u in one.buffers] == [u.tolist() for u in many.buffers]
    assert flat(all_rows(one)) == flat(all_rows(many))


def test_rows_of_a_group_follow_each_other_in_a_unit_and_groups_are_shuffled():
    plan = planned(batch_size=4, seed=3, shuffle_rows=1000, balance="groups")
    order = [row % 13 for row in flat(all_rows(plan))]
    runs = [group for group, before in zip(order, [-1, *order], strict=False) if group != before]
    assert len(runs) == len(set(runs)) == 13 and runs != sorted(runs)
    rows = [row for row in flat(all_rows(plan)) if row % 13 == 5]
    assert rows != sorted(rows)


def test_seed_and_epoch_change_the_order_and_nothing_else_does():
    def order(**options) -> list[int]:
        return flat(all_rows(planned(batch_size=8, shuffle_rows=20, **options)))

    assert order(seed=1) == order(seed=1)
    assert len({tuple(order(seed=s, epoch=e)) for s in (0, 1) for e in (0, 1)}) == 4
    assert order(seed=1) != sorted(order(seed=1))
    for balance in ("none", "events", "groups"):
        in_order = flat(all_rows(planned(batch_size=8, world_size=3, seed=5, epoch=4, balance=balance)))
        assert in_order == list(range(TOTAL))


@pytest.mark.parametrize("balance", ["none", "events", "groups"])
@pytest.mark.parametrize("step", [0, 1, 3, 5, 6])
def test_a_cursor_resumes_the_same_batches(step, balance):
    options = {"batch_size": 8, "world_size": 2, "seed": 1, "shuffle_rows": 20, "balance": balance}
    plan = planned(epoch=3, **options)
    cursor = Cursor.from_dict(json.loads(json.dumps(plan.cursor(step).to_dict())))
    assert cursor == plan.cursor(step)
    other_epoch = planned(epoch=0, **options)
    resumed = other_epoch.remaining(cursor)
    assert all_rows(resumed) == [of_rank[step:] for of_rank in all_rows(plan)]
    assert resumed.rank_buffers(0) == list(
        dict.fromkeys(s.buffer for k in range(step, plan.steps) for s in plan.batch(0, k))
    )


@pytest.mark.parametrize("balance", ["none", "events", "groups"])
def test_unread_rows_are_divided_anew_over_other_world_sizes_and_again(balance):
    options = {"seed": 1, "shuffle_rows": 15, "balance": balance}
    plan = planned(batch_size=4, world_size=3, epoch=2, **options)
    seen: list[int] = []
    for world_size, steps in ((5, 3), (2, 2), (7, 4), (1, 1), (4, None)):
        batches = all_rows(plan)
        if steps is None:
            seen += flat(batches)
            break
        upto = plan.first_step + steps
        seen += flat([of_rank[:steps] for of_rank in batches])
        new = planned(batch_size=3, world_size=world_size, **options)
        plan = new.remaining(plan.cursor(upto))
        assert plan.world_size == world_size and plan.epoch == 2
    else:
        seen += flat(all_rows(plan))
    assert sorted(seen) == list(range(TOTAL))


def test_a_finished_epoch_leaves_nothing():
    plan = planned(batch_size=8, world_size=2, shuffle_rows=20)
    for world_size in (2, 3):
        new = planned(batch_size=8, world_size=world_size, shuffle_rows=20)
        left = new.remaining(plan.cursor(plan.steps))
        assert left.steps - left.first_step == 0


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"seed": 9}, "seed"),
        ({"shuffle_rows": 21}, "shuffle_rows"),
        ({"group_rows": GROUP_ROWS[::-1].copy()}, "data"),
        ({"balance": "events"}, "balance changed since the checkpoint .none then, events now"),
    ],
)
def test_a_cursor_of_something_else_is_refused(changed, named):
    options = {"group_rows": GROUP_ROWS, "batch_size": 8, "seed": 1, "shuffle_rows": 20}
    cursor = planned(**options).cursor(1)
    with pytest.raises(InputError, match=named):
        planned(**{**options, **changed}).remaining(cursor)
