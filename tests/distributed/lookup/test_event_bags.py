"""Events read as bags of one: the same weights and optimizer state as with TorchRec's own kernels, and really used."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torchrec.distributed.batched_embedding_kernel import BatchedFusedEmbedding
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from interformer_rec.distributed.lookup.event_bags import read_events_as_bags
from interformer_rec.distributed.lookup.tables import lookup_kernels
from interformer_rec.distributed.parallelize import Parallel
from tests.distributed.tiny import DIM, build, train, whole_state
from tests.launch import on_one, on_ranks

PLANS = ("table_wise", "row_wise", "column_wise")
KINDS = ("sgd", "adagrad", "rowwise_adagrad")


def kernels(parallel: Parallel) -> list[BatchedFusedEmbedding]:
    return [kernel for kernel in lookup_kernels(parallel.model) if isinstance(kernel, BatchedFusedEmbedding)]


def trained(env, plan: str, kind: str, ours: bool):
    """Ten steps: losses, state, and how often FBGEMM's unpooled kernel ran."""
    parallel = build(env, plan, kind)
    calls: list[int] = []
    for kernel in kernels(parallel):
        if not ours:
            del kernel.forward  # what parallelize has put in; TorchRec's own is back
        kernel.emb_module.register_forward_pre_hook(lambda module, args: calls.append(1))
    return train(env, parallel, 0, 10), whole_state(env, parallel), len(calls)


def everything(env):
    return {case: trained(env, *case) for case in itertools.product(PLANS, KINDS, (False, True))}


@pytest.fixture(scope="module")
def results():
    return {1: [on_one(everything)], 2: on_ranks(2, everything)}


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("kind", KINDS)
def test_training_is_that_of_torchrecs_kernels(results, ranks, plan, kind):
    theirs, ours = ([rank[plan, kind, on] for rank in results[ranks]] for on in (False, True))
    np.testing.assert_allclose(ours[0][0], theirs[0][0], atol=1e-6)
    for name, array in theirs[0][1].items():
        np.testing.assert_allclose(ours[0][1][name], array, atol=1e-6, err_msg=name)
    assert sum(rank[2] for rank in theirs) > 0 == sum(rank[2] for rank in ours)


def _without_ids(env):
    parallel = build(env, "table_wise")
    before = whole_state(env, parallel)
    empty = KeyedJaggedTensor(
        ["seq_a", "seq_b"], torch.zeros(0, dtype=torch.int64), lengths=torch.zeros(2, dtype=torch.int32)
    )
    vectors = {key: part.values() for key, part in parallel.model.module.ec(empty).items()}
    sum(part.sum() for part in vectors.values()).backward()
    after = whole_state(env, parallel)
    return [tuple(part.shape) for part in vectors.values()], all(np.array_equal(before[k], after[k]) for k in before)


def test_a_batch_without_ids_touches_nothing():
    assert on_one(_without_ids) == ([(0, DIM), (0, DIM)], True)


def _wide_and_narrow(env):
    """A kernel whose tables differ in width keeps TorchRec's forward."""
    parallel = build(env, "table_wise")
    (kernel,) = kernels(parallel)
    del kernel.forward
    specs = kernel.emb_module.embedding_specs
    kernel.emb_module.embedding_specs = [specs[0], (specs[1][0], DIM // 2, *specs[1][2:])]
    read_events_as_bags(parallel.model)
    left = "forward" not in vars(kernel)
    kernel.emb_module.embedding_specs = specs
    read_events_as_bags(parallel.model)
    return left, "forward" in vars(kernel)


def test_tables_of_different_widths_are_left_alone():
    assert on_one(_wide_and_narrow) == (True, True)
