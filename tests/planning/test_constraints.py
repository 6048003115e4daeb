from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig

from interformer_rec.config.run import ShardingConfig
from interformer_rec.distributed.sharding import sharders
from interformer_rec.distributed.sharding_types import (
    SHARDING_TYPES,
    check_wish,
    not_automatic,
    not_possible,
    passed_over,
)
from interformer_rec.errors import InputError
from interformer_rec.planning.answer import place
from interformer_rec.planning.constraints import (
    Constraints,
    TableConstraints,
    TableKind,
    allowed,
    load_constraints,
    why_not,
    without_default,
)
from tests.planning.cases import CONFIG, CPU, GPU, problem

POOLED, SEQUENCE, WIDE = TableKind("p", True, 32), TableKind("s", False, 32), TableKind("w", True, 128)


def test_options_are_torchrecs_less_those_that_fail_or_make_no_sense():
    assert allowed(POOLED, Constraints(), "cuda", 8) == {
        "data_parallel": ["dense"],
        "table_wise": ["fused"],
        "row_wise": ["fused"],
        "table_row_wise": ["fused"],
    }
    assert set(allowed(WIDE, Constraints(), "cuda", 8)) == set(SHARDING_TYPES) - {"grid_shard"}
    assert set(allowed(POOLED, Constraints(), "cpu", 2)) == {"data_parallel", "table_wise"}
    assert set(allowed(SEQUENCE, Constraints(), "cpu", 2)) == {"table_wise", "row_wise"}
    assert "data_parallel" not in allowed(POOLED, Constraints(), "cuda", 1)


def test_adam_replicates_no_table_but_by_wish(tmp_path: Path):
    kind = TableKind("p", True, 32, "adam")
    assert set(allowed(POOLED, Constraints(), "cuda", 8)) - set(allowed(kind, Constraints(), "cuda", 8)) == {
        "data_parallel"
    }
    assert allowed(kind, Constraints(tables={"p": TableConstraints(sharding=("data_parallel",))}), "cuda", 8) == {
        "data_parallel": ["dense"]
    }
    found = {}
    for optimizer in ("adam", "rowwise_adagrad"):
        asked = problem(tmp_path, text=CONFIG + f"optimizer: {{embedding: {{kind: {optimizer}}}}}\n")
        found[optimizer] = {option.sharding_type for option in asked.space()}
    assert found["rowwise_adagrad"] - found["adam"] == {"data_parallel"}


def test_torchrec_offers_no_type_that_is_missing_here():
    module: nn.Module = EmbeddingBagCollection(
        [EmbeddingBagConfig(name="t", embedding_dim=8, num_embeddings=4, feature_names=["t"])],
        device=torch.device("meta"),
    )
    assert sharders({})[0].shardable_parameters(module).keys() == {"t"}
    assert set(sharders({})[0].sharding_types("cuda")) == set(SHARDING_TYPES)


def test_a_wish_allows_what_auto_leaves_out():
    constraints = Constraints(
        tables={"p": TableConstraints(sharding=("column_wise", "grid_shard"), kernels=("fused_uvm_caching",))}
    )
    assert allowed(POOLED, constraints, "cuda", 8) == {
        "column_wise": ["fused_uvm_caching"],
        "grid_shard": ["fused_uvm_caching"],
    }
    assert "host memory only if asked for" in why_not(POOLED, "table_wise", "fused_uvm", Constraints(), "cuda", 8)


def test_an_impossible_constraint_says_what_is_possible():
    constraints = Constraints(tables={"s": TableConstraints(sharding=("table_row_wise",))})
    with pytest.raises(
        InputError, match=r"leave table 's' no option.*table_row_wise.*it may have table_wise \(fused\)"
    ):
        allowed(SEQUENCE, constraints, "cuda", 8)
    with pytest.raises(InputError, match="fused_uvm on cpu"):
        allowed(
            POOLED, Constraints(default=TableConstraints(kernels=("fused_uvm",), sharding=("table_wise",))), "cpu", 2
        )


def test_a_file_goes_over_the_run_config(tmp_path: Path):
    path = tmp_path / "c.yaml"
    path.write_text("tables: {p: {sharding: [row_wise]}}\ntogether: [[p, w]]\n")
    config = ShardingConfig(default="table_wise", tables={"s": "row_wise", "p": "table_wise"})
    constraints = load_constraints(str(path), config, {kind.name: kind for kind in (POOLED, SEQUENCE, WIDE)})
    assert [constraints.of(name).sharding for name in "ps"] == [("row_wise",), ("row_wise",)]
    assert allowed(WIDE, constraints, "cuda", 8) == {"table_wise": ["fused"]}
    assert constraints.together == (("p", "w"),)


@pytest.mark.parametrize(
    "text, part",
    [
        ("tables: {x: {sharding: [row_wise]}}", "name table 'x'"),
        ("tables: {p: {sharding: [rowwise]}}", "tables.p.sharding"),
        ("tables: {p: {shard: [row_wise]}}", "shard"),
        ("together: [[p, w], [p, s]]", "'p' is in two groups"),
        ("- p", "must be a mapping"),
        ("a: [", "is not valid YAML: line 1"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, part: str):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=part):
        load_constraints(str(path), ShardingConfig(), {kind.name: kind for kind in (POOLED, SEQUENCE, WIDE)})


def test_wishes_reach_the_plan(tmp_path: Path):
    (tmp_path / "c.yaml").write_text("default: {sharding: [table_wise]}\ntogether: [[user, city, words]]\n")
    placed = place(problem(tmp_path, nodes=2, constraints=str(tmp_path / "c.yaml")))
    assert {option.sharding_type for option in placed.options} == {"table_wise"}
    ranks = {option.name: option.shards[0].rank for option in placed.options}
    assert ranks["user"] == ranks["city"] == ranks["words"]
    assert len(set(ranks.values())) > 1
    with pytest.raises(InputError, match="leave table 'user' no option"):
        (tmp_path / "d.yaml").write_text("tables: {user: {sharding: [row_wise]}}")
        place(problem(tmp_path, CPU, constraints=str(tmp_path / "d.yaml")))


KINDS = (POOLED, SEQUENCE, WIDE)


def of_run(default: str = "auto", **tables: str):
    return load_constraints(None, ShardingConfig(default=default, tables=tables), {kind.name: kind for kind in KINDS})


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("default", SHARDING_TYPES)
def test_a_table_that_may_have_the_default_has_it_and_others_are_named(device, ranks, default):
    constraints = of_run(default)
    for kind in KINDS:
        able = [one for one in SHARDING_TYPES if not_possible(kind.pooled, one, device) is None]
        free = [one for one in able if not_automatic(one, kind.dim, ranks) is None]
        assert sorted(allowed(kind, constraints, device, ranks)) == sorted([default] if default in able else free), kind
    unable = [kind.name for kind in KINDS if not_possible(kind.pooled, default, device)]
    note = without_default(KINDS, constraints, device, ranks, {})
    assert (note is None) == (not unable)
    if note:
        assert note == passed_over(default, unable) and note.endswith(", ".join(sorted(unable)))


@pytest.mark.parametrize("name, wish", [("s", "data_parallel"), ("p", "row_wise"), ("p", "grid_shard")])
def test_an_impossible_wish_for_a_table_is_the_error_that_a_run_gives(name, wish):
    kind = next(kind for kind in KINDS if kind.name == name)
    with pytest.raises(InputError) as planned:
        allowed(kind, of_run(**{name: wish}), "cpu", 2)
    with pytest.raises(InputError) as trained:
        check_wish(name, kind.pooled, wish, "cpu")
    assert str(planned.value) == str(trained.value)
    assert str(planned.value).startswith(f"sharding.tables.{name} is {wish}, but")


def test_auto_for_a_table_goes_over_the_default():
    assert set(allowed(SEQUENCE, of_run("row_wise", s="auto"), "cpu", 2)) == {"table_wise", "row_wise"}


def test_kernels_of_a_file_go_over_the_default_of_the_run(tmp_path: Path):
    (tmp_path / "c.yaml").write_text(
        "tables: {s: {kernels: [fused_uvm]}, p: {kernels: [fused_uvm]}}\n", encoding="utf-8"
    )
    sharding, kinds = ShardingConfig(default="data_parallel"), {kind.name: kind for kind in KINDS}
    constraints = load_constraints(str(tmp_path / "c.yaml"), sharding, kinds)
    assert allowed(POOLED, constraints, "cuda", 8)["table_wise"] == ["fused_uvm"]  # and the plan names it
    assert "data_parallel" not in allowed(POOLED, constraints, "cuda", 8)
    assert allowed(SEQUENCE, constraints, "cuda", 8).keys() == {"table_wise", "row_wise"}


def test_a_default_that_a_table_cannot_have_is_named_in_the_plan(tmp_path: Path):
    asked = problem(tmp_path, CPU, text=CONFIG + "sharding: {default: row_wise}\n")
    placed = place(asked)
    types = {option.name: option.sharding_type for option in placed.options}
    assert types["item"] == types["tag"] == "row_wise"
    (note,) = asked.notes
    assert note == passed_over("row_wise", ["user", "city", "words"])


def test_kernels_of_ones_own_are_kept_or_refused(tmp_path: Path):
    """A table that is to lie in host memory is not replicated in silence; where there is none it is an error."""
    (tmp_path / "c.yaml").write_text("tables: {user: {kernels: [fused_uvm]}}")
    placed = place(problem(tmp_path, GPU, constraints=str(tmp_path / "c.yaml")))
    (user,) = [option for option in placed.options if option.name == "user"]
    assert user.compute_kernel == "fused_uvm" and user.sharding_type != "data_parallel"
    with pytest.raises(InputError, match="constraints leave table 'user' no option"):
        place(problem(tmp_path, CPU, constraints=str(tmp_path / "c.yaml")))
