"""The grouped enumeration against TorchRec's: the same options, sizes, offsets and estimates."""

import copy

import pytest
import torch
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.planner import ParameterConstraints
from torchrec.distributed.planner.enumerators import EmbeddingEnumerator
from torchrec.optim import RowWiseAdagrad
from torchrec.optim.apply_optimizer_in_backward import apply_optimizer_in_backward

from interformer_rec.planning.search import options as enumerate_module
from interformer_rec.planning.search.options import ShardRuns, enumerate_grouped
from tests.planning.problems import SHARDERS, Tables, cluster, small_case

BAGS = {"a": (1000, 128), "b": (1000, 128), "c": (7, 256), "d": (1000, 128), "e": (1000, 64), "f": (1000, 128)}
EVENTS = {"g": (50, 64), "h": (50, 64), "i": (51, 64)}


def seen(options):
    return {
        (o.path, o.name, o.sharding_type, o.compute_kernel): (
            [(s.size, s.offset, s.perf, s.storage, s.rank) for s in o.shards],
            (o.partition_by, o.is_pooled, o.is_weighted, o.input_lengths, o.dependency, o.total_perf, o.total_storage),
            o.tensor,
            o.module,
        )
        for o in options
    }


def assert_as_upstream(model, topology, batch, constraints):
    ours = enumerate_grouped(model, SHARDERS, topology, batch, constraints)
    upstream = EmbeddingEnumerator(topology, batch, constraints).enumerate(model, SHARDERS)
    expected, got = seen(upstream), seen(ours)
    assert len(ours) == len(upstream) == len(got) and got.keys() == expected.keys()
    for key, (shards, facts, tensor, module) in expected.items():
        assert got[key][0] == shards, key
        assert got[key][1] == facts, key
        assert got[key][2] is tensor and got[key][3] == module
    return ours


@pytest.mark.parametrize("chunk", [1, 1 << 15])
def test_as_upstream(chunk, monkeypatch):
    """Alike tables, tables alike but for a constraint or an optimizer, sequences; in one chunk and in many."""
    monkeypatch.setattr(enumerate_module, "CHUNK_SHARDS", chunk)
    model = Tables(BAGS, EVENTS)
    apply_optimizer_in_backward(RowWiseAdagrad, model.ebc.embedding_bags["d"].parameters(), {"lr": 0.1})
    constraints = {
        "b": ParameterConstraints(pooling_factors=[20.0]),
        "e": ParameterConstraints(min_partition=32, sharding_types=["column_wise", "grid_shard"]),
        "g": ParameterConstraints(pooling_factors=[1000.0]),
    }
    ours = assert_as_upstream(model, cluster(10, 5), 64, constraints)
    assert list(dict.fromkeys(o.name for o in ours)) == [
        *EVENTS,
        *BAGS,
    ]  # upstream's order of modules, a module's of tables
    assert [o.sharding_type for o in ours if o.name == "e"] == sorted(o.sharding_type for o in ours if o.name == "e")
    storage = {o.name: o.total_storage for o in ours if (o.sharding_type, o.compute_kernel) == ("table_wise", "fused")}
    assert storage["a"] == storage["f"] < storage["d"]  # the optimizer's state


@pytest.mark.parametrize("seed", range(4))
def test_random_models_as_upstream(seed):
    model, topology, constraints, batch = small_case(seed)
    assert_as_upstream(model, topology, batch, constraints)


def test_alike_tables_are_enumerated_once(monkeypatch):
    asked = []
    real = EmbeddingEnumerator._filter_sharding_types
    monkeypatch.setattr(
        EmbeddingEnumerator,
        "_filter_sharding_types",
        lambda self, name, *more: asked.append(name) or real(self, name, *more),
    )
    enumerate_grouped(Tables(BAGS, EVENTS), SHARDERS, cluster(4), 64)
    assert sorted(asked) == ["a", "c", "e", "g", "i"]


def test_runs_read_like_a_list_and_cannot_hold_ranks():
    rows = next(o for o in enumerate_grouped(Tables({"a": (10, 128)}), SHARDERS, cluster(4), 8) if o.num_shards == 4)
    shards = rows.shards
    assert isinstance(shards, ShardRuns) and len(shards.runs) < 4
    assert [s.size[0] for s in shards] == [s.size[0] for s in shards[:]] and shards[-1].size == shards[3].size
    shards[0].rank = 3
    assert shards[0].rank is None
    assert copy.deepcopy(rows).shards is shards


def test_an_impossible_constraint_is_upstreams_error():
    constraints = {"a": ParameterConstraints(sharding_types=["grid_shard"])}
    with pytest.raises(RuntimeError, match="for a"):
        enumerate_grouped(Tables({"a": (10, 128)}), SHARDERS, cluster(4, device="cpu"), 8, constraints)


def test_only_the_given_sharders_count():
    found = enumerate_grouped(Tables(BAGS, EVENTS), [EmbeddingBagCollectionSharder()], cluster(2), 8)
    assert {o.name for o in found} == set(BAGS)
    assert enumerate_grouped(torch.nn.Linear(2, 2), SHARDERS, cluster(2), 8) == []


def test_without_estimates_nothing_is_estimated_and_the_layout_is_the_same():
    model, topology, constraints, batch = small_case(0)
    plain = enumerate_grouped(model, SHARDERS, topology, batch, constraints, estimates=False)
    full = enumerate_grouped(model, SHARDERS, topology, batch, constraints)
    assert all(shard.perf is None and shard.storage is None for option in plain for shard in option.shards)
    layouts = [
        [(o.name, o.sharding_type, o.compute_kernel, [(s.size, s.offset) for s in o.shards]) for o in space]
        for space in (plain, full)
    ]
    assert layouts[0] == layouts[1]
