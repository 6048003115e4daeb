"""TorchRec's planner with a given objective and a bound on its time. In: a Question and an objective; out: its best plan so far.

TorchRec's proposers (select an option for each table) and its partitioner (place them) are its own, with their defaults. A proposer
that has used up its share of the CPU seconds proposes nothing more; what was found by then is the answer.
"""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from torchrec.distributed.planner import EmbeddingShardingPlanner
from torchrec.distributed.planner.perf_models import NoopPerfModel
from torchrec.distributed.planner.proposers import GreedyProposer, GridSearchProposer, UniformProposer
from torchrec.distributed.planner.storage_reservations import FixedPercentageStorageReservation
from torchrec.distributed.planner.types import Enumerator, PerfModel, Proposer, ShardingOption, Topology
from torchrec.distributed.types import ModuleSharder

from benchmarks.planner.objectives import RESERVED, Question


@dataclass(frozen=True)
class Found:
    """Of one search by TorchRec."""

    options: list[ShardingOption]  # placed
    proposals: int
    cut: bool  # it had more to propose


class Given(Enumerator):
    """The options that a Question has."""

    def __init__(self, space: Sequence[ShardingOption]) -> None:
        self._space = [_plain(option) for option in space]

    def enumerate(self, module: nn.Module, sharders: list[ModuleSharder[nn.Module]]) -> list[ShardingOption]:
        """All of them; whoever asks writes ranks into their shards."""
        return self._space

    def populate_estimates(self, sharding_options: list[ShardingOption]) -> None:
        """They have them."""


class StepModel(PerfModel):
    """Rates a plan by what our search minimises: the slowest rank's shard times and what sharding types cost."""

    def __init__(self, question: Question) -> None:
        self._question = question

    def rate(self, plan: list[ShardingOption]) -> float:
        """Milliseconds."""
        return self._question.searched_ms(plan)


class Bounded(Proposer):
    """A proposer until so many CPU seconds of the process are used."""

    def __init__(self, proposer: Proposer, seconds: float) -> None:
        self._proposer, self._seconds = proposer, seconds
        self._until: float | None = None
        self.cut = False

    def load(self, search_space: list[ShardingOption], enumerator: Enumerator | None = None) -> None:
        """As the proposer does."""
        self._proposer.load(search_space, enumerator)

    def propose(self) -> list[ShardingOption] | None:
        """The next proposal, or None; the clock starts with the first one."""
        if self._until is None:
            self._until = time.process_time() + self._seconds
        proposal = self._proposer.propose()
        if proposal and time.process_time() > self._until:
            self.cut = True
            return None
        return proposal

    def feedback(
        self,
        partitionable: bool,
        plan: list[ShardingOption] | None = None,
        perf_rating: float | None = None,
        storage_constraint: Topology | None = None,
    ) -> None:
        """As the proposer does."""
        self._proposer.feedback(partitionable, plan, perf_rating, storage_constraint)


def plan(question: Question, objective: str, seconds: float) -> Found:
    """TorchRec's best within about `seconds` of CPU time. Raises PlannerError where it found none."""
    # The quick one first: with a bound, the last one would not get its turn.
    shares = ((UniformProposer(), 0.2), (GridSearchProposer(), 0.2), (GreedyProposer(), 0.4))
    proposers = [Bounded(proposer, share * seconds) for proposer, share in shares]
    proposers.append(Bounded(GreedyProposer(use_depth=False), 0.4 * seconds))
    model = NoopPerfModel(question.topology) if objective == "perf" else StepModel(question)
    planner = EmbeddingShardingPlanner(
        question.topology,
        question.problem.batch_size,
        enumerator=Given(question.space[objective]),
        storage_reservation=FixedPercentageStorageReservation(RESERVED),
        proposer=list[Proposer](proposers),
        performance_model=model,
        stats=[],
        debug=False,
    )
    planner.plan(question.model, question.sharders)
    return Found(planner._best_plan or [], planner._num_proposals, any(p.cut for p in proposers))


def _plain(option: ShardingOption) -> ShardingOption:
    """With a list of shards of its own."""
    again = copy.copy(option)
    again.shards = list(option.shards)
    return again
