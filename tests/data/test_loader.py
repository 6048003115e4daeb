"""The stream of batches of a rank: complete, equal on all ranks, the same with any workers, resumable, and clean when stopped."""

from __future__ import annotations

import functools
import gc
import json
import operator
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.batch import Batch
from interformer_rec.data.epoch_plan import Cursor
from interformer_rec.data.files.source import open_source
from interformer_rec.data.fit import fit
from interformer_rec.data.loader import Loader
from interformer_rec.errors import InputError
from tests.data.samples import equal, loader_of, numbered, write_numbered

SIZES = [[30, 1, 44], [5], [17, 0, 60, 3], [25, 25]]
TOTAL = sum(map(sum, SIZES))


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> str:
    return write_numbered(tmp_path_factory.mktemp("loader") / "d", SIZES)


def make(path: str, **options) -> Loader:
    features = numbered()
    return loader_of(
        path, features, fit(features, path), **{"batch_size": 16, "seed": 3, "shuffle_rows": 50, **options}
    )


def check(batch: Batch) -> list[int]:
    """A batch's parts belong to the same rows; which rows these are."""
    rows = batch.dense[: batch.rows, 0].long().tolist()
    if not rows:
        assert batch.batch_size == 1 and batch.weights.tolist() == [0] and batch.sequences.values().numel() == 0
        return []
    assert batch.sparse.values().tolist() == [row + 1 for row in rows]
    assert batch.labels[:, 0].tolist() == [row % 2 for row in rows]
    lengths, values = batch.sequences.lengths().tolist(), batch.sequences.values().tolist()
    assert lengths == [min(row % 5, 3) for row in rows]
    assert values == [event + 1 for row in rows for event in range(row, row + row % 5)[-3:]]
    return rows


def rows_of(loader: Loader, **options) -> list[list[int]]:
    return [check(batch) for batch, _ in loader.batches(**options)]


@pytest.mark.parametrize(("shuffle_rows", "balance"), [(0, "none"), (50, "none"), (50, "events"), (50, "groups")])
@pytest.mark.parametrize(("world_size", "batch_size"), [(1, 16), (1, 500), (3, 7), (4, 64), (64, 2)])
def test_every_row_once_over_all_ranks_in_as_many_steps(path, world_size, batch_size, shuffle_rows, balance):
    seen, loss_rows = [], []
    for rank in range(world_size):
        options = {"batch_size": batch_size, "shuffle_rows": shuffle_rows}
        options["balance"] = balance
        loader = make(path, rank=rank, world_size=world_size, **options)
        batches = list(loader.batches(epoch=1))
        assert len(batches) == loader.steps and loader.rows == TOTAL
        seen += [row for batch, _ in batches for row in check(batch)]
        loss_rows.append([batch.loss_rows for batch, _ in batches])
    assert sorted(seen) == list(range(TOTAL))
    assert all(per_step == loss_rows[0] for per_step in loss_rows) and sum(loss_rows[0]) * world_size == pytest.approx(
        TOTAL
    )


@pytest.mark.parametrize("balance", ["none", "events", "groups"])
@pytest.mark.parametrize(("workers", "prefetch"), [(1, 1), (2, 1), (4, 3), (8, 8)])
def test_the_stream_does_not_depend_on_workers(path, workers, prefetch, balance):
    expected = list(make(path, workers=1, prefetch=9, balance=balance).batches(epoch=5))
    got = list(make(path, workers=workers, prefetch=prefetch, balance=balance).batches(epoch=5))
    assert len(got) == len(expected)
    assert all(equal(a, b) and c == d for (a, c), (b, d) in zip(got, expected, strict=True))


def test_epochs_differ_and_repeat(path):
    loader = make(path)
    first, second = rows_of(loader, epoch=0), rows_of(loader, epoch=1)
    assert first != second and rows_of(loader, epoch=0) == first
    assert rows_of(make(path, seed=4)) != first
    in_order = rows_of(make(path, shuffle_rows=0, balance="events"), epoch=7)
    assert functools.reduce(operator.iadd, in_order, []) == list(range(TOTAL))


def test_balanced_batches_have_as_many_events_on_all_ranks(tmp_path):
    """Histories of 0 to 3 events, batches of 128 rows, 4 ranks: a plain shuffle is a few per cent apart."""
    path = write_numbered(tmp_path / "d", [[1000] * 6])

    def events(balance: str) -> np.ndarray:
        loaders = [
            make(path, rank=r, world_size=4, batch_size=128, shuffle_rows=2500, balance=balance) for r in range(4)
        ]
        return np.array([[b.sequences.values().numel() for b, _ in loader.batches()][:11] for loader in loaders])

    apart = {
        balance: (found.max(0) / found.mean(0)).max() for balance in ("none", "events") for found in [events(balance)]
    }
    assert apart["events"] < 1.02 < 1.05 < apart["none"]


@pytest.mark.parametrize("balance", ["none", "events", "groups"])
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("stop", [1, 4, 9, 14])
def test_resuming_from_a_cursor_gives_the_same_bits(path, stop, workers, balance):
    loader = make(path, workers=workers, balance=balance)
    whole = list(loader.batches(epoch=2))
    cursor = Cursor.from_dict(json.loads(json.dumps(whole[stop - 1][1].to_dict())))
    fresh = make(path, workers=workers, balance=balance)
    rest = list(fresh.batches(cursor=cursor))
    assert len(rest) == len(whole) - stop == fresh.steps_left(cursor)
    assert all(equal(a, b) and c == d for (a, c), (b, d) in zip(rest, whole[stop:], strict=True))


def test_resuming_on_other_ranks_reads_what_is_unread(path):
    seen = []
    for rank in range(3):
        batches = list(make(path, rank=rank, world_size=3, batch_size=8).batches(epoch=1))[:4]
        seen += [row for batch, _ in batches for row in check(batch)]
    cursor = batches[-1][1]
    steps = set()
    for rank in range(2):
        loader = make(path, rank=rank, world_size=2, batch_size=10)
        rest = rows_of(loader, cursor=cursor)
        steps |= {len(rest), loader.steps_left(cursor)}
        seen += functools.reduce(operator.iadd, rest, [])
    assert sorted(seen) == list(range(TOTAL)) and len(steps) == 1


@pytest.mark.parametrize("world_size", [1, 3])
def test_tables_come_in_file_order_with_all_input_columns(path, world_size):
    seen, notes = [], []
    for rank in range(world_size):
        loader = make(path, rank=rank, world_size=world_size, batch_size=50, labels=False)
        pairs = list(loader.tables())
        assert len(pairs) == loader.steps
        for batch, (table, good) in pairs:
            assert table.num_rows == batch.rows == good.sum() and batch.labels.shape[1] == 0
            assert table.column_names == ["row", "number", "past", "label", "note"]
            assert table["row"].to_pylist() == batch.dense[: batch.rows, 0].long().tolist()
            seen += table["row"].to_pylist()
            notes += table["note"].to_pylist()
    assert seen == list(range(TOTAL)) and notes == [f"note {row}" for row in range(TOTAL)]


def test_tables_of_skipped_rows_stay_aligned(tmp_path):
    rows = pa.table({"row": [0, -1, 2], "number": [0.0, 1.0, 2.0], "past": [[1], [2], [3]], "label": [0, 1, 0]})
    pq.write_table(rows, tmp_path / "a.parquet")
    ((batch, (table, good)),) = make(str(tmp_path), on_bad_row="skip").tables()
    assert table["row"].to_pylist() == [0, -1, 2] and good.tolist() == [True, False, True]
    assert batch.dense[:, 0].tolist() == [0, 2]


def test_an_error_in_a_worker_comes_after_the_batches_before_it(tmp_path):
    write_numbered(tmp_path / "d", [[10], [10], [10]])
    bad = pq.read_table(tmp_path / "d" / "part-001.parquet")
    bad = bad.set_column(0, "row", pa.array([*range(10, 19), -5]))
    pq.write_table(bad, tmp_path / "d" / "part-001.parquet")
    for workers in (1, 4):
        stream = make(str(tmp_path / "d"), workers=workers, batch_size=5, shuffle_rows=0).batches()
        assert [check(next(stream)[0]) for _ in range(2)] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
        with pytest.raises(InputError, match=r"part-001\.parquet', row group 0, row 9 of the file .*; the value is -5"):
            next(stream)


def threads() -> int:
    return sum(thread.name.startswith(("decode", "collate")) for thread in threading.enumerate())


def test_stopping_early_leaves_no_thread(path):
    stream = make(path, workers=3).batches()
    next(stream)
    assert threads() > 0
    stream.close()
    assert threads() == 0
    for _ in make(path, workers=3).batches():
        break
    gc.collect()
    assert threads() == 0
    list(make(path, workers=3).batches())
    assert threads() == 0


def test_decoding_does_not_run_far_ahead(path, monkeypatch):
    """Memory: buffers decoded and not yet used stay within prefetch, whatever the consumer's speed."""
    loader = make(path, workers=1, prefetch=1, batch_size=2, shuffle_rows=1)
    decoded: list[int] = []
    decode = loader._decode
    monkeypatch.setattr(
        loader, "_decode", lambda plan, buffer, keep: decoded.append(buffer) or decode(plan, buffer, keep)
    )
    stream = loader.batches()
    next(stream)
    time.sleep(0.1)
    assert len(decoded) <= 4
    stream.close()


def test_an_open_source_can_be_handed_over(path):
    assert rows_of(make(open_source(path))) == rows_of(make(path))


def test_a_cursor_of_other_rows_in_groups_of_the_same_sizes_is_refused(path, tmp_path):
    _, cursor = next(make(path).batches())
    moved = write_numbered(tmp_path / "moved", SIZES)
    assert rows_of(make(moved), cursor=cursor) == rows_of(make(path))[1:]
    file = sorted(Path(moved).rglob("*.parquet"))[-1]
    table = pq.read_table(file)
    pq.write_table(pa.concat_tables([table.slice(1), table.slice(0, 1)]), file, row_group_size=25)
    with pytest.raises(InputError, match=r"the files of data.train changed since the checkpoint; restore it"):
        next(make(moved).batches(cursor=cursor))


def test_a_cursor_of_other_data_is_refused(path, tmp_path):
    _, cursor = next(make(path).batches())
    other = make(write_numbered(tmp_path / "d", [[5, 5]]))
    with pytest.raises(InputError, match=r"cannot resume inside epoch 0: the files of data.train changed"):
        next(other.batches(cursor=cursor))
