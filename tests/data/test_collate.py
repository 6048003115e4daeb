"""Every feature kind from a real Parquet file to a Batch, against values worked out by hand."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from interformer_rec.batch import Batch
from interformer_rec.config.features import NULL_GROUP, FeatureSchema
from interformer_rec.data.collate import empty_batch
from interformer_rec.data.fit import fit
from tests.data.samples import every_kind, every_kind_rows, loader_of, numbered, write_numbered


def blake(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def only_batch(path: Path, **options) -> Batch:
    features = every_kind()
    loader = loader_of(str(path), features, fit(features, str(path)), batch_size=8, **options)
    ((batch, _),) = loader.batches()
    return batch


def lists_of(keyed, key: str) -> list[list[int]]:
    part = keyed[key]
    return [part.values()[a:b].tolist() for a, b in zip(part.offsets()[:-1], part.offsets()[1:], strict=True)]


@pytest.mark.parametrize("row_group_size", [4, 1])
def test_every_kind_of_feature_against_values_by_hand(tmp_path, row_group_size):
    pq.write_table(every_kind_rows(), tmp_path / "a.parquet", row_group_size=row_group_size)
    batch = only_batch(tmp_path)
    assert batch.rows == batch.batch_size == 4 and batch.loss_rows == 4.0
    # age: null -> -1 -> clipped to 0; 99 -> 60. price: sign(x) log(1 + |x|). height: mean 2, deviation 1.
    expected = [[20, 0, -1], [0, 1, 1], [60, -1, -1], [30, 0, 1]]
    torch.testing.assert_close(batch.dense, torch.tensor(expected, dtype=torch.float32))
    # item is counted over candidate, watch_item and buy_item: 10 x5, 20 x4, 30 x2 -> rows 2, 3, 4.
    # city: b twice -> row 2; a once, below min_count -> unknown. tag: 7 x3, 8 x3, 9 x1 (over two).
    user = [blake("u1") % 1000 + 1, blake("u2") % 1000 + 1, blake("u1") % 1000 + 1, 0]
    assert batch.sparse.keys() == ["city", "user", "tags", "topics"]
    assert lists_of(batch.sparse, "city") == [[2], [1], [0], [2]]
    assert lists_of(batch.sparse, "user") == [[row] for row in user]
    assert lists_of(batch.sparse, "tags") == [[2], [], [], [2, 3, 1, 2, 3]]
    assert lists_of(batch.sparse, "topics") == [[3], [0], [0], []]
    assert batch.sequences.keys() == ["watch.item", "watch.hour", "buy.item", "hour", "candidate"]
    assert lists_of(batch.sequences, "watch.item") == [[3, 4], [], [3], [0, 2]]
    assert lists_of(batch.sequences, "watch.hour") == [[3, 4], [], [5], [6, 7]]
    assert lists_of(batch.sequences, "buy.item") == [[], [2, 2], [], [3]]
    assert lists_of(batch.sequences, "hour") == [[4], [], [24], [1]]
    assert lists_of(batch.sequences, "candidate") == [[2], [3], [4], [0]]
    assert batch.timestamps["watch"].tolist() == [5, 9, 1, 2, 3] and list(batch.timestamps) == ["watch"]
    assert batch.labels.tolist() == [[1, 0.5], [0, 1], [1, 0], [0, 0.25]]
    assert batch.weights.tolist() == [1, 2, 0, 0.5]
    keys = [np.array(blake(u), np.uint64).view(np.int64).item() for u in ("u1", "u2", "u1")]
    assert batch.groups.tolist() == [*keys, NULL_GROUP]


def test_dtypes_are_those_of_the_batch(tmp_path):
    pq.write_table(every_kind_rows(), tmp_path / "a.parquet")
    batch = only_batch(tmp_path)
    assert batch.dense.dtype == batch.labels.dtype == batch.weights.dtype == torch.float32
    assert batch.groups.dtype == batch.timestamps["watch"].dtype == torch.int64
    for keyed in (batch.sparse, batch.sequences):
        assert (keyed.values().dtype, keyed.lengths().dtype, keyed.stride()) == (torch.int64, torch.int32, 4)


def test_without_labels_the_label_weight_and_group_columns_may_be_absent(tmp_path):
    table = every_kind_rows()
    pq.write_table(table, tmp_path / "train.parquet")
    pq.write_table(table.drop_columns(["click", "rating", "weight"]), tmp_path / "new.parquet")
    features = every_kind()
    fitted = fit(features, str(tmp_path / "train.parquet"))
    loader = loader_of(str(tmp_path / "new.parquet"), features, fitted, batch_size=8, labels=False)
    ((batch, _),) = loader.batches()
    assert batch.labels.shape == (4, 0) and batch.weights.tolist() == [1] * 4 and batch.groups.tolist() == [0] * 4
    assert lists_of(batch.sequences, "candidate") == [[2], [3], [4], [0]]


def test_a_filler_has_the_keys_and_no_values():
    features = every_kind()
    batch = empty_batch(features, tasks=2, loss_rows=3.5)
    assert (batch.rows, batch.batch_size, batch.loss_rows, batch.weights.tolist()) == (0, 1, 3.5, [0.0])
    assert batch.dense.shape == (1, 3) and batch.labels.shape == (1, 2)
    for keyed, lookups in ((batch.sparse, features.pooled_lookups), (batch.sequences, features.jagged_lookups)):
        assert keyed.keys() == [lookup.key for lookup in lookups] and keyed.stride() == 1
        assert keyed.lengths().tolist() == [0] * len(lookups) and keyed.values().numel() == 0


def test_a_schema_without_pooled_features_gives_a_keyless_tensor_of_b_rows(tmp_path):
    whole = numbered().model_dump()
    features = FeatureSchema.model_validate({**whole, "ids": [], "tables": {"event": whole["tables"]["event"]}})
    loader = loader_of(
        write_numbered(tmp_path / "n", [[5]]), features, fit(features, str(tmp_path / "n")), batch_size=5
    )
    ((batch, _),) = loader.batches()
    assert batch.sparse.keys() == [] and batch.sparse.stride() == 5 and batch.sparse.values().numel() == 0
    assert batch.to(torch.device("cpu")).sparse.stride() == 5
