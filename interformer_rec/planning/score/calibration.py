"""Assumptions replaced by measurements. In: a Score; out: a Cluster whose efficiency and overhead are the run's, as a file.

One run gives one number for each: shares of the cluster's own bandwidths and rates. A published number that is wrong for the machine
is made up for by its share, so the file is good for this machine, and best for jobs like the run.
"""

from __future__ import annotations

import time

import numpy as np
import yaml

from interformer_rec.errors import InputError
from interformer_rec.planning.answer import placed_of_plan
from interformer_rec.planning.cost.cluster import Calibration, Cluster, Efficiency, Overhead
from interformer_rec.planning.cost.timing import StepTime, dense_parts
from interformer_rec.planning.question import Problem
from interformer_rec.planning.score.score import REST, RUNTIME, STEP, Score
from interformer_rec.storage import write_file

MIB = 1 << 20
TELLING = (
    1.5  # activations over the loader's rows under way, from which on the peak tells what malloc keeps of activations
)
LARGEST = 20.0  # share of a published number beyond which it is doubted; tables in caches reach some


def calibrate(score: Score) -> Cluster:
    """The score's cluster with what the run measured. Raises InputError for a run that measured no time."""
    if not score.time:
        raise InputError(
            f"nothing to calibrate with: the run measured no time ({score.why_no_time}). Train a few more steps"
        )
    cluster, run = score.placed.problem.cluster, score.run
    efficiency, fitted = _efficiency(score)
    overhead, kept = _overhead(score)
    note = Calibration(
        run=run.place,
        date=time.strftime("%Y-%m-%d"),
        versions={"interformer_rec": run.measured.version, **run.measured.versions},
        ranks=run.measured.ranks,
        batch_size=score.placed.problem.batch_size,
        fitted=fitted | kept,
    )
    return cluster.model_copy(update={"efficiency": efficiency, "overhead": overhead, "calibration": note})


def write_cluster(path: str, cluster: Cluster) -> None:
    """As YAML that load_cluster reads, to a path or URI, whole or not at all. Raises InputError where it cannot be written."""
    address = path.partition("?")[0] if "://" in path else path
    if not address.endswith((".yaml", ".yml")):
        raise InputError(f"--out {path!r}: a cluster file ends in .yaml")
    write_file(
        path, yaml.safe_dump(cluster.model_dump(exclude_none=True), sort_keys=False, allow_unicode=True, width=120)
    )


def _efficiency(score: Score) -> tuple[Efficiency, dict[str, str]]:
    """Time: each share is scaled by predicted over measured of what it decides."""
    problem, old = score.placed.problem, score.placed.problem.cluster.efficiency
    changes: dict[str, float] = {}
    fitted: dict[str, str] = {}
    for field, names in (("memory", ("lookup", "update")), ("links", ("all-to-all forward", "all-to-all backward"))):
        predicted, measured = (sum(times) for times in zip(*(_times(score, name) for name in names), strict=True))
        if predicted > 0 and measured > 0:
            changes[field] = _share(field, getattr(old, field) * predicted / measured)
            fitted[f"efficiency.{field}"] = f"{' and '.join(names)}: {measured:.4g} ms"
    forward, backward = _times(score, "dense forward")[1], _times(score, "dense backward")[1]
    slower, launch = _dense(problem, forward)
    changes |= {
        "matmul": _share("matmul", old.matmul / slower),
        "tensors": _share("tensors", (old.tensors or old.memory) / slower),
        "launch_us": old.launch_us * launch,
        "reduce": old.reduce or old.links,  # an all-reduce hides: what is seen of it is no measure of the links
        "backward": 1.0,
        "fixed_ms": 0.0,
    }

    def again() -> StepTime:
        cluster = problem.cluster.model_copy(update={"efficiency": old.model_copy(update=changes)})
        return placed_of_plan(problem.changed(cluster=cluster), score.run.plan).time

    changes["backward"] = backward / again().dense_backward
    changes["fixed_ms"] = max(0.0, _times(score, STEP)[1] - again().total)
    fitted["efficiency.matmul, tensors, launch_us"] = f"dense forward: {forward:.4g} ms"
    fitted["efficiency.backward"] = f"dense backward: {backward:.4g} ms"
    fitted["efficiency.fixed_ms"] = (
        "what no other number explains: optimizer, data, ids, metrics, log, ranks that wait for others"
    )
    return old.model_copy(update=changes), fitted


def _times(score: Score, name: str) -> tuple[float, float]:
    """Predicted and measured, ms."""
    row = score.row(name)
    assert row.measured is not None, "a score with time has measured all stages"
    return row.predicted[0], row.measured[0]


def _dense(problem: Problem, forward: float) -> tuple[float, float]:
    """Factors on the time of products and tensors, and on that of starting operators, that give the measured forward pass.

    A GPU's pass is the one or the other; on a CPU operators are taken to start as assumed, in half of the time at most.
    """
    products, memory, started = dense_parts(problem)
    if problem.cluster.device == "cpu":
        share = min(started, forward / 2)
        return (forward - share) / (products + memory), share / started if started else 1.0
    return (1.0, forward / started) if started > products + memory else (forward / (products + memory), 1.0)


def _share(field: str, value: float) -> float:
    if value > LARGEST:
        raise InputError(
            f"the run was {value:.0f} times as fast as the cluster's numbers allow (efficiency.{field}): they are of another "
            f"machine. Name the right one with --cluster"
        )
    return value


def _overhead(score: Score) -> tuple[Overhead, dict[str, str]]:
    """Memory: the runtime as measured; what malloc keeps explains the rest of the peak, on the rank where it is largest."""
    changes: dict[str, float] = {}
    fitted: dict[str, str] = {}
    runtime = next((row.measured for row in score.memory if row.name == RUNTIME), None)
    if runtime:
        changes["runtime_mib"] = round(float(np.mean(runtime)) / MIB, 1)
        fitted["overhead.runtime_mib"] = "memory before the model was made, mean of the ranks"
    rest, problem = score.row(REST), score.placed.problem
    activations, holes = problem.dense.activation_bytes, score.holes
    if problem.cluster.device == "cpu" and rest.measured and activations > TELLING * score.decoding:
        short = float(np.max(np.array(rest.measured) - np.array(rest.predicted)))
        changes["kept"] = min(10.0, max(0.0, round((holes + short) / activations, 3)))
        fitted["overhead.kept"] = f"the fullest rank's peak, {activations / MIB:,.0f} MiB being activations"
    return Overhead(**{**score.placed.problem.cluster.overhead.model_dump(), **changes}), fitted
