"""A plan's prediction against a run. In: a Run and a Cluster; out: Score, memory by item and rank, milliseconds by stage.

The plan is the one the run really had, its config, batch size, ranks and statistics too; the numbers are memory.py's and timing.py's.
Collectives count the time of the rank that came last: the others waited for it, and that is the line "waiting for other ranks".
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from interformer_rec.errors import InputError
from interformer_rec.planning.answer import Placed, placed_of_plan
from interformer_rec.planning.constraints import Constraints
from interformer_rec.planning.cost.cluster import Cluster, load_cluster
from interformer_rec.planning.cost.evaluation_memory import evaluation_memory
from interformer_rec.planning.cost.lengths import Lengths
from interformer_rec.planning.cost.memory import DECODING, HOLES, RankMemory, constant_bytes, rank_memory
from interformer_rec.planning.cost.sizes import Sizes, find_sizes
from interformer_rec.planning.question import Problem
from interformer_rec.planning.score.measured_file import Run

TABLES_WITHIN, PEAK_WITHIN = 0.02, 0.15  # what a prediction has to keep
RUNTIME = "runtime"
ITEMS = {  # of the plan -> of measured.json
    RUNTIME: "before",
    "table weights": "tables",
    "table optimizer state": "table_state",
    "dense parameters": "dense_parameters",
    "dense gradients and DDP buckets": "gradients",
    "dense optimizer (Adam, two moments)": "dense_state",
}
REST, PEAK, TABLES = "everything else at the peak", "peak", "tables and their optimizer state"
EVALUATION = "peak of an evaluation"
ALL_REDUCE, IDS = "all-reduce, not hidden", "ids' all-to-all, not hidden"
STAGES = {  # of the plan -> of measured.json, and how the ranks' times become one
    "lookup": ("lookup", "max"),
    "all-to-all forward": ("vectors", "min"),
    "dense forward": ("dense_forward", "mean"),
    "dense backward": ("dense_backward", "mean"),
    ALL_REDUCE: ("all_reduce", "min"),
    "all-to-all backward": ("vectors_back", "min"),
    "update": ("update", "max"),
    IDS: ("ids", "min"),
}
# What starts collectives: in the plan an item of its own, in a run a part of these stages.
COLLECTIVE = ("all-to-all forward", ALL_REDUCE, "all-to-all backward")
FIXED, STEP = "data, optimizer, trainer, waiting for other ranks", "step"


@dataclass(frozen=True)
class Row:
    """One line: `predicted` and `measured` by rank (bytes), or one number each (ms)."""

    name: str
    predicted: tuple[float, ...]
    measured: tuple[float, ...] | None

    @property
    def error(self) -> float | None:
        """(predicted - measured) / measured where it is largest; None without a measurement or where nothing was measured."""
        pairs = [(p, m) for p, m in zip(self.predicted, self.measured or (), strict=False) if m]
        return max(((p - m) / m for p, m in pairs), key=abs) if pairs else None


@dataclass(frozen=True, eq=False)
class Score:
    """What was predicted and what came. `time` is empty, and `why_no_time` says why, for a run too short to measure it."""

    run: Run
    placed: Placed
    job: str
    memory: tuple[Row, ...]
    time: tuple[Row, ...]
    why_no_time: str
    holes: float  # bytes predicted to be kept by malloc, and to be under way in the loader; 0 on CUDA
    decoding: float

    def row(self, name: str) -> Row:
        """A line by its name."""
        return next(row for row in (*self.memory, *self.time) if row.name == name)

    def has(self, name: str) -> bool:
        """Is there such a line."""
        return any(row.name == name for row in (*self.memory, *self.time))

    @property
    def verdicts(self) -> dict[str, bool | None]:
        """What had to hold -> did it; None: the system does not tell."""

        def within(name: str, bound: float) -> bool | None:
            error = self.row(name).error
            return None if error is None else abs(error) <= bound

        return {
            f"tables and optimizer state within {TABLES_WITHIN:.0%}": within(TABLES, TABLES_WITHIN),
            f"peak within {PEAK_WITHIN:.0%}": within(PEAK, PEAK_WITHIN),
            **(
                {f"{EVALUATION} within {PEAK_WITHIN:.0%}": within(EVALUATION, PEAK_WITHIN)}
                if self.has(EVALUATION)
                else {}
            ),
        }

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: bytes by rank, milliseconds, errors as shares."""

        def rows(given: tuple[Row, ...]) -> dict[str, Any]:
            return {
                row.name: {"predicted": row.predicted, "measured": row.measured, "error": row.error} for row in given
            }

        measured = self.run.measured
        return {
            "run": self.run.place,
            "job": self.job,
            "cluster": self.placed.problem.cluster.name,
            "ranks": measured.ranks,
            "batch_size": self.placed.problem.batch_size,
            "memory": rows(self.memory),
            "process_peak": [rank.memory.process_peak for rank in measured.by_rank],
            "time": rows(self.time),
            "why_no_time": self.why_no_time,
            "verdicts": self.verdicts,
        }


def cluster_of(run: Run, name: str | None) -> tuple[Cluster, str]:
    """The cluster to predict for, and one sentence on it. Raises InputError for one that the run cannot have been on."""
    measured, local = run.measured, run.measured.ranks_per_node
    if name is None and measured.device == "cuda":
        raise InputError(
            f"run {run.place!r} was on GPUs: name the machine with --cluster, one of configs/clusters/ or a YAML file"
        )
    cluster = load_cluster(name or "cpu")
    if cluster.device != measured.device:
        raise InputError(
            f"run {run.place!r} was on {measured.device}, cluster {cluster.name!r} is for {cluster.device}: name another with "
            "--cluster"
        )
    if measured.device == "cuda" and local > cluster.devices_per_node:
        raise InputError(
            f"the run had {local} ranks a node, cluster {cluster.name!r} has {cluster.devices_per_node} devices a node"
        )
    if measured.ranks % local:
        raise InputError(
            f"the run had {measured.ranks} ranks, {local} on the first node: nodes of different sizes cannot be scored"
        )
    if local == cluster.devices_per_node:
        return cluster, f"cluster {cluster.name}"
    # A node's memory, its bandwidth and price are one machine's, however many processes share it.
    return cluster.model_copy(
        update={"devices_per_node": local}
    ), f"cluster {cluster.name} with the run's {local} rank(s) a node"


def score(run: Run, cluster: Cluster, job: str) -> Score:
    """Predict and compare. Raises InputError where the run's plan is not for its own config and data."""
    config, measured = run.config, run.measured
    sizes = _sizes(run)
    nodes = measured.ranks // measured.ranks_per_node
    problem = Problem(
        config=config,
        cluster=cluster,
        nodes=nodes,
        batch_size=config.data.batch_size,
        sizes=sizes,
        constraints=Constraints(),
        exchange=run.exchange,
    )
    placed = placed_of_plan(problem, run.plan)
    memory = _memory(run, placed)
    holes, decoding = (
        float(items[name][0]) if name in items else 0.0
        for items, name in ((memory.dense_stage, HOLES), (memory.exchange, DECODING))
    )
    rows = (*_memory_rows(run, memory), *_evaluation_rows(run, placed, memory))
    return Score(run, placed, job, rows, _time_rows(run, placed), measured.why_no_time, holes, decoding)


def _sizes(run: Run) -> Sizes:
    """From data.json; ids of a bag, which it does not have, from the measured steps."""
    known = find_sizes(run.config, None, run.folder.folder("data.json").location)
    elements = run.measured.elements
    bags = {bag.name: Lengths.constant(elements[bag.name]) for bag in run.config.features.bags if bag.name in elements}
    return replace(known, lengths={**known.lengths, **bags})


def _memory(run: Run, placed: Placed) -> RankMemory:
    """As the plan has it, with the rows of the data known."""
    problem = placed.problem
    train_rows = run.facts.get("train", {}).get("rows")
    job = replace(problem.job, overhead=problem.cluster.overhead, train_rows=train_rows)
    constant = constant_bytes(problem.config, job, problem.sizes, problem.dense, problem.dense_parameters)
    return rank_memory(
        placed.options, problem.tables, job, constant, (placed.memory.capacity, placed.memory.host_capacity)
    )


def _memory_rows(run: Run, memory: RankMemory) -> tuple[Row, ...]:
    memories = [rank.memory for rank in run.measured.by_rank]

    def measured(*names: str) -> tuple[float, ...] | None:
        values = [[getattr(rank, name) for name in names] for rank in memories]
        return None if any(None in row for row in values) else tuple(float(sum(row)) for row in values)

    # torch's allocator, which is asked on CUDA, knows neither context nor NCCL: the runtime is left out there
    items = {name: field for name, field in ITEMS.items() if run.measured.device == "cpu" or name != RUNTIME}
    rows = [Row(name, tuple(memory.always[name]), measured(field)) for name, field in items.items()]
    tables = memory.always["table weights"] + memory.always["table optimizer state"]
    peak = measured("peak")
    known = None if peak is None else measured(*items.values())
    rest = None if peak is None or known is None else tuple(p - k for p, k in zip(peak, known, strict=True))
    counted = np.sum([memory.always[name] for name in items], axis=0)
    predicted = memory.peak if RUNTIME in items else memory.peak - memory.always[RUNTIME]
    return (
        *rows,
        Row(REST, tuple(predicted - counted), rest),
        Row(TABLES, tuple(tables), measured("tables", "table_state")),
        Row(PEAK, tuple(predicted), peak),
    )


def _evaluation_rows(run: Run, placed: Placed, memory: RankMemory) -> tuple[Row, ...]:
    """None where the run evaluated nothing, or the system does not tell."""
    measured = [rank.memory.evaluation_peak for rank in run.measured.by_rank]
    evaluated = run.facts.get("valid") or run.facts.get("test")
    if None in measured or not evaluated:
        return ()
    counted = run.measured.by_rank[0].evaluation_elements
    sizes = placed.problem.sizes
    lengths = {**sizes.lengths, **{key: Lengths.constant(mean) for key, mean in counted.items()}}
    problem = placed.problem.changed(sizes=replace(sizes, lengths=lengths))
    predicted = evaluation_memory(problem, placed.options, memory, evaluated["rows"])
    if run.measured.device == "cuda":
        predicted.pop(RUNTIME)
    return (
        Row(EVALUATION, tuple(np.sum(list(predicted.values()), axis=0)), tuple(map(float, filter(None, measured)))),
    )


def typical_steps(run: Run) -> dict[str, np.ndarray] | None:
    """Stage -> (ranks,) ms, and STEP: means of the middle half of the measured steps, by how long they took. None without time."""
    times = [rank.time for rank in run.measured.by_rank if rank.time is not None]
    if len(times) < run.measured.ranks:
        return None
    order = np.argsort(np.mean([time.step for time in times], axis=0))
    quarter = len(order) // 4
    chosen = order[quarter : len(order) - quarter]
    found = {stage: [np.array(time.stages[stage])[chosen].mean() for time in times] for stage in times[0].stages}
    found[STEP] = [np.array(time.step)[chosen].mean() for time in times]
    return {stage: np.array(values) for stage, values in found.items()}


def _time_rows(run: Run, placed: Placed) -> tuple[Row, ...]:
    typical = typical_steps(run)
    if typical is None:
        return ()
    predicted, rows = placed.time.items, []
    for name, (stage, how) in STAGES.items():
        started = placed.time.starts / len(COLLECTIVE) if name in COLLECTIVE else 0.0
        rows.append(Row(name, (predicted[name] + started,), (float(getattr(np, how)(typical[stage])),)))
    step = float(typical[STEP].mean())
    explained = sum(row.measured[0] for row in rows if row.measured)
    counted = sum(row.predicted[0] for row in rows)
    rows.append(Row(FIXED, (placed.time.total - counted,), (step - explained,)))
    return (*rows, Row(STEP, (placed.time.total,), (step,)))
