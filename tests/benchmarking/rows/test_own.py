"""Own rows with other histories: what stays, what is drawn, what becomes a request."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from interformer_rec.benchmarking.rows import own
from interformer_rec.config.features import FeatureSchema
from interformer_rec.errors import InputError

FEATURES = FeatureSchema.model_validate(
    {
        "tables": {"item": {}, "user": {}, "tag": {}},
        "ids": ["user", "item"],
        "bags": [{"name": "tags", "table": "tag"}],
        "sequences": [
            {
                "name": "seen",
                "max_length": 3,
                "timestamp": "time",
                "columns": [{"name": "item", "column": "seen_item"}, {"name": "tag", "column": "seen_tag"}],
            }
        ],
        "candidate": ["item", "tags"],
        "labels": ["label"],
    }
)
TABLE = pa.table(
    {
        "user": ["a", "b", "c", "d"],
        "item": [1, 2, 3, 4],
        "tags": [[1], [], [2, 3], None],
        "seen_item": [[10, 11, 12, 13], [20], None, [30, 31]],
        "seen_tag": [[100, 110, 120, 130], [200], None, [300, 310]],
        "time": [[1, 2, 3, 4], [7], None, [5, 6]],
        "label": [1, 0, 1, 0],
    }
)


def test_a_history_longer_than_longest_is_cut_as_max_length_cuts_it():
    found = own.stretched(TABLE, FEATURES, 2)
    assert found["seen_item"].to_pylist() == [[12, 13], [20], [], [30, 31]]
    assert found["seen_tag"].to_pylist() == [[120, 130], [200], [], [300, 310]]
    assert found["time"].to_pylist() == [[3, 4], [7], [], [5, 6]]
    assert found["user"].equals(TABLE["user"]) and found.column_names == TABLE.column_names


def test_histories_are_stretched_by_one_ratio_and_keep_their_own_events_newest():
    found = own.stretched(TABLE, FEATURES, 12)
    items, tags, times = (found[name].to_pylist() for name in ("seen_item", "seen_tag", "time"))
    assert [len(row) for row in items] == [12, 3, 0, 6]
    assert items[0][-4:] == [10, 11, 12, 13] and items[3][-2:] == [30, 31]
    pool = {10, 11, 12, 13, 20, 30, 31}
    assert {item for row in items for item in row} <= pool and len({*items[0][:8]}) > 1
    assert [[10 * item for item in row] for row in items] == tags  # drawn together, column by column
    assert times[0] == [1] * 8 + [1, 2, 3, 4] and times[3] == [5] * 4 + [5, 6]
    assert own.stretched(TABLE, FEATURES, 12).equals(found)


def test_rows_become_requests_of_one_user_and_several_candidates():
    found = own.requests_of(TABLE, frozenset({"item", "tags", "label"}), 2).to_pylist()
    assert [row["user"] for row in found] == ["a", "c"]
    assert [row["item"] for row in found] == [[1, 2], [3, 4]]
    assert [row["tags"] for row in found] == [[[1], []], [[2, 3], None]]
    assert found[0]["seen_item"] == [10, 11, 12, 13] and found[1]["seen_item"] is None
    with pytest.raises(InputError, match="a request of 5 candidates needs as many rows; there are 4"):
        own.requests_of(TABLE, frozenset({"item"}), 5)


def test_requests_get_as_many_candidates_as_are_asked_for():
    table = pa.table({"user": ["a", "b", "c"], "item": [[1, 2, 3], [], [4]], "label": [[0, 1, 0], [], [1]]})
    found = own.with_candidates(table, frozenset({"item", "label"}), "item", 2).to_pylist()
    assert [row["item"] for row in found] == [[1, 2], [4, 4]] and [row["label"] for row in found] == [[0, 1], [1, 1]]
    assert [row["user"] for row in found] == ["a", "c"]


def test_few_rows_come_again():
    assert own.repeated(TABLE, 6)["item"].to_pylist() == [1, 2, 3, 4, 1, 2]
    assert own.repeated(TABLE, 3)["item"].to_pylist() == [1, 2, 3]


def test_lists_beyond_32_bits_have_large_offsets(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(own, "LARGEST_LIST", 2)
    assert own.list_array(np.array([2]), pa.array([1, 2])).type == pa.list_(pa.int64())
    assert own.list_array(np.array([1, 2]), pa.array([1, 2, 3])).type == pa.large_list(pa.int64())
