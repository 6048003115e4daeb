"""Assumptions replaced by measurements. In: Scores; out: a Cluster whose efficiency, latencies and overhead are the runs', as a file.

Shares of the cluster's own bandwidths and rates are slopes, `stage_ms`, `launch_us` and the microseconds of collectives are intercepts:
fit.py tells them apart by runs of different batch sizes. A published number that is wrong for the machine is made up for by its share,
so the file is good for this machine, and best for jobs like the runs.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import yaml

from interformer_rec.errors import InputError
from interformer_rec.planning.answer import placed_of_plan
from interformer_rec.planning.cost.cluster import Calibration, Cluster, Overhead
from interformer_rec.planning.cost.dense_time import dense_parts
from interformer_rec.planning.cost.timing import StepTime, sharded_groups, starts_ms
from interformer_rec.planning.score.fit import APART, Line, line
from interformer_rec.planning.score.score import ALL_REDUCE, IDS, REST, RUNTIME, STEP, Score
from interformer_rec.storage import write_file
from interformer_rec.text import MIB

# Activations over the loader's rows under way, from which on the peak tells what malloc keeps of activations.
TELLING = 1.5
LARGEST = 20.0  # share of a published number beyond which it is doubted; tables in caches reach some
FORWARD, BACKWARD = "dense forward", "dense backward"
UNSEEN = ("copies of vectors", "dense optimizer", "host")  # items that are no stage of a run
ROWS, VECTORS = ("lookup", "update"), ("all-to-all forward", "all-to-all backward")


def calibrate(scores: Sequence[Score]) -> Cluster:
    """The scores' cluster with what their runs measured; memory alone where none measured time. Raises InputError for unlike runs."""
    cluster, local = scores[0].placed.problem.cluster, {score.run.measured.ranks_per_node for score in scores}
    if len(local) > 1:
        raise InputError(
            f"runs of {' and '.join(map(str, sorted(local)))} ranks a node: calibrate with runs of one number"
        )
    timed = [score for score in scores if score.time]
    changes = _Changes(cluster, timed)
    if timed:
        changes.fit()
    overhead, kept = _overhead(scores)
    measured = [score.run.measured for score in scores]
    note = Calibration(
        runs=tuple(score.run.place for score in scores),
        date=time.strftime("%Y-%m-%d"),
        versions={"interformer_rec": measured[-1].version, **measured[-1].versions},
        ranks=tuple(sorted({run.ranks for run in measured})),
        batch_sizes=tuple(sorted({score.placed.problem.batch_size for score in scores})),
        fitted=changes.fitted | kept,
    )
    return changes.cluster.model_copy(update={"overhead": overhead, "calibration": note})


def write_cluster(path: str, cluster: Cluster) -> None:
    """As YAML that load_cluster reads, to a path or URI, whole or not at all. Raises InputError where it cannot be written."""
    address = path.partition("?")[0] if "://" in path else path
    if not address.endswith((".yaml", ".yml")):
        raise InputError(f"--out {path!r}: a cluster file ends in .yaml")
    write_file(
        path,
        yaml.safe_dump(
            cluster.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True, width=120
        ),
    )


@dataclass
class _Changes:
    """The cluster as it becomes, one stage of the step after the other."""

    cluster: Cluster
    scores: Sequence[Score]  # with time
    fitted: dict[str, str] = field(default_factory=dict)

    def fit(self) -> None:
        """All stages; the last line explains what none before it does."""
        # an all-reduce hides: what is seen of it is no measure of the links
        old = self.cluster.efficiency
        self._efficiency(stage_ms={}, row_us=0.0, fixed_ms=0.0, backward=1.0, reduce=old.reduce or old.links)
        self._stages("memory", ROWS)
        starts = sum(self._stages("links", VECTORS, keep=False)) + min(self._measured(ALL_REDUCE))
        self._collectives(starts)
        self._intercepts(IDS, self._line((IDS,)))
        self._forward()
        backward = self._line((BACKWARD,), grows=True)
        self._efficiency(backward=backward.slope)
        self._intercepts(BACKWARD, backward)
        self._say("efficiency.backward", BACKWARD)
        self._rest()

    def _stages(self, share: str, names: tuple[str, ...], keep: bool = True) -> tuple[float, ...]:
        """A share of the cluster's numbers from stages that it decides; their intercepts, which `keep` makes the stages'."""
        found = self._line(names)
        value = getattr(self.cluster.efficiency, share) / found.slope
        if value > LARGEST:
            raise InputError(
                f"the run was {value:.0f} times as fast as the cluster's numbers allow (efficiency.{share}): they are of another "
                f"machine. Name the right one with --cluster"
            )
        self._efficiency(**{share: value})
        self._say(f"efficiency.{share}", *names)
        if keep:
            for name, intercept in zip(names, found.intercepts, strict=True):
                self._intercepts(name, Line((intercept,), found.slope))
        return found.intercepts

    def _collectives(self, milliseconds: float) -> None:
        """The microseconds to start a collective, of the slower link that the runs had."""
        score = self.scores[0]
        groups = sharded_groups(score.placed.problem.tables, score.placed.options)
        name = "inter_node_us" if score.placed.problem.nodes > 1 else "intra_node_us"
        alone = {"intra_node_us": 0.0, "inter_node_us": 0.0, name: 1000.0}
        counted = starts_ms(self.cluster.model_copy(update=alone), score.placed.problem.ranks, groups)
        if counted > 0:
            self.cluster = self.cluster.model_copy(update={name: 1000 * milliseconds / counted})
            self.fitted[name] = f"exchange of vectors and all-reduce beside their bytes: {milliseconds:.4g} ms"

    def _forward(self) -> None:
        """Products and tensors, and the start of operators, by the dense forward pass."""
        parts = [
            dense_parts(s.placed.problem.dense, self.cluster, s.placed.problem.config.training.precision)
            for s in self.scores
        ]
        computed, started = [products + memory for products, memory, _ in parts], [start for *_, start in parts]
        measured = self._measured(FORWARD)
        if self.cluster.device == "cpu":  # one after the other
            found = line([computed], [measured], grows=True, steps=self._measured(STEP))
            slower, launch = found.slope, found.intercepts[0] / max(1e-9, float(np.mean(started)))
            if found.intercepts[0] == 0:  # operators are taken to start as assumed, in half of the time at most
                half = [min(start, m / 2) for start, m in zip(started, measured, strict=True)]
                slower = line([computed], [np.subtract(measured, half).tolist()], grows=True).slope
                launch = float(np.mean(np.divide(half, np.maximum(started, 1e-9))))
        else:  # the longer of the two: the largest batch tells of computing, the smallest of starting
            most, least = int(np.argmax(computed)), int(np.argmin(computed))
            slower = measured[most] / computed[most] if computed[most] >= started[most] else 1.0
            launch = measured[least] / started[least] if started[least] > computed[least] else 1.0
        old = self.cluster.efficiency
        shares = {name: getattr(old, name) / slower for name in ("matmul", "tensors")}
        if max(shares.values()) > LARGEST:
            raise InputError(
                f"the run was {max(shares.values()):.0f} times as fast as the cluster's numbers allow (efficiency.matmul): they are of "
                f"another machine. Name the right one with --cluster"
            )
        self._efficiency(**shares, launch_us=old.launch_us * launch)
        self._say("efficiency.matmul, tensors, launch_us", FORWARD)

    def _rest(self) -> None:
        """What no other number explains: a constant, and on a CPU, whose loader has the same cores, something for every row."""
        steps, times = self._measured(STEP), self._times()
        left = np.subtract(steps, [time.total for time in times])
        rows = np.array([score.placed.problem.batch_size for score in self.scores], float)
        several = bool(max(rows) >= APART * min(rows))
        if several:
            slope, intercept = np.polyfit(rows, left, 1, w=1 / np.maximum(steps, 1e-9))
            if slope < 0:
                slope, intercept = 0.0, np.average(left, weights=1 / np.maximum(steps, 1e-9))
        elif self.cluster.device == "cpu" and left.mean() > 0:
            slope, intercept = left.mean() / rows.mean(), 0.0
        else:
            slope, intercept = 0.0, left.mean()
        if intercept < 0:
            self._less(float(-intercept), times)
        self._efficiency(row_us=1000 * float(slope), fixed_ms=max(0.0, float(intercept)))
        self.fitted["efficiency.fixed_ms, row_us"] = (
            "what no other number explains: optimizer, data, metrics, log, ranks that wait for others"
        )

    def _less(self, over: float, times: Sequence[StepTime]) -> None:
        """So many milliseconds are counted too many, in items that no run measures: these take less, whatever the size."""
        counted = {name: float(np.mean([time.items[name] for time in times])) for name in UNSEEN}
        share = min(1.0, over / max(1e-9, sum(counted.values())))
        less = {name: -share * ms for name, ms in counted.items() if ms > 0}
        self._efficiency(stage_ms={**self.cluster.efficiency.stage_ms, **less})

    def _efficiency(self, **changes: Any) -> None:
        efficiency = self.cluster.efficiency.model_copy(update=changes)
        self.cluster = self.cluster.model_copy(update={"efficiency": efficiency})

    def _intercepts(self, name: str, found: Line) -> None:
        if found.intercepts[0] > 0:
            self._efficiency(stage_ms={**self.cluster.efficiency.stage_ms, name: float(found.intercepts[0])})

    def _say(self, key: str, *names: str) -> None:
        texts = [f"{name}: {', '.join(f'{ms:.4g}' for ms in self._measured(name))} ms" for name in names]
        self.fitted[key] = "; ".join(texts)

    def _line(self, names: Sequence[str], grows: bool = False) -> Line:
        """Of these stages, with the cluster as it is now."""
        predicted, measured = [self._predicted(n) for n in names], [self._measured(n) for n in names]
        return line(predicted, measured, grows, self._measured(STEP))

    def _measured(self, name: str) -> list[float]:
        rows = [score.row(name).measured for score in self.scores]
        return [row[0] for row in rows if row is not None]

    def _predicted(self, name: str) -> list[float]:
        """With the cluster as it is now."""
        return [time.items[name] for time in self._times()]

    def _times(self) -> list[StepTime]:
        problems = [score.placed.problem for score in self.scores]
        return [
            placed_of_plan(problem.changed(cluster=self.cluster), score.run.plan).time
            for problem, score in zip(problems, self.scores, strict=True)
        ]


def _overhead(scores: Sequence[Score]) -> tuple[Overhead, dict[str, str]]:
    """Memory: the runtime as measured; what malloc keeps explains the rest of the peak, on the rank where it is largest."""
    changes: dict[str, float] = {}
    fitted: dict[str, str] = {}
    runtimes = [row.measured for score in scores for row in score.memory if row.name == RUNTIME and row.measured]
    if runtimes:
        changes["runtime_mib"] = round(float(np.mean(np.concatenate(runtimes))) / MIB, 1)
        fitted["overhead.runtime_mib"] = "memory before the model was made, mean of the ranks"
    telling = [
        score
        for score in scores
        if score.placed.problem.cluster.device == "cpu"
        and score.row(REST).measured
        and score.placed.problem.dense.activation_bytes > TELLING * score.decoding
    ]
    if telling:
        shares = [_kept(score) for score in telling]
        changes["kept"] = min(10.0, max(0.0, round(float(np.mean(shares)), 3)))
        fitted["overhead.kept"] = f"peaks of {len(telling)} run(s), of which most is activations"
    return Overhead(**{**scores[0].placed.problem.cluster.overhead.model_dump(), **changes}), fitted


def _kept(score: Score) -> float:
    rest = score.row(REST)
    short = float(np.max(np.array(rest.measured) - np.array(rest.predicted)))
    return (score.holes + short) / score.placed.problem.dense.activation_bytes
