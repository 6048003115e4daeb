"""The leakage checks refuse what leaks: events of the row itself or later, splits that overlap, feedback as an input."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.quality.data import check_histories, check_inputs, check_order, tuning_files
from benchmarks.quality.sets import Dataset
from interformer_rec.config.features import FeatureSchema
from interformer_rec.errors import InputError

DATASET = Dataset.model_validate(
    {
        "config": "none",
        "folder": "none",
        "train": "train.parquet",
        "cut": 30,
        "test": "test.parquet",
        "time": "time",
        "item": "item",
        "feedback": ["click", "like"],
        "histories": [{"events": "seen", "longest": 3}, {"events": "liked", "longest": 3, "where": "like"}],
    }
)


def schema(*ids: str) -> FeatureSchema:
    tables = {name: {} for name in ("item", "seen", *ids)}
    sequences = [{"name": "s", "max_length": 3, "columns": [{"name": "seen", "table": "seen"}]}]
    tree = {
        "tables": tables,
        "ids": ["item", *ids],
        "sequences": sequences,
        "labels": [{"name": "click"}],
        "group": "user",
    }
    return FeatureSchema.model_validate(tree)


def rows(**changes) -> pa.Table:
    """User 1: shown 5, then 6 and 7 at one moment, then 8; user 2: once. 9 was seen before the window."""
    columns = {
        "user": [1, 1, 1, 2, 1],
        "time": [10, 20, 20, 25, 30],
        "item": [5, 6, 7, 5, 8],
        "click": [1, 0, 1, 0, 1],
        "like": [1, 0, 1, 0, 0],
        "seen": [[9], [9, 5], [9, 5], [], [5, 6, 7]],
        "liked": [[], [5], [5], [4], [5, 7]],
    }
    return pa.table({**columns, **changes})


def test_honest_histories_pass():
    check_histories(DATASET, schema(), [rows()])
    check_histories(DATASET, schema(), [rows()[:3], rows()[3:]])


@pytest.mark.parametrize(
    "leak",
    [
        {"seen": [[9], [9, 5, 6], [9, 5], [], [5, 6, 7]]},  # the row's own item
        {"seen": [[9], [9, 5], [9, 5, 6], [], [5, 6, 7]]},  # an item of the same moment
        {"seen": [[9], [9, 5], [9, 5], [], [6, 7, 8]]},  # the row's own item, the oldest dropped
        {"liked": [[], [5], [5], [4], [5, 6]]},  # an item without the feedback
    ],
)
def test_events_of_the_row_or_later_are_refused(leak):
    with pytest.raises(InputError, match="of that row or later"):
        check_histories(DATASET, schema(), [rows(**leak)])


def test_event_times_are_compared():
    dataset = DATASET.model_validate({**DATASET.model_dump(), "histories": [{"events": "seen", "times": "seen_time"}]})
    table = rows(seen_time=[[1], [1, 10], [1, 10], [], [10, 20, 20]])
    check_histories(dataset, schema(), [table])
    table = rows(seen_time=[[1], [1, 10], [1, 20], [], [10, 20, 20]])
    with pytest.raises(InputError, match="1 events are not earlier"):
        check_histories(dataset, schema(), [table[1:]])


def test_splits_follow_each_other():
    check_order(DATASET, schema(), rows()[:2], rows()[2:], "training and validation")  # one moment, other rows
    with pytest.raises(InputError, match="overlap in time: the former end at 30"):
        check_order(DATASET, schema(), rows(), rows()[2:], "training and validation")
    with pytest.raises(InputError, match="share rows at time = 20"):
        check_order(DATASET, schema(), rows()[:2], rows()[1:], "training and validation")


def test_feedback_is_no_input():
    check_inputs(DATASET, schema(), "din")
    with pytest.raises(InputError, match="din: input column 'like' is feedback"):
        check_inputs(DATASET, schema("like"), "din")


def test_the_cut_is_written_once_and_the_test_file_is_not_read(tmp_path):
    folder, cache = tmp_path / "data", tmp_path / "out/data"
    folder.mkdir()
    pq.write_table(rows(), folder / "train.parquet")
    files = tuning_files(DATASET, schema(), folder, cache, shuffle_labels=False)
    assert pq.read_table(files.train)["time"].to_pylist() == [10, 20, 20, 25]
    assert pq.read_table(files.valid)["time"].to_pylist() == [30]
    written = files.train.stat().st_mtime_ns
    tuning_files(DATASET, schema(), folder, cache, shuffle_labels=False)
    assert files.train.stat().st_mtime_ns == written
    pq.write_table(rows()[:4], folder / "train.parquet")
    with pytest.raises(InputError, match="cut from other files"):
        tuning_files(DATASET, schema(), folder, cache, shuffle_labels=False)
