"""A better plan for a run. In: a run that has measured, a cluster; out: Better, its plan and the new one, both counted alike, and the move.

Both are counted for the run's own ranks, batch size and sizes of its data, so that the difference is one of the plans alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from interformer_rec.distributed.sharding import tables_of
from interformer_rec.planning.answer import Placed, place
from interformer_rec.planning.constraints import kinds_of, load_constraints
from interformer_rec.planning.cost.cluster import Cluster
from interformer_rec.planning.cost.load import STATE, TableLoad
from interformer_rec.planning.question import Problem
from interformer_rec.planning.score.measured_file import Run
from interformer_rec.planning.score.score import STEP, score
from interformer_rec.planning.table_plan import TablePlan


@dataclass(frozen=True, eq=False)
class Better:
    """`measured_ms`: a step of the run, None where it measured no time; `arriving`: (ranks,) bytes that a rank has to be sent."""

    now: Placed
    new: Placed
    measured_ms: float | None
    arriving: np.ndarray
    moved: tuple[str, ...]  # tables of which some rank gets rows

    @property
    def gain_ms(self) -> float:
        """Milliseconds by which a step becomes shorter."""
        return self.now.time.total - self.new.time.total

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "now_ms": self.now.time.total,
            "new_ms": self.new.time.total,
            "gain_ms": self.gain_ms,
            "measured_ms": self.measured_ms,
            "exchange": {"now": vars(self.now.exchange), "new": vars(self.new.exchange)},
            "peak": {"now": self.now.memory.peak.tolist(), "new": self.new.memory.peak.tolist()},
            "arriving_bytes": self.arriving.tolist(),
            "moved_tables": list(self.moved),
        }


def better_plan(run: Run, cluster: Cluster, job: str) -> Better:
    """`job`: the cluster in words. Raises InputError where the run's plan is not for its config, DoesNotFit where nothing fits."""
    found = score(run, cluster, job)
    now = found.placed
    new = place(_asked(now.problem, run))
    if new.time.total > now.time.total:  # the search misses what is better by chance: it is not offered instead of it
        new = replace(now, choice=new.choice)
    before, after = ({option.name: TablePlan.of(option) for option in placed.options} for placed in (now, new))
    arriving = {
        name: arriving_bytes(table, before[name], after[name], now.problem.ranks)
        for name, table in now.problem.tables.items()
    }
    moved = tuple(name for name, count in arriving.items() if count.any())
    measured = next((row.measured for row in found.time if row.name == STEP), None)
    total = sum(arriving.values(), np.zeros(now.problem.ranks))
    return Better(now, new, measured[0] if measured else None, total, moved)


def _asked(scored: Problem, run: Run) -> Problem:
    """The run's job with its constraints, and the exchange open where its config leaves it so."""
    kinds = kinds_of(tables_of(scored.model), run.config.optimizer.embedding.kind)
    return scored.changed(exchange=None, constraints=load_constraints(None, run.config.sharding, kinds))


def arriving_bytes(table: TableLoad, before: TablePlan, after: TablePlan, ranks: int) -> np.ndarray:
    """(ranks,) bytes of weights and optimizer state that a rank of the plan `after` needs and has not had in `before`."""
    per_row, per_number = STATE[table.optimizer]
    held: Mapping[int, list[tuple[int, ...]]] = {rank: [] for rank in range(ranks)}
    for rank, *rectangle in before.shards:
        held[rank].append(tuple(rectangle))
    found = np.zeros(ranks)
    for rank, row, column, rows, columns in after.shards:
        numbers = rows * columns
        for other_row, other_column, other_rows, other_columns in held[rank]:
            high = min(row + rows, other_row + other_rows) - max(row, other_row)
            wide = min(column + columns, other_column + other_columns) - max(column, other_column)
            numbers -= max(0, high) * max(0, wide)
        if numbers:  # a state of the row goes with its piece of the row
            found[rank] += numbers * (table.weight_bytes + per_number + per_row / columns)
    return found
