"""Rows of files as JSON; test_against_decoder.py reads them back, for every type."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa

from interformer_rec.serving.encode.stated import stated
from tests.serving.encode.samples import TRAINED, arrays, encoder, fitted


def test_values_are_written_as_the_signature_has_them():
    """Not as the files at hand have them: these may be of another width or layout."""
    table = pa.table(
        {
            "flag": pa.array([1, None], pa.int8()),
            "day": pa.array([19_000, None], pa.int32()).cast(pa.date32()).cast(pa.date64()),
            "seen": pa.array([1, None], pa.timestamp("s", "Europe/Berlin")),
            "naive": pa.array([[-1, None], None], pa.list_(pa.timestamp("ns"))),
            "price": pa.array([Decimal("1.25"), Decimal("2.00")], pa.decimal128(9, 2)),
            "text": pa.array([b"\xc3\xa9", None]),
            "word": pa.array(["a", None]).dictionary_encode(),
            "more": [1, 2],
        }
    )
    types = {
        "flag": pa.bool_(),
        "day": pa.date32(),
        "seen": pa.timestamp("ms", "UTC"),
        "naive": pa.list_(pa.timestamp("ns")),
        "price": pa.decimal128(9, 2),
        "text": pa.binary(),
        "word": pa.string(),
    }
    first, second = stated(table, types)
    assert first == {
        "flag": True,
        "day": "2022-01-08",
        "seen": "1970-01-01T00:00:01.000Z",
        "naive": ["1969-12-31T23:59:59.999999999", None],
        "price": 1.25,
        "text": "é",
        "word": "a",
    }
    assert second == {**dict.fromkeys(types), "price": 2}


def test_a_row_of_the_training_files_is_a_request():
    table = TRAINED.drop_columns("click")
    meaning = fitted().meaning
    assert meaning is not None
    assert encoder().types == {name: meaning.types[name] for name in encoder().types}
    assert arrays(encoder().score(stated(TRAINED, encoder().types))) == arrays(encoder().score(table))
