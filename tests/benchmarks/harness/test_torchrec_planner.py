"""The planner where TorchRec's stands: a plan for a real process group, and training with it."""

import pytest
import torch
import torch.distributed as dist
from torchrec.distributed.model_parallel import DistributedModelParallel
from torchrec.distributed.planner import ParameterConstraints
from torchrec.distributed.planner.enumerators import EmbeddingEnumerator
from torchrec.distributed.planner.storage_reservations import FixedPercentageStorageReservation
from torchrec.distributed.types import ShardingEnv
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from benchmarks.harness.torchrec_planner import InterFormerPlanner
from interformer_rec.planning.search.errors import NoPlan
from tests.distributed.tiny import Tiny
from tests.launch import on_ranks
from tests.planning.problems import GIB, SHARDERS, Tables, cluster

BATCH, STEPS = 8, 30


def _train(env):
    """(what is where, the losses of this rank) with each table sharded as the search likes."""
    topology = cluster(env.world_size, env.local_world_size, "cpu", ddr=GIB)
    # EmbeddingCollections cannot be data-parallel in TorchRec 1.8.0.
    constraints = {n: ParameterConstraints(sharding_types=["table_wise", "row_wise"]) for n in ("seq_a", "seq_b")}
    planner = InterFormerPlanner(topology, BATCH, constraints, FixedPercentageStorageReservation(0.1))
    torch.manual_seed(0)
    model = Tiny()
    plan = planner.collective_plan(model, SHARDERS, dist.group.WORLD)
    parallel = DistributedModelParallel(
        model, ShardingEnv.from_process_group(dist.group.WORLD), env.device, plan=plan, sharders=SHARDERS
    )
    where = {n: (p.sharding_type, p.ranks) for part in plan.plan.values() for n, p in part.items()}
    optimizer = torch.optim.SGD(parallel.parameters(), lr=0.1)
    draw = torch.Generator().manual_seed(env.rank)
    lengths = torch.ones(2 * BATCH, dtype=torch.int64)
    bags = KeyedJaggedTensor(["bag_a", "bag_b"], torch.randint(0, 11, (2 * BATCH,), generator=draw), lengths=lengths)
    events = KeyedJaggedTensor(["seq_a", "seq_b"], torch.randint(0, 9, (2 * BATCH,), generator=draw), lengths=lengths)
    labels, losses = (torch.arange(BATCH) % 2).float()[:, None], []
    for _ in range(STEPS):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(parallel(bags, events), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return where, losses, planner.solution is not None


def test_two_ranks_train_with_the_plan():
    (plan, losses, planned), (other_plan, other_losses, planned_there) = on_ranks(2, _train)
    assert plan == other_plan and set(plan) == {"bag_a", "bag_b", "seq_a", "seq_b"}
    assert (planned, planned_there) == (True, False)  # rank 0 plans, the others are told
    assert {rank for _, ranks in plan.values() for rank in ranks} == {0, 1}
    assert losses[-1] < 0.8 * losses[0] and other_losses[-1] < 0.8 * other_losses[0]


def _refused(env, kind):
    """(type, message, a field) of what the rank gets to see."""
    planner = InterFormerPlanner(cluster(env.world_size, env.local_world_size, "cpu", ddr=1 << 20), BATCH)
    if kind != "too large":
        planner = InterFormerPlanner(
            cluster(env.world_size, env.local_world_size, "cpu", ddr=GIB), BATCH, enumerator=Broken()
        )
    try:
        planner.collective_plan(Tables({"t": (1 << 20, 64)}), SHARDERS, dist.group.WORLD)
    except Exception as error:
        return type(error).__name__, str(error), getattr(error, "proven", None)
    return "no error", "", None


class Unpicklable(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


class Broken:
    def enumerate(self, module, sharders):
        raise Unpicklable("one", "two")


@pytest.mark.parametrize(
    "kind, name, part", [("too large", "NoPlan", "table 't'"), ("broken", "RuntimeError", "Unpicklable: one and two")]
)
def test_an_error_on_rank_0_reaches_every_rank(kind, name, part):
    """TorchRec's own planner leaves the other ranks waiting for a plan that never comes."""
    found = on_ranks(2, _refused, kind)
    assert found[0] == found[1]
    assert found[0][0] == name and part in found[0][1]
    assert found[0][2] == (True if kind == "too large" else None)


def test_own_estimates_give_the_same_plan_as_the_default():
    model, topology = Tables({f"t{i}": (1000 * (i + 1), 64) for i in range(6)}), cluster(4, 2)
    reservation = FixedPercentageStorageReservation(0.1)
    quick = InterFormerPlanner(topology, 64, storage_reservation=reservation)
    given = InterFormerPlanner(
        topology, 64, storage_reservation=reservation, enumerator=EmbeddingEnumerator(topology, 64)
    )
    assert str(quick.plan(model, SHARDERS)) == str(given.plan(model, SHARDERS))
    assert quick.solution.perf == given.solution.perf


def test_the_reservation_counts():
    model, topology = Tables({"t": (1 << 20, 256)}), cluster(1, hbm=GIB + (1 << 24), ddr=0)  # 1 GiB of weights
    assert InterFormerPlanner(topology, 8, storage_reservation=FixedPercentageStorageReservation(0.0)).plan(
        model, SHARDERS
    )
    with pytest.raises(NoPlan, match="'t'"):
        InterFormerPlanner(topology, 8, storage_reservation=FixedPercentageStorageReservation(0.2)).plan(
            model, SHARDERS
        )
