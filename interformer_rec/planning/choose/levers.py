"""What makes a plan need less memory, and its price. In: a Problem that does not fit, or a plan that fits tightly; out: Levers.

Each is planned or counted for real. The price is in milliseconds for as many samples as the job has in a step, so that a smaller batch
pays for the steps that it adds. A lever that `train` has carries its setting; the others say that it has none.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from interformer_rec.config.model import ModelConfig
from interformer_rec.errors import InputError
from interformer_rec.planning.answer import Placed, same_plan
from interformer_rec.planning.choose.exchange import WORTH
from interformer_rec.planning.constraints import Constraints, RunConstraints
from interformer_rec.planning.cost.dense_time import dense_time
from interformer_rec.planning.question import Problem
from interformer_rec.planning.what_if import attempt, fewest, fewest_nodes
from interformer_rec.text import GIB

TIGHT = 0.9  # of the memory that may be used: above, levers are named though the plan fits
MORE = 3  # tables in host memory beyond the fewest
PIECES = (2, 4, 8, 16)  # microbatches
RECOMPUTED = "sequence_archs"  # InterFormer's block that keeps most


@dataclass(frozen=True, eq=False)
class Lever:
    """One change, and the plan with it."""

    what: str
    placed: Placed
    setting: str = ""  # of `train`, or of constraints; empty: `train` has none

    def ms(self, samples: int) -> float:
        """Milliseconds for so many samples."""
        problem = self.placed.problem
        return self.placed.time.total * samples / (problem.batch_size * problem.ranks)

    def text(self, samples: int, before: Placed | None = None) -> str:
        """A line; `before`: the plan without it."""
        cost = f"{self.ms(samples):.3g} ms for {samples:,} samples"
        if before is not None:
            cost += f" ({self.ms(samples) - before.time.total:+.3g})"
        peak = float(self.placed.memory.peak.max()) / GIB
        how = f" [{self.setting}]" if self.setting else " [not supported by train]"
        return f"{self.what}: {cost}, {peak:.1f} GiB on the fullest rank{how}"


def when_nothing_fits(problem: Problem) -> Iterator[Lever]:
    """Single changes after which the tables fit, each planned for real: constraints, the dense part, the tables, the job."""
    yield from _wishes(problem)
    on_gpu = problem.cluster.device == "cuda"
    for what, changed, setting in _less_dense(problem):
        yield from _lever(what, changed, setting)
    if on_gpu:
        yield from _in_host_memory(problem)
    yield from _lever("hold table rows in half precision", problem.changed(table_bytes=2))
    yield from _smaller_batch(problem)
    try:
        placed = fewest_nodes(problem)
    except InputError:
        return
    now, ranks = placed.problem.nodes, placed.problem.ranks
    if now != problem.nodes:
        yield Lever(f"use {now} nodes ({ranks} ranks) instead of {problem.nodes}", placed, f"--nodes {now}")


def when_tight(placed: Placed) -> list[Lever]:
    """What frees memory of a plan that fits tightly; its tables stay where they are. Empty for one that has room."""
    problem = placed.problem
    if placed.memory.peak.max() <= TIGHT * problem.usable:
        return []
    half = problem.batch_size // 2
    changes = [*_less_dense(problem)]
    if half:
        changes.append(
            (f"use a batch of {half:,} rows a rank", problem.changed(batch_size=half), f"data.batch_size={half}")
        )
    levers = [Lever(what, same_plan(changed, placed), setting) for what, changed, setting in changes]
    peak = placed.memory.peak.max()
    found: dict[str, Lever] = {}
    for lever in levers:  # of microbatches the fewest
        if lever.placed.memory.peak.max() < 0.99 * peak:
            found.setdefault(lever.what.split(" of ")[0], lever)
    return list(found.values())


def _lever(what: str, problem: Problem, setting: str = "") -> Iterator[Lever]:
    placed = attempt(problem)
    if placed is not None:
        yield Lever(what, placed, setting)


def _wishes(problem: Problem) -> Iterator[Lever]:
    constraints, free = problem.constraints, Constraints(together=problem.constraints.together)
    if constraints.confine:
        anywhere = {"hosts": (), "ranks": ()}
        tables = {name: own.model_copy(update=anywhere) for name, own in constraints.tables.items()}
        spread = constraints.model_copy(
            update={"tables": tables, "default": constraints.default.model_copy(update=anywhere)}
        )
        what = "lift the constraints on hosts and ranks"
        yield from _lever(what, problem.changed(constraints=spread), "--constraints")
    preferred = isinstance(constraints, RunConstraints) and constraints.preferred != "auto"
    if preferred or any(own.sharding or own.kernels for own in (constraints.default, *constraints.tables.values())):
        where = " and hosts" if constraints.confine else ""
        what = f"lift the constraints on sharding types{',' if where else ' and'} kernels{where}"
        yield from _lever(what, problem.changed(constraints=free), "--constraints, sharding.default, sharding.tables")


def _less_dense(problem: Problem) -> Iterator[tuple[str, Problem, str]]:
    """Of activations and loaded rows: what, the job with it, its setting."""
    config = problem.config
    if config.training.precision == "fp32" and problem.cluster.device == "cuda":
        bf16 = config.model_copy(update={"training": config.training.model_copy(update={"precision": "bf16"})})
        yield "train the dense part in bf16", problem.changed(config=bf16), "training.precision=bf16"
    if problem.cluster.device == "cpu" and max(config.data.prefetch, config.data.workers) > 1:
        less = config.data.model_copy(update={"prefetch": 1, "workers": 1})
        what = "decode one shuffle unit ahead"
        yield what, problem.changed(config=config.model_copy(update={"data": less})), "data.prefetch=1 data.workers=1"
    again = recomputed(problem)
    if again is not None:
        what = "recompute the activations of Sequence Arch in the backward pass"
        yield what, again, "model.sequence.recompute=true"
    if config.training.microbatches > 1 or config.training.pairwise_loss_weight or config.features.request is not None:
        return
    for pieces in PIECES:
        if problem.batch_size >= 2 * pieces:
            yield (
                f"microbatches of {problem.batch_size // pieces:,} rows in the dense part",
                in_pieces(problem, pieces),
                f"training.microbatches={pieces}",
            )


def recomputed(problem: Problem) -> Problem | None:
    """Each layer's Sequence Arch keeps its input alone, and runs once more in the backward pass. None for models without one, or where it
    does so already.

    Its share of the forward pass is taken to be that of its FLOPs or of what it keeps, whichever is larger.
    """
    dense = problem.dense
    kept, model = dense.activations.get(RECOMPUTED, 0), problem.config.model
    if not kept or not isinstance(model, ModelConfig) or model.sequence.recompute:
        return None
    lengths = sum(problem.sizes.of_lookup(group.name).mean for group in problem.config.features.sequences)
    inputs = round(model.layers * problem.batch_size * lengths * model.d * 4)
    left = inputs + kept // model.layers  # and one layer's while its gradient is made
    if left >= kept:
        return None
    share = max(
        dense.forward_flops.get(RECOMPUTED, 0) / max(1, sum(dense.forward_flops.values())),
        kept / max(1, dense.activation_bytes),
    )
    forward, backward = problem.dense_ms or dense_time(dense, problem.cluster, problem.config.training.precision)
    less = replace(dense, activations={**dense.activations, RECOMPUTED: left})
    return problem.changed(counted=less, dense_ms=(forward, backward + share * forward))


def in_pieces(problem: Problem, pieces: int) -> Problem:
    """The dense part runs on so many parts of the batch, one after the other; vectors are exchanged for the whole of it."""
    part, precision = problem.dense_costs.of(-(-problem.batch_size // pieces)), problem.config.training.precision
    forward, backward = dense_time(part, problem.cluster, precision)
    whole = dense_time(problem.dense, problem.cluster, precision)
    if problem.dense_ms is not None:  # as much longer as the count says
        forward, backward = (
            ms * at / now for ms, at, now in zip(problem.dense_ms, (forward, backward), whole, strict=True)
        )
    cost = replace(part, looked_up=problem.dense.looked_up)
    return problem.changed(counted=cost, dense_ms=(pieces * forward, pieces * backward))


def _in_host_memory(problem: Problem) -> Iterator[Lever]:
    """The largest tables in host memory, as many as must or a few more: what makes a step shortest."""
    by_size = sorted(problem.tables.values(), key=lambda table: -table.rows * table.dim)

    def cached(count: int) -> Problem:
        moved = {
            table.name: problem.constraints.of(table.name).model_copy(update={"kernels": ("fused_uvm_caching",)})
            for table in by_size[:count]
        }
        return problem.changed(
            constraints=problem.constraints.model_copy(update={"tables": {**problem.constraints.tables, **moved}})
        )

    everything = attempt(cached(len(by_size)))
    if everything is None:
        return
    count, best = fewest(0, len(by_size), everything, cached)
    for more in range(
        count + 1, min(count + MORE, len(by_size)) + 1
    ):  # room for a larger cache may be worth another table
        placed = attempt(cached(more))
        if placed is not None and placed.time.total < best.time.total * (1 - WORTH):
            count, best = more, placed
    names = ", ".join(table.name for table in by_size[:count][:5]) + (", ..." if count > 5 else "")
    what = f"keep {count} table(s) in host memory, {best.host_cache:.0%} of their rows cached on the device: {names}"
    yield Lever(what, best, "kernels: [fused_uvm_caching] of these in --constraints, then sharding.plan")


def _smaller_batch(problem: Problem) -> Iterator[Lever]:
    """Divide the batch until it fits; in vain where the tables alone are too large."""
    if sum(t.rows * t.dim * t.weight_bytes for t in problem.tables.values()) > problem.usable * problem.ranks:
        return
    batch = problem.batch_size // 2
    while batch >= 1:
        placed = attempt(problem.changed(batch_size=batch))
        if placed is not None:
            what = f"use a batch of {batch} rows a rank instead of {problem.batch_size}"
            yield Lever(what, placed, f"data.batch_size={batch}")
            return
        batch //= 8 if batch > 256 else 2
