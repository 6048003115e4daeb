"""A draft's settings follow from the data, are alike for every kind, and say why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from interformer_rec.config.run import RunConfig, parse
from interformer_rec.data.inspect.command import inspect_folder
from interformer_rec.data.inspect.settings import Sizes


def _shop(folder: Path, same: bool, rows: int = 400) -> str:
    """Two histories of videos: those that were liked are among those seen, or (`same` False) drawn apart."""
    random = np.random.default_rng(0)
    seen = [random.integers(0, 300, 12).tolist() for _ in range(rows)]
    liked = [events[::2] + events[-1:] if same else random.integers(0, 300, 7).tolist() for events in seen]
    table = pa.table(
        {
            "click": random.integers(0, 2, rows).astype(np.int8),
            "user_id": random.integers(0, 60, rows),
            "video_id": random.integers(0, 300, rows),
            "seen_video_ids": seen,
            "liked_video_ids": liked,
        }
    )
    for name in ("train", "valid"):
        pq.write_table(table, folder / f"{name}.parquet")
    return str(folder)


def _drafted(path: str, kind: str | None = None) -> RunConfig:
    return parse(yaml.safe_load(inspect_folder(path, kind)), "draft")


@pytest.mark.parametrize(
    "rows, batch_size, embedding_dim, epochs, members",
    [(900, 512, 16, 3, 1), (80_000, 512, 16, 3, 3), (200_000, 512, 16, 2, 2), (900_000, 2048, 32, 1, 1)],
)
def test_sizes_follow_from_the_rows(rows: int, batch_size: int, embedding_dim: int, epochs: int, members: int) -> None:
    sizes = Sizes(rows)
    assert (sizes.batch_size, sizes.embedding_dim, sizes.epochs, sizes.members) == (
        batch_size,
        embedding_dim,
        epochs,
        members,
    )


@pytest.mark.parametrize("same, merge", [(True, "union"), (False, "concat")])
def test_histories_are_united_where_they_hold_the_same_events(tmp_path: Path, same: bool, merge: str) -> None:
    path = _shop(tmp_path, same)
    config = _drafted(path)
    assert [group.name for group in config.features.sequences] == ["seen_video_ids", "liked_video_ids"]
    assert config.model.kind == "interformer" and config.model.sequence.merge == merge
    assert ("two histories end with the same event" in inspect_folder(path)) == same


def test_every_kind_is_trained_alike(tmp_path: Path) -> None:
    path = _shop(tmp_path, same=True)
    ours, din, fm = (_drafted(path, kind) for kind in (None, "din", "fm"))
    assert ours.optimizer == din.optimizer == fm.optimizer
    assert ours.training == din.training == fm.training and ours.training.patience == 1
    assert (ours.model.embedding_dim, ours.model.embedding_std, ours.model.dropout) == (
        din.model.embedding_dim,
        din.model.embedding_std,
        din.model.dropout,
    )
