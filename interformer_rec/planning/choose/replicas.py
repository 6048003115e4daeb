"""2D groups: the tables are sharded inside a group of nodes, and every group has a replica of them. In: a Problem; out: Replicated.

As TorchRec's DMPCollection with `use_inter_host_allreduce`: the all-to-all stays inside a group, and after each step `sync` averages
weights and optimizer state of all groups. `train` has no such form, and the averages make it another training than one with one group.
"""

from dataclasses import dataclass, replace

from interformer_rec.errors import InputError
from interformer_rec.planning.answer import Placed, place
from interformer_rec.planning.cost.cluster import BYTES_PER_MS
from interformer_rec.planning.cost.load import FLOAT
from interformer_rec.planning.cost.shard_time import all_reduce
from interformer_rec.planning.cost.timing import StepTime, starts_ms
from interformer_rec.planning.question import Problem


@dataclass(frozen=True, eq=False)
class Replicated:
    """`group`: the plan of each; `time`: a step of the whole job without `sync_ms`, which averages all tables once."""

    group: Placed
    time: StepTime
    sync_ms: float

    @property
    def step_ms(self) -> float:
        """With an average after each step."""
        return self.time.total + self.sync_ms


def replicated(problem: Problem, groups: int) -> Replicated:
    """With so many groups. Raises InputError where they do not divide the nodes, DoesNotFit where a group cannot hold the tables."""
    if groups < 2 or problem.nodes % groups:
        raise InputError(f"{groups} groups do not divide {problem.nodes} nodes; take a divisor from 2")
    inner = problem.changed(nodes=problem.nodes // groups)
    placed = place(inner)
    cluster, ranks = problem.cluster, problem.ranks
    time = replace(
        placed.time,
        all_reduce=all_reduce(cluster, ranks, float(problem.dense_parameters * FLOAT)),  # the dense part has one group
        starts=placed.time.starts - starts_ms(cluster, inner.ranks, set()) + starts_ms(cluster, ranks, set()),
    )
    memory = placed.memory.always
    tables = float((memory["table weights"] + memory["table optimizer state"]).max())
    speed = cluster.inter_node_gb_per_s * (cluster.efficiency.reduce or cluster.efficiency.links) * BYTES_PER_MS
    return Replicated(placed, time, 2 * (groups - 1) / groups * tables / speed)
