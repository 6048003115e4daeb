"""The search as a TorchRec planner. In: a model and sharders; out: a ShardingPlan that DistributedModelParallel accepts.

planner = InterFormerPlanner(topology, batch_size=2048, constraints=constraints)
plan = planner.collective_plan(model, sharders, process_group)
"""

from __future__ import annotations

import pickle
from typing import cast

import torch.distributed as dist
from torch import nn
from torchrec.distributed.planner import ParameterConstraints
from torchrec.distributed.planner.planners import (
    EmbeddingPlannerBase,
    to_sharding_plan,
    validate_compute_kernels,
    validate_modules_inclusion_in_sharding_plan,
    validate_rank_assignment,
)
from torchrec.distributed.planner.types import Enumerator, StorageReservation, Topology
from torchrec.distributed.sharding_plan import get_default_sharders
from torchrec.distributed.types import ModuleSharder, ShardingPlan

from interformer_rec.planning.search.options import enumerate_grouped
from interformer_rec.planning.search.search import Solution, search


class InterFormerPlanner(EmbeddingPlannerBase):
    """Stands where an EmbeddingShardingPlanner stands: the same topology, constraints, reservation and estimates, another search.

    `enumerator` may bring estimates of its own; without one TorchRec's default estimates are made, equal shards once.
    `budget_seconds` cuts the search short, and with it the promise that two runs give the same plan.
    """

    def __init__(
        self,
        topology: Topology,
        batch_size: int,
        constraints: dict[str, ParameterConstraints] | None = None,
        storage_reservation: StorageReservation | None = None,
        enumerator: Enumerator | None = None,
        budget_seconds: float | None = None,
    ) -> None:
        super().__init__(
            topology=topology,
            batch_size=batch_size,
            constraints=constraints,
            storage_reservation=storage_reservation,
            enumerator=enumerator,
            stats=[],
            debug=False,
        )
        self._given_enumerator, self._budget_seconds = enumerator, budget_seconds
        self.solution: Solution | None = None  # of the last plan() on this rank, with loads and bound

    def collective_plan(
        self,
        module: nn.Module,
        sharders: list[ModuleSharder[nn.Module]] | None = None,
        pg: dist.ProcessGroup | None = None,
    ) -> ShardingPlan:
        """As plan(), made by the group's rank 0 for all. What plan() raises there is raised on every rank: none waits for ever."""
        group = pg if pg is not None else dist.group.WORLD
        assert group is not None, "collective_plan needs a process group; without one call plan()"
        answer: list[ShardingPlan | Exception | None] = [None]
        if group.rank() == 0:
            try:
                answer = [self.plan(module, sharders if sharders is not None else get_default_sharders())]
            except Exception as error:
                answer = [_sendable(error)]
        if group.size() > 1:
            dist.broadcast_object_list(answer, dist.get_global_rank(group, 0), group=group)
        if isinstance(answer[0], Exception):
            raise answer[0]
        return cast(ShardingPlan, answer[0])

    def plan(self, module: nn.Module, sharders: list[ModuleSharder[nn.Module]]) -> ShardingPlan:
        """A plan for every table of `module` that a sharder handles; needs no process group.

        Raises NoPlan where the tables do not fit, PlannerError where the reservation alone does not.
        """
        room = self._storage_reservation.reserve(
            topology=self._topology,
            batch_size=self._batch_size,
            module=module,
            sharders=sharders,
            constraints=self._constraints,
        )
        if self._given_enumerator is not None:
            space = self._given_enumerator.enumerate(module, sharders)
        else:
            space = enumerate_grouped(module, sharders, self._topology, self._batch_size, self._constraints)
        self.solution = search(space, room, budget_seconds=self._budget_seconds)
        plan = to_sharding_plan(self.solution.options, self._topology)
        validate_modules_inclusion_in_sharding_plan(plan, module, sharders)
        validate_rank_assignment(plan, self._topology)
        validate_compute_kernels(self.solution.options)
        return plan


def _sendable(error: Exception) -> Exception:
    """The error itself, or what it says where its class cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
