"""Questions nobody would ask, drawn with a seed for a bounded time: each gets a plan or an InputError, never another exception."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import yaml

from interformer_rec.distributed.sharding_types import SHARDING_TYPES
from interformer_rec.errors import InputError
from tests.planning.cases import CONFIG, plan

QUESTIONS = 50
TABLES = ("item", "tag", "user", "city", "words")
KERNELS = ("fused", "dense", "fused_uvm", "fused_uvm_caching")
CLUSTERS = ("cpu", "dgx-h100", "dgx-a100-40", "g2-standard-96")
ROWS = (1, 2, 3, 1000, 10**6, 10**9, 2**40)
PLACES = ([0], [0], ["0-1"], ["0-7"], [9])


def question(draw: random.Random) -> dict[str, object]:
    """Options of plan(), and under `wishes` a constraints file."""
    wishes: dict[str, object] = {"tables": {}}
    for table in draw.sample(TABLES, draw.randint(0, 3)):
        wish: dict[str, object] = {}
        if draw.random() < 0.5:
            wish["sharding"] = draw.sample(SHARDING_TYPES, draw.randint(1, 2))
        if draw.random() < 0.4:
            wish["kernels"] = draw.sample(KERNELS, draw.randint(1, 2))
        if draw.random() < 0.3:
            wish[draw.choice(("hosts", "ranks"))] = draw.choice(PLACES)
        wishes["tables"][table] = wish  # type: ignore[index]
    if draw.random() < 0.3:
        wishes["together"] = [draw.sample(TABLES, 2)]
    overrides = [f"sharding.default={draw.choice(SHARDING_TYPES)}"] if draw.random() < 0.5 else []
    if draw.random() < 0.3:
        overrides.append(f"sharding.tables.{draw.choice(TABLES)}={draw.choice(('auto', *SHARDING_TYPES))}")
    overrides.append(f"model.embedding_dim={draw.choice((4, 8, 128, 256, 1024))}")
    return {
        "cluster": draw.choice(CLUSTERS),
        "nodes": draw.choice((1, 1, 1, 2, 2, 3, 0, 10**9)),
        "batch_size": draw.choice((1, 16, 512, 4096, 4096, 2**31 - 1)),
        "reserve": draw.choice((0.0, 0.1, 0.1, 0.5, 0.999999)),
        "rows": [f"{table}={draw.choice(ROWS)}" for table in draw.sample(TABLES, draw.randint(0, 2))],
        "lengths": [f"words={draw.choice((0, 0.001, 5, 1e6))}"] if draw.random() < 0.4 else [],
        "set": overrides,
        "why": ["user"] if draw.random() < 0.2 else [],
        "wishes": wishes,
    }


@pytest.mark.slow
def test_every_question_has_an_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config, constraints = tmp_path / "small.yaml", tmp_path / "wishes.yaml"
    config.write_text(CONFIG, encoding="utf-8")
    draw, planned, refused = random.Random(18), 0, 0
    for _ in range(QUESTIONS):
        asked = question(draw)
        constraints.write_text(yaml.safe_dump(asked.pop("wishes")), encoding="utf-8")
        try:
            planned += plan(str(config), str(asked.pop("cluster")), constraints=str(constraints), **asked) == 0  # type: ignore[arg-type]
        except InputError as error:
            assert str(error)
            refused += 1
        except Exception as error:
            pytest.fail(f"{error!r} of {asked}, {constraints.read_text(encoding='utf-8')}")
        capsys.readouterr()
    assert planned and refused
