from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from interformer_rec.planning.answer import place
from interformer_rec.planning.cost.traffic import FAR, PARTS, Traffic, traffic
from tests.planning.cases import CONFIG, CPU, GPU, problem

TYPES = {"pooled": ["table_wise", "row_wise", "table_row_wise", "data_parallel"], "jagged": ["table_wise", "row_wise"]}


@pytest.mark.parametrize("seed", range(8))
def test_bytes_sent_are_bytes_received(tmp_path: Path, seed: int):
    """Over random plans, of tables with fewer rows than ranks too: every byte that leaves a rank arrives at another one."""
    draw = random.Random(seed)
    rows = {name: draw.choice([1, 3, 7, 40, 900]) for name in ("item", "tag", "user", "city", "words")}
    text = CONFIG
    for old, name in ((400, "item"), (30, "tag"), (900, "user"), (50, "city"), (200, "words")):
        text = text.replace(f"num_embeddings: {old}{'}' if name in ('item', 'tag') else ','}",
                            f"num_embeddings: {rows[name]}{'}' if name in ('item', 'tag') else ','}")  # fmt: skip
    wishes = {name: draw.choice(TYPES["jagged" if name in ("item", "tag") else "pooled"]) for name in rows}
    lines = "\n".join(f"  {name}: {{sharding: [{kind}]}}" for name, kind in wishes.items())
    (tmp_path / "c.yaml").write_text(f"tables:\n{lines}\n")
    options = {
        "constraints": str(tmp_path / "c.yaml"),
        "set": [f"sharding.deduplicate={draw.choice(['true', 'false'])}"],
    }
    placed = place(problem(tmp_path, GPU, draw.choice([1, 2, 8]), text, **options))
    found = traffic(placed.problem, placed.options)
    assert found.sent().sum() == pytest.approx(found.received.sum())
    for part in PARTS:
        assert found.owner[part].sum() == pytest.approx(found.other_side(part).sum())
    first, second = found.between_hosts
    pairs = first[:, None] + second[None, :]
    np.fill_diagonal(pairs, 0.0)
    hosts = found.hosts
    assert pairs.sum(1) == pytest.approx(sum(hosts[name] for name in FAR))
    assert found.all_reduce > 0 if placed.problem.nodes > 1 else found.all_reduce == 0
    read = Traffic.read(found.to_dict(), found.local)
    assert all(np.array_equal(read.hosts[name], hosts[name]) for name in hosts)
    # nobody waits for a rank that receives more than the busiest sends
    for part in ("near", "far", "near_back", "far_back"):
        assert found.other_side(part).max() <= found.owner[part].max() * (1 + 1e-9)


@pytest.mark.parametrize(
    "changes, vectors",
    [([], 0.91), (["sharding.deduplicate=false"], 12.6), (["sharding.communication=bf16"], 0.49),
     (["sharding.deduplicate=false", "sharding.communication=bf16"], 6.3)],
)  # fmt: skip
def test_kuairand_sends_what_was_measured(tmp_path: Path, changes: list[str], vectors: float):
    """2 ranks x 1,024 rows, MB of vectors and gradients a step (docs/decisions/0012); then of 16 floats a row, small tables replicated."""
    root = Path(__file__).parents[3]
    narrow = ["model.embedding_dim=16", "model.ensemble_members=1", *changes]
    text = (root / "configs/kuairand_pure.yaml").read_text()
    (tmp_path / "statistics").mkdir()
    (tmp_path / "statistics" / "small.json").write_text((root / "configs/statistics/kuairand_pure.json").read_text())
    kinds = dict.fromkeys(("video", "author", "tag"), "row_wise") | dict.fromkeys(
        ("user_id", "music_id", "user_onehot_feat3", "user_onehot_feat8"), "table_wise"
    )
    lines = "\n".join(f"  {name}: {{sharding: [{kind}]}}" for name, kind in kinds.items())
    (tmp_path / "c.yaml").write_text(f"default: {{sharding: [data_parallel]}}\ntables:\n{lines}\n")
    options = {"set": narrow, "batch_size": 1024, "constraints": str(tmp_path / "c.yaml")}
    placed = place(problem(tmp_path, CPU, 1, text, **options))
    sent = traffic(placed.problem, placed.options).sent("near", "far", "near_back", "far_back")
    assert np.mean(sent) / 1e6 == pytest.approx(vectors, rel=0.15)
