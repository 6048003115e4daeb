"""Which ids read the unknown row in training: by their counts; the same for every number of ranks and workers, and after a resume."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.config.features import UNKNOWN_ROW, FeatureSchema
from interformer_rec.data.decode.columns import Columns
from interformer_rec.data.decode.jagged import Jagged
from interformer_rec.data.epoch_plan import Cursor
from interformer_rec.data.fit import Fitted, fit
from interformer_rec.data.id_dropout import IdDropout, bounded
from tests.data.samples import loader_of

ROWS = 300
FEATURES = FeatureSchema.model_validate(
    {
        "tables": {"item": {}, "user": {"ids": "hash", "num_embeddings": 50}, "tag": {}},
        "dense": ["row"],
        "ids": ["item", "user"],
        "bags": [{"name": "tags", "table": "tag"}],
        "sequences": [
            {
                "name": "past",
                "max_length": 4,
                "columns": [
                    {"name": "item", "column": "past_item", "table": "item"},
                    {"name": "user", "column": "past_user", "table": "user"},
                ],
            }
        ],
        "labels": ["label"],
    }
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Item ids from frequent to rare, in row groups of 37."""
    random = np.random.default_rng(0)
    items = np.minimum(random.geometric(0.1, (ROWS, 5)), 60)
    table = {
        "row": np.arange(ROWS, dtype=np.float32),
        "item": items[:, 0],
        "user": random.integers(0, 40, ROWS),
        "tags": [[int(one)] for one in items[:, 1]],
        "past_item": items[:, 2:].tolist(),
        "past_user": random.integers(0, 40, (ROWS, 3)).tolist(),
        "label": random.integers(0, 2, ROWS).astype(np.float32),
    }
    file = tmp_path_factory.mktemp("dropout") / "rows.parquet"
    pq.write_table(pa.table(table), file, row_group_size=37)
    return str(file)


def seen(path: str, epoch: int = 0, ranks: int = 1, cursor: Cursor | None = None, **options: object) -> dict:
    """row -> the table rows that it reads, of every key."""
    fitted, found = fit(FEATURES, path), {}
    for rank in range(ranks):
        wanted = {
            "batch_size": 32,
            "shuffle_rows": 100,
            "id_dropout": 3.0,
            "rank": rank,
            "world_size": ranks,
            **options,
        }
        for batch, _ in loader_of(path, FEATURES, fitted, **wanted).batches(epoch, cursor):
            parts = [key for part in (batch.sparse, batch.sequences) for key in part.to_dict().values()]
            for place in range(batch.rows):
                row = int(batch.dense[place, 0])
                found[row] = [key.values()[key.offsets()[place] : key.offsets()[place + 1]].tolist() for key in parts]
    return found


def test_an_id_of_n_rows_reads_the_unknown_row_with_probability_strength_over_strength_plus_n() -> None:
    counts, rows = np.array([1, 3, 997, 10**9]), 40_000
    fitted = Fitted({"item": 6, "user": 51, "tag": 3}, counts={"item": counts, "tag": np.array([5])})
    items = np.tile(np.arange(6), rows)
    columns = Columns(
        dense=np.zeros((len(items), 1), np.float32),
        singles=np.stack([items, items], 1),
        jagged=[
            Jagged(np.ones(len(items), np.int64), np.stack([items, items], 1)),
            Jagged(np.ones(len(items), np.int64), np.ones((len(items), 1), np.int64)),
        ],
        labels=np.zeros((len(items), 1), np.float32),
        weights=np.ones(len(items), np.float32),
        groups=np.zeros(len(items), np.int64),
    )
    before = items.copy()
    out = IdDropout(FEATURES, fitted, 3.0)(columns, np.random.default_rng(1))
    for replaced in (out.singles[:, 0], out.jagged[0].events[:, 0]):
        changed = replaced != items
        assert (replaced[changed] == UNKNOWN_ROW).all()
        shares = [changed[items == row].mean() for row in range(6)]
        np.testing.assert_allclose(shares, [0, 0, 3 / 4, 3 / 6, 3 / 1000, 3 / 65538], atol=0.008)
        assert shares[4] > 0
    assert (out.singles[:, 0] != out.jagged[0].events[:, 0]).any(), "each column by itself"
    for kept in (out.singles[:, 1], out.jagged[0].events[:, 1], columns.singles[:, 0], columns.jagged[0].events[:, 0]):
        np.testing.assert_array_equal(kept, before)


def test_small_counts_drop_the_same_ids() -> None:
    """Ranks other than 0 have the counts of growing tables in few bytes."""
    counts = np.array([0, 1, 60_000, 65_534, 65_535, 10**12])
    rows = {"item": 8, "user": 51, "tag": 3}
    limits = []
    for form in (counts, bounded(counts)):
        dropout = IdDropout(FEATURES, Fitted(rows, counts={"item": form, "tag": np.array([5])}), 1.0)
        limits.append(dropout._singles[0])
    np.testing.assert_array_equal(*limits)
    assert limits[0].tolist() == [0, 0, 32768, 32768, 1, 1, 1, 1]


def test_the_same_ids_of_every_number_of_ranks_and_workers_and_after_a_resume(path: str) -> None:
    whole = seen(path)
    assert len(whole) == ROWS and whole != seen(path, id_dropout=0.0)
    assert seen(path, ranks=3, batch_size=7) == whole == seen(path, workers=3)
    assert seen(path, epoch=1) != whole != seen(path, seed=1)
    fitted = fit(FEATURES, path)
    options = {"batch_size": 32, "shuffle_rows": 100, "id_dropout": 3.0}
    cursors = [cursor for _, cursor in loader_of(path, FEATURES, fitted, **options).batches()]
    for left in (seen(path, cursor=cursors[3]), seen(path, cursor=cursors[3], ranks=2, batch_size=5)):
        assert len(left) == ROWS - 4 * 32 and left == {row: whole[row] for row in left}


def test_over_windows_ids_of_growing_tables_alone_are_dropped() -> None:
    """Of other tables the vocabulary is that of the first windows: ids that come later train their unknown row."""
    tables = {**FEATURES.model_dump()["tables"], "item": {"grow": {"rows": 4}}}
    features = FeatureSchema.model_validate({**FEATURES.model_dump(exclude={"tables"}), "tables": tables})
    fitted = Fitted({"item": 6, "user": 51, "tag": 3}, counts={"item": np.array([1, 0, 0, 0]), "tag": np.array([1])})
    dropped = {}
    for only in (False, True):
        dropout = IdDropout(features, fitted, 1.0, growing_only=only)
        rows, one = np.full((100, 2), 2), np.ones(100, np.int64)
        columns = Columns(rows[:, :1], rows, [Jagged(one, rows), Jagged(one, rows[:, :1])], rows, one, one)
        out = dropout(columns, np.random.default_rng(0))
        dropped[only] = [int((part == UNKNOWN_ROW).sum()) for part in (out.singles, *(j.events for j in out.jagged))]
    assert dropped[True][2] == 0 < min(*dropped[True][:2], *dropped[False])
