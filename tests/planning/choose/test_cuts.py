"""Column cuts: which there are, and that the search takes the one that balances best, held against every plan of a small job."""

from __future__ import annotations

from pathlib import Path

import pytest

from interformer_rec.planning.answer import place
from interformer_rec.planning.choose.cuts import widths
from interformer_rec.planning.cost.timing import step_time
from interformer_rec.planning.explain import explain
from interformer_rec.planning.plan_file import read_plan, to_dict, write_plan
from tests.planning.cases import problem
from tests.planning.choose.test_exchange import plans

WIDE = """
name: small
data: {batch_size: 2048}
features:
  tables:
    user: {ids: hash, num_embeddings: 40000000, embedding_dim: DIM}
    city: {ids: hash, num_embeddings: 100, embedding_dim: 8}
  ids: [user, city]
  dense: [age]
  labels: [label]
model: {kind: dlrm, embedding_dim: 8}
"""


def test_which_cuts_there_are():
    assert widths(64, None) == widths(96, None) == [None]  # TorchRec's own: not cut
    assert widths(128, None) == [64]
    assert widths(512, None) == [64, 128, 256]
    assert widths(192, None) == [64, 96]
    assert widths(128, 16) == [16] and widths(96, 20) == [24] and widths(96, 50) == [96] and widths(64, 512) == [64]


@pytest.mark.parametrize("dim", [128, 256])
def test_the_cut_is_the_best_of_all(tmp_path: Path, dim: int):
    """One table that costs nearly all of the step: pieces of 64 are on as many ranks as there are."""
    (tmp_path / "c.yaml").write_text(
        "default: {sharding: [table_wise, column_wise]}\ntables: {city: {sharding: [data_parallel]}}"
    )
    options = {"hardware": {"devices_per_node": 4, "host_device_gb_per_s": 1}, "constraints": str(tmp_path / "c.yaml")}
    placed = place(problem(tmp_path, text=WIDE.replace("DIM", str(dim)), **options))
    (user,) = [option for option in placed.options if option.name == "user"]
    assert user.sharding_type == "column_wise" and {shard.size[1] for shard in user.shards} == {64}
    assert len({shard.rank for shard in user.shards}) == dim // 64
    best = min(step_time(placed.problem, plan).total for plan in plans(placed.problem))
    assert placed.time.total == pytest.approx(best)
    path = str(tmp_path / "plan.json")
    write_plan(path, to_dict(placed))
    assert [shard[4] for shard in read_plan(path).tables["user"].shards] == [64] * (dim // 64)


def test_a_wish_pins_the_cut_and_the_others_are_explained(tmp_path: Path):
    (tmp_path / "c.yaml").write_text("tables: {user: {sharding: [column_wise], min_partition: 128}}")
    placed = place(
        problem(
            tmp_path,
            text=WIDE.replace("DIM", "256").replace("40000000", "4000000"),
            constraints=str(tmp_path / "c.yaml"),
        )
    )
    (user,) = [option for option in placed.options if option.name == "user"]
    assert [shard.size[1] for shard in user.shards] == [128, 128]
    (tmp_path / "c.yaml").write_text("tables: {user: {sharding: [column_wise]}}")
    placed = place(
        problem(
            tmp_path,
            text=WIDE.replace("DIM", "256").replace("40000000", "4000000"),
            constraints=str(tmp_path / "c.yaml"),
        )
    )
    report = next(one for one in explain(placed) if one.name == "user")
    (other,) = [one for one in report.rejected if one.sharding == "column_wise" and one.kernel == "fused"]
    taken = next(option for option in placed.options if option.name == "user").shards[0].size[1]
    assert other.reason.startswith(f"in pieces of {64 if taken == 128 else 128} floats: ")
