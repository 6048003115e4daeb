"""Rows that are skipped, and the loss: as if they had not been in the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch.distributed as dist

from interformer_rec.config.run import RunConfig
from interformer_rec.data.fit import fit
from interformer_rec.distributed.environment import Environment
from interformer_rec.training.build import build_parallel
from interformer_rec.training.pipeline import Pipeline
from tests.data.samples import loader_of
from tests.distributed.tiny import whole_state
from tests.launch import on_one, on_ranks

ROWS, BATCH = 192, 16


def write(synthetic: Path, folder: Path, world_size: int) -> None:
    """bad/: rows whose label is null, half of them in the first half of the epoch; good/NN: the others of every step."""
    table = pq.read_table(synthetic / "train").slice(0, ROWS)
    random = np.random.default_rng(0)
    table = table.append_column("w", pa.array(random.uniform(0.5, 2.0, ROWS)))
    bad = random.random(ROWS) < np.where(np.arange(ROWS) < ROWS // 2, 0.6, 0.1)
    bad[:BATCH] = True  # a filler on rank 0
    labels = [None if wrong else label for wrong, label in zip(bad, table["label"].to_pylist(), strict=True)]
    wrong = table.set_column(table.schema.get_field_index("label"), "label", pa.array(labels, pa.int64()))
    for name in ("bad", "good"):
        (folder / name).mkdir()
    pq.write_table(wrong, folder / "bad" / "0.parquet")
    share = ROWS // world_size
    for step in range(-(-share // BATCH)):
        starts = [rank * share + step * BATCH for rank in range(world_size)]
        rows = np.concatenate([np.arange(s, min(s + BATCH, (r + 1) * share)) for r, s in enumerate(starts)])
        if len(rows[~bad[rows]]):
            pq.write_table(table.take(rows[~bad[rows]]), folder / "good" / f"{step:02d}.parquet")


def train(env: Environment, settings: RunConfig, folder: str, skipping: bool) -> tuple[list[float], dict, dict]:
    """Losses, table rows and dense weights: of bad/ with rows skipped, or of good/, a file a step."""
    features, fitted = settings.features, fit(settings.features, f"{folder}/good")
    parallel = build_parallel(settings, env, fitted)
    pipeline = Pipeline(parallel, env, skipping=skipping)
    options = {"rank": env.rank, "world_size": env.world_size, "on_bad_row": "skip" if skipping else "error"}
    files = [f"{folder}/bad"] if skipping else sorted(map(str, Path(folder, "good").iterdir()))
    losses = []
    for file in files:
        loader = loader_of(file, features, fitted, batch_size=BATCH if skipping else ROWS, **options)
        for step in pipeline.run(loader.batches(), train=True):
            total = step.loss.clone()
            dist.all_reduce(total)
            losses.append(float(total) / env.world_size)
    dense = {n: p.detach().numpy().copy() for n, p in parallel.model.named_parameters() if "embedding" not in n}
    return losses, whole_state(env, parallel), dense


def compare(small, synthetic: Path, tmp_path: Path, world_size: int, *overrides: str) -> None:
    write(synthetic, tmp_path, world_size)
    settings = small(
        "features.weight=w",
        "optimizer.embedding.kind=sgd",
        "optimizer.embedding.lr=0.1",
        "optimizer.embedding.l2=0.01",
        "optimizer.dense.eps=1e-4",  # else Adam makes whole steps of gradients that are nothing but rounding
        "sharding.default=table_wise",
        *overrides,
    )
    expected = on_one(train, settings, str(tmp_path), False)
    if world_size == 1:
        found = on_one(train, settings, str(tmp_path), True)
        assert found[0].pop(0) == 0  # all of the first batch is bad: a step without a loss, which moves nothing yet
    else:
        found = on_ranks(world_size, train, settings, str(tmp_path), True)[0]
    np.testing.assert_allclose(found[0], expected[0], atol=1e-6)
    for part in (1, 2):
        assert found[part].keys() == expected[part].keys() != set()
        for name, array in expected[part].items():
            np.testing.assert_allclose(found[part][name], array, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("world_size", [1, 2, pytest.param(4, marks=pytest.mark.slow)])
def test_skipped_rows_change_neither_loss_nor_gradients(small, synthetic, tmp_path, world_size):
    compare(small, synthetic, tmp_path, world_size)


def test_skipped_rows_do_not_change_the_pairwise_loss(small, synthetic, tmp_path):
    overrides = ("features.group=mode", "data.balance=groups", "training.pairwise_loss_weight=0.5")
    compare(small, synthetic, tmp_path, 1, *overrides)
