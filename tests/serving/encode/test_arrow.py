"""Requests as Arrow tables; test_against_decoder.py compares their rows."""

from __future__ import annotations

import pyarrow as pa
import pytest

from interformer_rec.serving.encode.refusal import Refusal
from interformer_rec.serving.request import NO_ROW
from tests.data.samples import with_column
from tests.serving.encode.samples import CANDIDATE, TRAINED, USER, arrays, encoder


def test_arrow_tables_are_taken_as_predict_takes_files():
    """Other widths and layouts; a null type where there is no value; more columns and other kinds are refused."""
    user, candidate = TRAINED.select(list(USER)), TRAINED.select(list(CANDIDATE))
    expected = arrays(encoder().rank(user, candidate))
    wider = candidate.cast(
        pa.schema({"item_id": pa.int32(), "price": pa.decimal128(9, 2), "also": pa.large_list(pa.int8())})
    )
    assert arrays(encoder().rank(user, wider)) == expected
    whole = encoder().score(TRAINED.drop_columns("click"))
    assert whole.users.ids.tolist() == encoder().rank(user, candidate).users.ids.tolist()
    null = encoder().rank(with_column(user, "likes", [None], pa.null()), candidate)
    assert null.users.bags[0].lengths.tolist() == [0]
    absent = encoder(absent="null").rank(user.drop_columns("likes"), candidate.drop_columns("item_id"))
    assert absent.users.bags[0].lengths.tolist() == [0] and absent.candidates.ids.tolist() == [[NO_ROW]]


ARROW = [
    (
        with_column(TRAINED, "city", [1], pa.int64()),
        "city",
        "a column of type int64, where .* trained on string values",
    ),
    (with_column(TRAINED, "hour", [1.0], pa.float64()), "hour", "a column of type double, where .* on integer values"),
    (with_column(TRAINED, "hour", [[1]], pa.list_(pa.int8())), "hour", "a column of type list"),
    (with_column(TRAINED, "likes", [7], pa.int64()), "likes", "a list of integer values"),
    (with_column(TRAINED, "none", ["a"], pa.string()), "none", "trained on null values"),
    (with_column(TRAINED, "day", [1], pa.int32()), "day", "trained on date values"),
    (with_column(TRAINED, "hour", [24], pa.int64()), "hour", r"outside 0 .. 24 - 1.*; the value is 24"),
    (with_column(TRAINED, "new", [None], pa.bool_()), "new", "a null in dense feature 'new'"),
    (with_column(TRAINED, "age", [float("inf")], pa.float64()), "age", "not a finite number.* Correct the request"),
    (with_column(TRAINED, "watch_time", [[1]], pa.list_(pa.decimal128(9, 1))), "watch_time", "which have fractions"),
    (with_column(TRAINED, "city", [b"\xff"], pa.binary()), "city", "not valid UTF-8"),
    (TRAINED.drop_columns("city"), "city", "absent"),
    (TRAINED.append_column("more", pa.array([1])), "more", "a key that no input has"),
]


@pytest.mark.parametrize("table, field, what", ARROW, ids=[field for _, field, _ in ARROW])
def test_arrow_columns_that_are_refused(table, field, what):
    with pytest.raises(Refusal, match=what) as caught:
        encoder().score(table.drop_columns("click"))
    assert (caught.value.part, caught.value.field) == ("rows", field)


def test_arrow_tables_of_other_shapes_are_refused():
    user, candidate = TRAINED.select(list(USER)), TRAINED.select(list(CANDIDATE))
    index = pa.array([5], pa.int32())
    outside = pa.DictionaryArray.from_arrays(index, pa.array(["x"]), safe=False)
    damaged = user.set_column(user.schema.get_field_index("city"), "city", outside)
    cases = [
        (pa.concat_tables([user, user]), candidate, "a table of 2 rows"),
        (user, candidate.slice(0, 0), "no row"),
        (user, candidate.append_column("price", pa.array([1.0])), "two columns of one name"),
        (USER, candidate, "one of user and candidates is Arrow and the other JSON"),
        (damaged, candidate, "no valid Arrow"),
    ]
    for one, others, what in cases:
        with pytest.raises(Refusal, match=what):
            encoder().rank(one, others)
