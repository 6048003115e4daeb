"""Arrow in every shape to columns, and every bad value to its message."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.config.features import FeatureSchema
from interformer_rec.data.decode.decoder import Decoder
from interformer_rec.data.fit import Fitted, fit
from interformer_rec.data.loader import Loader
from interformer_rec.errors import InputError
from tests.data.samples import every_kind, every_kind_rows, loader_of, numbered, with_column, write_numbered

LISTS = FeatureSchema.model_validate(
    {
        "tables": {"event": {"ids": "identity", "num_embeddings": 100}},
        "sequences": [{"name": "past", "max_length": 2, "columns": [{"name": "event", "column": "past"}]}],
        "labels": ["label"],
    }
)


def decode_past(past: pa.Array | pa.ChunkedArray) -> list[list[int]]:
    """Rows of the group `past`, ids counted from 0 again (-1: the missing row)."""
    table = pa.table({"past": past, "label": np.zeros(len(past))})
    jagged = Decoder(LISTS, Fitted(table_rows={"event": 101}))(table, str).jagged[0]
    return [(jagged.pick(jagged.events[:, 0].astype(int), slice(r, r + 1)) - 1).tolist() for r in range(len(past))]


ROWS = [[1, 2, 3], [], None, [4], [5, 6], [None, 7]]
KEPT = [[2, 3], [], [], [4], [5, 6], [-1, 7]]


@pytest.mark.parametrize(
    "type_",
    [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()],
    ids=str,
)
@pytest.mark.parametrize("make", [pa.list_, pa.large_list])
def test_lists_of_every_integer_type(type_, make):
    assert decode_past(pa.array(ROWS, make(type_))) == KEPT


def test_times_are_microseconds_whatever_unit_their_file_has():
    """Files and histories may have different units; a batch has one."""
    seconds = [[5, 70], [], [10**9]]
    features = FeatureSchema.model_validate(
        {**LISTS.model_dump(), "sequences": [{**LISTS.model_dump()["sequences"][0], "timestamp": "when"}]}
    )
    past = pa.array([[1, 2], [], [3]], pa.list_(pa.int32()))
    for unit, per_second in (("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)):
        when = pa.array([[t * per_second for t in row] for row in seconds], pa.list_(pa.timestamp(unit, "UTC")))
        table = pa.table({"past": past, "when": when, "label": np.zeros(3)})
        found = Decoder(features, Fitted(table_rows={"event": 101}))(table, str).jagged[0].timestamps
        assert found.tolist() == [5 * 10**6, 70 * 10**6, 10**15]


def test_sliced_and_chunked_lists():
    array = pa.array([[9, 9, 9], *ROWS, [8]], pa.list_(pa.int32()))
    assert decode_past(array.slice(1, 6)) == KEPT
    assert decode_past(pa.chunked_array([array.slice(1, 2), array.slice(3, 0), array.slice(3, 4)])) == KEPT


def test_fixed_size_lists_and_what_lies_behind_a_null():
    fixed = pa.array([[1, 2, 3], None, [4, 5, 6]], pa.list_(pa.int32(), 3))
    assert decode_past(fixed) == [[2, 3], [], [5, 6]]
    # Arrow allows a null list to have elements; these are no events, not even out of range.
    offsets, values = pa.array([0, 2, 4, 5], pa.int32()), pa.array([1, 2, 999, -5, 3], pa.int32())
    hidden = pa.ListArray.from_arrays(offsets, values, mask=pa.array([False, True, False]))
    assert decode_past(hidden) == [[1, 2], [], [3]]


def test_lists_of_dictionaries_and_strings():
    features = FeatureSchema.model_validate({**LISTS.model_dump(), "tables": {"event": {}}})
    fitted = Fitted({"event": 4}, {"event": pa.array(["a", "b"])})
    words = [["x", "a", "b"], [], None, [None, "b"]]
    for type_ in (pa.list_(pa.string()), pa.large_list(pa.large_string()), pa.list_(pa.string_view())):
        table = pa.table({"past": pa.array(words, type_), "label": [0.0] * 4})
        events = Decoder(features, fitted)(table, str).jagged[0]
        assert events.lengths.tolist() == [2, 0, 0, 2] and events.events[:, 0].tolist() == [2, 3, 0, 3]
    encoded = pa.array(["x", "a", "b", None, "b"]).dictionary_encode()
    past = pa.ListArray.from_arrays(pa.array([0, 3, 3, 5], pa.int32()), encoded)
    events = Decoder(features, fitted)(pa.table({"past": past, "label": [0.0] * 3}), str).jagged[0]
    assert events.lengths.tolist() == [2, 0, 2] and events.events[:, 0].tolist() == [2, 3, 0, 3]


def bad_loader(tmp_path, table: pa.Table, **options) -> Loader:
    pq.write_table(every_kind_rows(), tmp_path / "good.parquet")
    (tmp_path / "in").mkdir(exist_ok=True)
    both = pa.concat_tables([every_kind_rows(), table])
    pq.write_table(both, tmp_path / "in" / "bad.parquet", row_group_size=4)
    fitted = fit(every_kind(), str(tmp_path / "good.parquet"))
    return loader_of(str(tmp_path / "in"), every_kind(), fitted, batch_size=100, **options)


BAD = {
    "null dense": ("price", [0.0, None, 1.0, 1.0], 5, "a null in dense feature 'price'.*value is None.*Set `fill`"),
    "NaN dense": ("price", [0.0, 0.0, np.nan, 1.0], 6, "not a finite number in dense feature 'price'; the value is nan"),
    "infinite dense": ("height", [np.inf, 0.0, 0.0, 1.0], 4, "not a finite number.*the value is inf"),
    "id above": ("watch_hour", [[1, 2, 3], [], [24], [5, 6]], 6, "an id outside 0 .. 24 - 1.*'hour'; the value is 24"),
    "id below": ("hour", [0, 1, 2, -7], 7, "an id outside 0 .. 24 - 1.*the value is -7"),
    "lists differ": (
        "watch_hour", [[1, 2], [], [1], [1, 2]], 4,
        "another length than column 'watch_item' of the same sequence group 'watch'; .*2 elements, 'watch_item' has 3",
    ),
    "times decrease": ("watch_time", [[1, 2, 3], [], [9], [8, 7]], 7, r"timestamps that decrease.*\[8, 7\]"),
    "times null": ("watch_time", [[1, None, 3], [], [9], [7, 8]], 4, r"a null among the timestamps"),
    "label above": ("rating", [0.0, 1.0, 1.5, 0.0], 6, "a label that is not between 0 and 1; the value is 1.5"),
    "label NaN": ("rating", [0.0, np.nan, 0.5, 0.0], 5, "a label that is not between 0 and 1; the value is nan"),
    "label null": ("click", [True, False, False, None], 7, "a label that is not between 0 and 1; the value is None"),
    "label far above": ("rating", [0.0, 1e300, 0.5, 0.0], 5, r"a label that is not between 0 and 1; the value is 1e\+300"),
    "weight negative": ("weight", [1.0, -0.5, 0.0, 1.0], 5, "a weight that is not a finite number of at least 0.*-0.5"),
    "weight infinite": ("weight", [1.0, 0.5, np.inf, 1.0], 6, "a weight that is not a finite number.*inf"),
}  # fmt: skip


def bad_table(kind: str) -> tuple[pa.Table, str, int, str]:
    column, values, row, message = BAD[kind]
    return with_column(every_kind_rows(), column, values), column, row, message


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_row_is_an_error_that_names_the_place(tmp_path, kind):
    table, column, row, message = bad_table(kind)
    place = rf"bad\.parquet', row group 1, row {row} of the file \(the first is 0\), column '{column}': "
    with pytest.raises(InputError, match=place + f".*{message}.*on_bad_row: skip"):
        list(bad_loader(tmp_path, table).batches())


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("shuffle_rows", [0, 100])
def test_skipping_leaves_out_that_row_and_counts_it(tmp_path, caplog, kind, shuffle_rows):
    table, column, row, _message = bad_table(kind)
    loader = bad_loader(tmp_path, table, on_bad_row="skip", shuffle_rows=shuffle_rows)
    ((batch, _),) = loader.batches()
    ((reason, count),) = loader.bad_rows.items()
    assert (batch.rows, batch.loss_rows, count) == (7, 7.0, 1) and reason.startswith(f"{column}: ")
    assert len([r for r in caplog.records if f"row {row} of the file" in r.getMessage()]) == 1
    assert "skipped 1 row(s)" in caplog.records[-1].getMessage()


def test_the_rows_that_stay_are_whole_when_lists_of_others_differ(tmp_path):
    table = with_column(every_kind_rows(), "watch_hour", [[1, 2], [], [1, 9, 9], [4, 5]])
    loader = bad_loader(tmp_path, table, on_bad_row="skip")
    ((batch, _),) = loader.batches()
    hours = batch.sequences["watch.hour"]
    assert hours.lengths().tolist() == [2, 0, 1, 2, 0, 2] and hours.values().tolist() == [3, 4, 5, 6, 7, 5, 6]
    assert loader.bad_rows == {
        "watch_hour: a list of another length than column 'watch_item' of the same sequence group 'watch'": 2
    }


def test_a_number_too_large_for_float32(tmp_path):
    table = with_column(every_kind_rows(), "height", [1e300, 0.0, 0.0, 0.0], pa.float64())
    features = every_kind()
    pq.write_table(every_kind_rows(), tmp_path / "good.parquet")
    pq.write_table(table, tmp_path / "bad.parquet")
    loader = loader_of(
        str(tmp_path / "bad.parquet"), features, fit(features, str(tmp_path / "good.parquet")), batch_size=4
    )
    with pytest.raises(
        InputError, match=r"a number too large for float32 in dense feature 'height'; the value is 1e\+300"
    ):
        list(loader.batches())


def test_only_this_ranks_rows_are_counted(tmp_path):
    table = with_column(every_kind_rows(), "weight", [-1.0, 1.0, 1.0, -1.0])
    options = {"on_bad_row": "skip", "shuffle_rows": 100, "world_size": 3}
    counts = []
    for rank in range(3):
        loader = bad_loader(tmp_path, table, rank=rank, **options)
        list(loader.batches())
        counts.append(sum(loader.bad_rows.values()))
    assert sum(counts) == 2


def test_a_batch_of_bad_rows_only_is_a_filler(tmp_path):
    table = with_column(every_kind_rows(), "weight", [-1.0] * 4)
    pq.write_table(every_kind_rows(), tmp_path / "good.parquet")
    pq.write_table(table, tmp_path / "bad.parquet")
    features = every_kind()
    fitted = fit(features, str(tmp_path / "good.parquet"))
    loader = loader_of(str(tmp_path / "bad.parquet"), features, fitted, batch_size=2, on_bad_row="skip")
    assert [(b.rows, b.batch_size, b.loss_rows) for b, _ in loader.batches()] == [(0, 1, 1.0)] * 2


WRONG = {
    "dense of strings": ("price", pa.array(["1"] * 4), "dense feature 'price' needs numbers"),
    "id of floats": ("candidate", pa.array([1.0] * 4), "id feature 'candidate' needs ids: integers or strings"),
    "bag that is no list": ("tags", pa.array([1] * 4), r"bag feature 'tags' needs a list"),
    "bag of floats": ("tags", pa.array([[1.0]] * 4), r"is list<.*double>; bag feature 'tags' needs ids"),
    "history that is no list": ("buy_item", pa.array([1] * 4), r"sequence column 'buy\.item' needs a list"),
    "identity of strings": ("hour", pa.array(["1"] * 4), "id feature 'hour' needs integers, because its table has ids: identity"),
    "strings in a table of integers": ("candidate", pa.array(["1"] * 4), "'item' would mix integers and strings"),
    "times of floats": ("watch_time", pa.array([[1.0]] * 4), "timestamp of sequence group 'watch' needs a list of integers"),
    "label of strings": ("click", pa.array(["1"] * 4), "label 'click' needs numbers"),
    "group of floats": ("user", pa.array([1.0] * 4), "id feature 'user' needs ids"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_a_column_of_the_wrong_type(tmp_path, kind):
    column, values, message = WRONG[kind]
    features = every_kind()
    pq.write_table(every_kind_rows(), tmp_path / "good.parquet")
    pq.write_table(with_column(every_kind_rows(), column, values, values.type), tmp_path / "wrong.parquet")
    fitted = fit(features, str(tmp_path / "good.parquet"))
    with pytest.raises(InputError, match=message) as caught:
        loader_of(str(tmp_path / "wrong.parquet"), features, fitted, batch_size=4)
    assert "wrong.parquet" in str(caught.value) and repr(column) in str(caught.value)


def test_a_missing_column(tmp_path):
    path = write_numbered(tmp_path / "d", [[4]])
    features = FeatureSchema.model_validate({**numbered().model_dump(), "weight": "importance"})
    with pytest.raises(
        InputError, match=r"column 'importance' is missing in '.*part-000\.parquet'. Its columns: row, "
    ):
        loader_of(path, features, fit(features, path), batch_size=4)
