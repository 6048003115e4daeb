"""Raw ids to table rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from interformer_rec.config.features import MISSING_ROW, UNKNOWN_ROW, Table
from interformer_rec.data.decode import ids as ids_module
from interformer_rec.data.decode.ids import hash_strings, row_map, row_type, splitmix64
from interformer_rec.errors import InputError

HASH = Table(ids="hash", num_embeddings=1_000_003)


def test_hashes_never_change():
    # A changed value here makes every saved hash table worthless.
    ints = np.array([0, 1, -1, 2**40 + 7, -(2**63)], np.int64)
    assert [hex(h) for h in splitmix64(ints).tolist()] == [
        "0xe220a8397b1dcdaf",
        "0x910a2dec89025cc1",
        "0xe4d971771b652c20",
        "0xb94083aa31091a4e",
        "0x481ec0a212a9f3db",
    ]
    words = hash_strings(pa.array(["", "a", "InterFormer", "日本"]))
    assert [hex(h) for h in words.tolist()] == [
        "0xb4b2797457a0a6e4",
        "0x2f42665b399ef840",
        "0xa1a99c798b6fab1b",
        "0x3a9b54e1cf3533e8",
    ]


@pytest.mark.parametrize("type_", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64])
def test_an_id_hashes_alike_in_every_integer_type(type_):
    values = np.array([0, 1, 100, 127])
    expected = row_map("t", HASH).ints(values)
    assert row_map("t", HASH).ints(values.astype(type_)).tolist() == expected.tolist()
    if np.dtype(type_).kind == "i":
        negative = np.array([-1, -128])
        assert splitmix64(negative.astype(type_)).tolist() == splitmix64(negative).tolist()


def test_hash_rows_fill_the_table_evenly_and_leave_the_missing_row():
    rows = row_map("t", Table(ids="hash", num_embeddings=100)).ints(np.arange(100_000))
    assert rows.min() == MISSING_ROW + 1 and rows.max() == 100
    counts = np.bincount(rows, minlength=101)[1:]
    assert counts.min() > 850 and counts.max() < 1150


def test_one_id_has_the_row_that_it_has_among_many():
    """Of identity, hash and strings; of integers in a vocabulary: test_vocabulary_lookup_agrees_with_a_dict."""
    small, words = [0, 1, 99, 299], ["", "a", "InterFormer", "日本", "not there"]
    wide = [*small, -1, 2**40 + 7, 2**63 - 1, -(2**63)]
    for table, ids in ((HASH, wide), (Table(ids="identity", num_embeddings=300), small)):
        map_ = row_map("t", table)
        assert [map_.row_of_int(id_) for id_ in ids] == map_.ints(np.array(ids)).tolist()
    for map_ in (row_map("t", HASH), row_map("t", Table(), pa.array(words[:-1]))):
        expected = map_.strings(pa.array(words)).tolist()
        assert [map_.row_of_text(word) for word in words] == map_.texts(words).tolist() == expected


def vocabularies() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "small": rng.permutation(1000)[:300],
        "from one": np.arange(1, 50),
        "negative": rng.permutation(np.arange(-500, 500))[:400],
        "wide": rng.choice(2**62, 5000, replace=False),
        "extremes": np.array([-(2**63), 2**63 - 1, 0, -1, 5]),
        "empty": np.zeros(0, np.int64),
        "one": np.array([2**40]),
        "clustered": np.concatenate([np.arange(200), 2**50 + 64 * np.arange(3000)]),
    }


@pytest.mark.parametrize("kind", vocabularies())
def test_vocabulary_lookup_agrees_with_a_dict(kind, monkeypatch):
    monkeypatch.setattr(ids_module, "CHUNK", 1000)
    vocabulary = vocabularies()[kind].astype(np.int64)
    rng = np.random.default_rng(1)
    extremes = np.array([2**63 - 1, -(2**63), 0, 1, -1, 2**40, 2**32])
    queries = np.concatenate([rng.permutation(np.tile(vocabulary, 2)), rng.integers(-2000, 2000, 3000), extremes])
    rows = {id_: row for row, id_ in enumerate(vocabulary.tolist(), UNKNOWN_ROW + 1)}
    map_ = row_map("t", Table(), pa.array(vocabulary))
    expected = [rows.get(query, UNKNOWN_ROW) for query in queries.tolist()]
    assert map_.ints(queries).tolist() == expected
    assert [map_.row_of_int(query) for query in queries.tolist()] == expected
    for type_ in (np.int32, np.int16, np.uint8):
        inside = queries[(queries >= np.iinfo(type_).min) & (queries <= np.iinfo(type_).max)]
        assert map_.ints(inside.astype(type_)).tolist() == [rows.get(q, UNKNOWN_ROW) for q in inside.tolist()]


def test_a_wide_vocabulary_is_hashed_and_a_narrow_one_is_not():
    assert type(row_map("t", Table(), pa.array([1, 2**62]))._lookup).__name__ == "_Hashed"
    assert type(row_map("t", Table(), pa.array([1, 2**20]))._lookup).__name__ == "_Direct"


def test_string_vocabulary():
    map_ = row_map("t", Table(), pa.array(["b", "a", ""]))
    assert map_.strings(pa.array(["a", "b", "", "c"])).tolist() == [3, 2, 4, UNKNOWN_ROW]
    with pytest.raises(InputError, match="fitted on strings"):
        map_.ints(np.arange(3))
    with pytest.raises(InputError, match="fitted on integers"):
        row_map("t", Table(), pa.array([1])).strings(pa.array(["a"]))


def test_identity_shifts_past_the_missing_row_and_sees_ids_outside():
    map_ = row_map("t", Table(ids="identity", num_embeddings=256))
    assert map_.ints(np.array([0, 255], np.int16)).tolist() == [1, 256]
    assert map_.outside(np.array([0, 255])) is None
    assert map_.outside(np.array([-1, 0, 256])).tolist() == [True, False, True]


def test_rows_are_in_the_smallest_type_that_holds_them():
    assert [row_type(n) for n in (1, 256, 257, 65_536, 65_537, 2**31, 2**31 + 1)] == [
        np.uint8, np.uint8, np.uint16, np.uint16, np.int32, np.int32, np.int64,
    ]  # fmt: skip
