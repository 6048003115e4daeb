from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torchrec.distributed.model_parallel import DistributedModelParallel
from torchrec.distributed.types import ShardingEnv

from interformer_rec.config.optimizer import OptimizerConfig, Schedule
from interformer_rec.config.run import ShardingConfig, load
from interformer_rec.distributed.environment import Environment
from interformer_rec.distributed.lookup.communication import Exchange
from interformer_rec.distributed.lookup.tables import FirstWeights, initialise_tables
from interformer_rec.distributed.optimizer import LearningRate, RunOptimizer, fused_params
from interformer_rec.distributed.parallelize import Parallel
from interformer_rec.distributed.sharding import sharders
from interformer_rec.distributed.state import local_state
from interformer_rec.errors import InputError
from interformer_rec.model.task import build_task
from interformer_rec.planning.answer import place
from interformer_rec.planning.cost.sizes import find_sizes
from interformer_rec.planning.load_plan import load_plan
from interformer_rec.planning.plan_file import read_plan, to_dict, write_plan
from tests.launch import on_one, on_ranks
from tests.planning.cases import CPU, problem
from tests.planning.measure import batch_of


def written(folder: Path, ranks: int = 2, **options: Any) -> str:
    path = str(folder / f"plan-{ranks}.json")
    write_plan(path, to_dict(place(problem(folder, CPU, hardware={"devices_per_node": ranks}, **options))))
    return path


def meta_task(config_path: str, *overrides: str):
    config = load(config_path, overrides)
    sizes = find_sizes(config)
    with torch.device("meta"):
        return build_task(config.features, config.model, sizes.rows)


def train(env: Environment, config_path: str, plan_path: str) -> dict[str, Any]:
    """Three steps with the plan of the file; bytes of tables and optimizer state on this rank."""
    config = load(config_path)
    sizes = find_sizes(config)
    torch.manual_seed(1)
    task = build_task(config.features, config.model, sizes.rows, device=torch.device("meta"))
    plan = load_plan(plan_path, task, ranks=env.world_size, ranks_per_node=env.local_world_size, device="cpu").tables
    options = OptimizerConfig()
    model = DistributedModelParallel(
        task, ShardingEnv.from_process_group(dist.group.WORLD), env.device, plan, sharders(fused_params(options.embedding, env.device))
    )  # fmt: skip
    initialise_tables(model, FirstWeights(0, dict.fromkeys(config.features.tables, 0.1)))
    optimizer = RunOptimizer(model, options.dense, options.embedding, LearningRate(Schedule(), lambda: 10, True))
    torch.manual_seed(7 + env.rank)
    batch = batch_of(config, sizes, 16)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss, _ = model(batch)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    measured = {"weights": 0, "state": 0}
    for _, parts in local_state(Parallel(model, optimizer, [], Exchange(False, "fp32"), prefetch=False)):
        for name, tensor in parts.items():
            measured["weights" if name == "weight" else "state"] += tensor.numel() * tensor.element_size()
    return {"losses": losses, **measured}


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_a_run_trains_with_a_plan_from_json_and_holds_what_was_predicted(tmp_path: Path, ranks: int):
    """Predicted bytes of tables and of their optimizer state within 2% of the live tensors, on every rank."""
    (tmp_path / "c.yaml").write_text(
        "tables: {city: {sharding: [data_parallel]}, item: {sharding: [row_wise]}, user: {sharding: [table_wise]}}"
    )
    path = written(tmp_path, ranks, constraints=str(tmp_path / "c.yaml"))
    predicted = json.loads(Path(path).read_text())["memory"]["always"]
    config = str(tmp_path / "small.yaml")
    results = [on_one(train, config, path)] if ranks == 1 else on_ranks(ranks, train, config, path)
    for rank, result in enumerate(results):
        assert result["losses"][-1] < result["losses"][0]
        assert predicted["table weights"][rank] == pytest.approx(result["weights"], rel=0.02)
        assert predicted["table optimizer state"][rank] == pytest.approx(result["state"], rel=0.02, abs=8)
    assert sum(result["state"] for result in results) > 0


def test_the_file_gives_the_plan_that_was_found(tmp_path: Path):
    placed = place(problem(tmp_path, CPU))
    path = str(tmp_path / "p.json")
    write_plan(path, to_dict(placed))
    plan = load_plan(path, meta_task(str(tmp_path / "small.yaml")), ranks=2, ranks_per_node=2, device="cpu").tables.plan
    assert set(plan) == {"embeddings.ebc", "embeddings.ec"}
    for option in placed.options:
        sharding = plan[option.path][option.name]
        assert (sharding.sharding_type, sharding.compute_kernel) == (option.sharding_type, option.compute_kernel)
        assert sharding.ranks == [shard.rank for shard in option.shards]
        if sharding.sharding_spec is not None:
            assert [list(s.shard_sizes) for s in sharding.sharding_spec.shards] == [list(s.size) for s in option.shards]


def test_a_plan_for_something_else_is_refused_with_every_difference(tmp_path: Path):
    path = written(tmp_path)
    config = str(tmp_path / "small.yaml")

    def refused(task: torch.nn.Module, ranks: int = 2, device: str = "cpu") -> str:
        with pytest.raises(InputError) as error:
            load_plan(path, task, ranks=ranks, ranks_per_node=ranks, device=device)
        return str(error.value)

    assert "ranks: the plan has 2, this job 4" in refused(meta_task(config), ranks=4)
    assert "device: the plan has cpu, this job cuda" in refused(meta_task(config), device="cuda")
    grown = meta_task(config, "features.tables.user.num_embeddings=901")
    assert "table 'user': rows 901 in the plan, 902 in the model" in refused(grown)
    wider = meta_task(config, "features.tables.city.embedding_dim=32")
    assert "table 'city': dim 16 in the plan, 32 in the model" in refused(wider)
    other = meta_task(config, "features.tables={item: {ids: hash, num_embeddings: 400}, tag: {ids: hash, num_embeddings: 30}}",
                      "features.ids=[{name: item_id, table: item}]", "features.bags=[]")  # fmt: skip
    assert "table 'city' is only in the plan" in refused(other)


def test_a_plan_file_and_a_wish_that_differ_are_an_error(tmp_path: Path):
    path = written(tmp_path)
    task, item = meta_task(str(tmp_path / "small.yaml")), read_plan(path).tables["item"].sharding
    load_plan(path, task, 2, 2, "cpu", ShardingConfig(tables={"item": item, "user": "auto"}))
    with pytest.raises(
        InputError, match=rf"sharding\.tables\.item is data_parallel, but sharding\.plan makes it {item}"
    ):
        load_plan(path, task, 2, 2, "cpu", ShardingConfig(tables={"item": "data_parallel"}))


def test_a_plan_with_holes_is_refused(tmp_path: Path):
    path = Path(written(tmp_path))
    tree = json.loads(path.read_text())
    shards = tree["tables"]["item"]["shards"]
    shards[0][3] -= 1
    path.write_text(json.dumps(tree))
    with pytest.raises(InputError, match="'item': its shards do not cover it"):
        load_plan(str(path), meta_task(str(tmp_path / "small.yaml")), ranks=2, ranks_per_node=2, device="cpu")


ODD = {
    "a rank that is not there": (lambda table: table["shards"][0].__setitem__(0, 2), "lies outside of the table or the job"),
    "a rank below none": (lambda table: table["shards"][0].__setitem__(0, -1), "lies outside of the table or the job"),
    "a shard below the table": (lambda table: table["shards"][0].__setitem__(1, 500), "lies outside of the table or the job"),
    "two halves that are the same": (
        lambda table: table.update(shards=[[0, 0, 0, 200, 8], [1, 0, 0, 200, 8]]), "its shards do not cover it"
    ),
    "a type that the device lacks": (lambda table: table.update(sharding="grid_shard"), "TorchRec has no grid_shard"),
    "a type that is none": (lambda table: table.update(sharding="../x"), "TorchRec has no ../x"),
    "two shards that overlap": (
        lambda table: table.update(sharding="row_wise", shards=[[0, 0, 0, 301, 8], [1, 200, 0, 100, 8]]), "overlap"
    ),
    "two whole tables": (
        lambda table: table.update(sharding="table_wise", shards=[[0, 0, 0, 200, 8], [1, 200, 0, 201, 8]]),
        "table_wise is one shard, not 2",
    ),
    "rows on one rank twice": (
        lambda table: table.update(sharding="row_wise", shards=[[0, 0, 0, 200, 8], [0, 200, 0, 201, 8]]), "each of the 2 ranks"
    ),
    "a kernel that the device lacks": (lambda table: table.update(kernel="fused_uvm"), "TorchRec has no kernel fused_uvm"),
    "a kernel that is none": (lambda table: table.update(kernel="quick"), "tables.item.kernel"),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
def test_a_plan_that_nobody_can_carry_out_is_refused(tmp_path: Path, case: str):
    change, part = ODD[case]
    path = Path(written(tmp_path))
    tree = json.loads(path.read_text(encoding="utf-8"))
    change(tree["tables"]["item"])
    path.write_text(json.dumps(tree), encoding="utf-8")
    with pytest.raises(InputError, match=part):
        load_plan(str(path), meta_task(str(tmp_path / "small.yaml")), ranks=2, ranks_per_node=2, device="cpu")


@pytest.mark.parametrize("text, part", [("{}", "format"), ("[1", "not a plan"), ('{"format": 2}', "format")])
def test_files_that_are_no_plans(tmp_path: Path, text: str, part: str):
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(InputError, match=part):
        read_plan(str(tmp_path / "p.json"))
    with pytest.raises(InputError, match="cannot read plan"):
        read_plan(str(tmp_path / "nothing.json"))


def test_the_same_question_gives_the_same_file(tmp_path: Path):
    def once() -> dict[str, Any]:
        content = json.loads(json.dumps(to_dict(place(problem(tmp_path, CPU)))))
        content["search"].pop("seconds")
        return content

    assert once() == once()
