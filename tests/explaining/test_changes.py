"""What is permuted is permuted across rows, and nothing else is: neither another feature of the table nor the lengths."""

from __future__ import annotations

import numpy as np
import pytest

from interformer_rec.config.features import FeatureSchema
from interformer_rec.data.decode.columns import Columns
from interformer_rec.data.decode.jagged import Jagged
from interformer_rec.explaining.changes import Changes, ages_of
from interformer_rec.explaining.targets import age_buckets

ROWS = 60
SCHEMA = FeatureSchema.model_validate(
    {
        "tables": {"code": {}, "tag": {}, "kind": {}},
        "dense": ["x", "y"],
        "ids": [{"name": "a", "table": "code"}, {"name": "b", "table": "code"}, {"name": "e", "table": "tag", "null": "empty"}],
        "bags": [{"name": "tags", "table": "tag"}],
        "sequences": [
            {"name": "h", "max_length": 9, "timestamp": "time", "columns": [{"name": "k", "table": "kind"}, {"name": "c", "table": "code"}]}
        ],
        "labels": ["click"],
    }
)  # fmt: skip


@pytest.fixture
def columns() -> Columns:
    """Every value says of which row it is: value // 100 is the row."""
    own = np.arange(ROWS) * 100

    def lists(lengths: np.ndarray, width: int) -> Jagged:
        row = np.repeat(np.arange(ROWS), lengths)
        place = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        age = lengths[row] - place
        events = (row * 100 + age)[:, None].repeat(width, axis=1)
        return Jagged(lengths, events, events[:, 0] * 10 if width == 2 else None)

    random = np.random.default_rng(0)
    jagged = [
        lists(random.integers(0, 10, ROWS), 2),
        lists(random.integers(0, 4, ROWS), 1),
        lists(random.integers(0, 2, ROWS), 1),
    ]
    dense = np.stack([own, own], axis=1).astype(np.float32)
    ones = np.ones(ROWS, np.float32)
    return Columns(dense, np.stack([own, own], axis=1), jagged, ones[:, None], ones, np.arange(ROWS))


def sources(events: Jagged) -> list[np.ndarray]:
    """Row by row, the rows that its events are from."""
    return np.split(events.events // 100, events.offsets[1:-1])


def test_a_feature_moves_alone_though_others_share_its_table(columns):
    found = Changes(SCHEMA).permuted(["a"], columns, np.random.default_rng(1))
    assert sorted(found.singles[:, 0]) == sorted(columns.singles[:, 0])
    assert np.mean(found.singles[:, 0] == columns.singles[:, 0]) < 0.2
    assert (found.singles[:, 1] == columns.singles[:, 1]).all() and found.dense is columns.dense
    assert all(new is old for new, old in zip(found.jagged, columns.jagged, strict=True))
    again = Changes(SCHEMA).permuted(["a"], columns, np.random.default_rng(1))
    assert (again.singles == found.singles).all()


def test_a_group_moves_together_histories_and_lists_too(columns):
    found = Changes(SCHEMA).permuted(["x", "b", "e", "tags", "h"], columns, np.random.default_rng(1))
    source = found.singles[:, 1] // 100
    assert (found.dense[:, 0] // 100 == source).all() and (found.dense[:, 1] == columns.dense[:, 1]).all()
    assert (found.singles[:, 0] == columns.singles[:, 0]).all()
    for new, old in zip(found.jagged, columns.jagged, strict=True):
        assert (new.lengths == old.lengths[source]).all()
        assert all((rows == row).all() for row, rows in zip(source, sources(new), strict=True))
    history = found.jagged[0]
    assert (history.timestamps == history.events[:, 0] * 10).all() and (
        history.events[:, 0] == history.events[:, 1]
    ).all()


def test_a_field_of_a_history_moves_and_the_others_stay(columns):
    found, old = (
        Changes(SCHEMA).field_permuted("h", "c", columns, np.random.default_rng(1)).jagged[0],
        columns.jagged[0],
    )
    assert (found.events[:, 0] == old.events[:, 0]).all() and (found.lengths == old.lengths).all()
    assert sorted(found.events[:, 1]) == sorted(old.events[:, 1])
    assert np.mean(found.events[:, 1] == old.events[:, 1]) < 0.1


def test_events_of_an_age_change_places_with_those_of_other_rows_of_that_age(columns):
    found, old = (
        Changes(SCHEMA).ages_permuted("h", (2, 4), columns, np.random.default_rng(1)).jagged[0],
        columns.jagged[0],
    )
    age = ages_of(old)
    inside = (age >= 2) & (age <= 4)
    assert (found.events[:, 0] == found.events[:, 1]).all() and (found.events % 100 == old.events % 100).all()
    assert (found.events[~inside] == old.events[~inside]).all()
    assert np.mean(found.events[inside] == old.events[inside]) < 0.2
    assert sorted(found.events[:, 0]) == sorted(old.events[:, 0])
    assert (found.lengths == old.lengths).all() and (found.timestamps == old.timestamps).all()


def test_events_of_an_age_are_removed_and_older_ones_stay(columns):
    found = Changes(SCHEMA).ages_removed("h", (2, 4), columns).jagged[0]
    rows = np.split(found.events[:, 0] % 100, found.offsets[1:-1])
    for length, ages in zip(columns.jagged[0].lengths, rows, strict=True):
        assert ages.tolist() == [age for age in range(length, 0, -1) if not 2 <= age <= 4]
    assert (found.timestamps == found.events[:, 0] * 10).all()


def test_buckets_grow_by_four_and_end_at_the_oldest():
    assert age_buckets(50) == [(1, 1), (2, 4), (5, 16), (17, 50)]
    assert age_buckets(4) == [(1, 1), (2, 4)] and age_buckets(1) == [(1, 1)] and age_buckets(0) == []
