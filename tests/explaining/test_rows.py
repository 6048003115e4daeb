"""Rows are kept by whole users, the same ones however they are read."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.config.data import DataConfig
from interformer_rec.config.features import FeatureSchema
from interformer_rec.data.fit import fit
from interformer_rec.data.loader import Loader
from interformer_rec.errors import InputError
from interformer_rec.explaining.rows import KeptRows, read_rows

ROWS = 1_000
SCHEMA = FeatureSchema.model_validate(
    {"tables": {"item": {}}, "dense": ["x"], "ids": ["item"], "labels": ["click"], "group": "user"}
)


@pytest.fixture
def table() -> pa.Table:
    random = np.random.default_rng(0)
    return pa.table(
        {
            "user": random.integers(0, 80, ROWS),
            "item": random.integers(0, 9, ROWS),
            "x": random.normal(size=ROWS).astype(np.float32),
            "click": random.integers(0, 2, ROWS),
            "row": np.arange(ROWS),
        }
    )


def kept(path, table: pa.Table, most: int, schema=SCHEMA, seed=0, group_rows=90, **data) -> KeptRows:
    pq.write_table(table, path / "rows.parquet", row_group_size=group_rows)
    loader = Loader(str(path / "rows.parquet"), schema, fit(schema, str(path / "rows.parquet")), DataConfig(**data), 0)
    return read_rows(loader, most, ["row", "user"], schema.group is not None, seed)


def test_all_rows_in_their_order(table, tmp_path):
    found = kept(tmp_path, table, ROWS)
    assert found.read == found.rows == ROWS and found.table["row"].to_pylist() == list(range(ROWS))
    assert (found.columns.groups == table["user"].to_numpy()).all()


def test_a_sample_is_of_whole_users_and_does_not_depend_on_how_rows_are_read(table, tmp_path):
    found = kept(tmp_path, table, 300)
    users = table["user"].to_numpy()
    rows = found.table["row"].to_numpy()
    assert 250 < found.rows <= 300 and found.read == ROWS and (np.diff(rows) > 0).all()
    assert set(rows) == set(np.flatnonzero(np.isin(users, users[rows])))
    assert (found.columns.groups == users[rows]).all() and (
        found.columns.dense[:, 0] == table["x"].to_numpy()[rows]
    ).all()
    assert kept(tmp_path, table, 300, group_rows=1_000).table["row"].equals(found.table["row"])
    backwards = kept(tmp_path, table.take(np.arange(ROWS)[::-1]), 300, group_rows=33)
    assert set(backwards.table["row"].to_pylist()) == set(rows)
    assert set(kept(tmp_path, table, 300, seed=1).table["row"].to_pylist()) != set(rows)


def test_without_users_rows_are_drawn_one_by_one(table, tmp_path):
    found = kept(tmp_path, table, 300, SCHEMA.model_copy(update={"group": None}))
    assert found.rows == 300 and found.users.count == 300 and not found.users.real.any()


def test_rows_of_nobody_are_drawn_one_by_one(table, tmp_path):
    nobody = table.set_column(0, "user", pa.nulls(ROWS, pa.int64()))
    found = kept(tmp_path, nobody, 300)
    assert found.rows == 300 and found.users.count == 300 and not found.users.real.any()


def test_bad_rows_are_skipped_and_counted(table, tmp_path):
    x = table["x"].to_pylist()
    x[100] = x[700] = None
    broken = table.set_column(2, "x", pa.array(x, pa.float32()))
    found = kept(tmp_path, broken, ROWS, on_bad_row="skip")
    assert found.read == found.rows == ROWS - 2 and not {100, 700} & set(found.table["row"].to_pylist())
    assert [count for count, _ in found.skipped.values()] == [2]
    with pytest.raises(InputError, match="a null in dense feature 'x'"):
        kept(tmp_path, broken, ROWS)


def test_a_user_with_more_rows_than_are_asked_for(table, tmp_path):
    one = table.set_column(0, "user", pa.array(np.zeros(ROWS, np.int64)))
    with pytest.raises(InputError, match="--rows 300 is less than the rows of one user"):
        kept(tmp_path, one, 300)
