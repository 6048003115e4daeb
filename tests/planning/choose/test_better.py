"""A better plan for a run: bytes that would move, number by number; and that no plan of a small job is better than the one offered."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from interformer_rec.planning.answer import SLACK, place, placed_of_plan
from interformer_rec.planning.choose.better import arriving_bytes
from interformer_rec.planning.choose.exchange import Exchange
from interformer_rec.planning.cost.load import STATE, TableLoad
from interformer_rec.planning.cost.timing import step_time
from interformer_rec.planning.table_plan import TablePlan
from tests.planning.cases import CPU, problem
from tests.planning.choose.test_exchange import plans

RANKS, ROWS, DIM = 4, 24, 16


def cut(draw: random.Random) -> TablePlan:
    """A table of ROWS x DIM, cut somehow; replicated, or each piece on a rank."""
    if draw.random() < 0.2:
        shards = [(rank, 0, 0, ROWS, DIM) for rank in range(RANKS)]
        return TablePlan(sharding="data_parallel", kernel="dense", shards=shards)
    rows, columns = draw.choice([1, 2, 4]), draw.choice([1, 2, 4])
    high, wide = ROWS // rows, DIM // columns
    pieces = [(i * high, j * wide, high, wide) for i in range(rows) for j in range(columns)]
    return TablePlan(sharding="grid", kernel="fused", shards=[(draw.randrange(RANKS), *piece) for piece in pieces])


def held(plan: TablePlan) -> np.ndarray:
    """[ranks, rows, columns] is the number there?"""
    found = np.zeros((RANKS, ROWS, DIM), bool)
    for rank, row, column, rows, columns in plan.shards:
        found[rank, row : row + rows, column : column + columns] = True
    return found


@pytest.mark.parametrize("optimizer", STATE)
def test_bytes_that_move_number_by_number(optimizer: str):
    draw = random.Random(3)
    table = TableLoad("t", ROWS, DIM, True, (), optimizer)
    per_row, per_number = STATE[optimizer]
    for _ in range(50):
        before, after = cut(draw), cut(draw)
        expected = np.zeros(RANKS)
        there = held(before)
        for rank, row, column, rows, columns in after.shards:
            new = ~there[rank, row : row + rows, column : column + columns]
            expected[rank] += new.sum() * (4 + per_number) + new.sum() / columns * per_row
        np.testing.assert_allclose(arriving_bytes(table, before, after, RANKS), expected)
        assert not arriving_bytes(table, after, after, RANKS).any()


def test_the_plan_offered_is_the_best_of_all_plans(tmp_path: Path):
    """From the slowest plan of a job to one that no other beats by more than what is spent on memory."""
    (tmp_path / "c.yaml").write_text("tables: {city: {sharding: [data_parallel]}, words: {sharding: [table_wise]}}")
    asked = problem(tmp_path, CPU, constraints=str(tmp_path / "c.yaml")).changed(exchange=Exchange(False, "fp32"))
    every = sorted(plans(asked), key=lambda plan: step_time(asked, plan).total)
    now = placed_of_plan(asked, {option.name: TablePlan.of(option) for option in every[-1]})
    assert now.time.total == pytest.approx(step_time(asked, every[-1]).total)
    new = place(asked)
    assert new.time.total <= step_time(asked, every[0]).total * (1 + SLACK) < now.time.total
