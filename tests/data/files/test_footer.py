"""Row groups that decode to far more than they take in a file are refused before any memory is taken; honest ones are read."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.data.files import footer
from interformer_rec.data.files.source import open_source
from interformer_rec.data.inspect.profile import profile
from interformer_rec.errors import InputError

LONG = "x" * 200_000
COUNT = 5_000


def repeated(texts: pa.Array, count: int = COUNT) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), texts)


def one_list(values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)


PLAIN = {"compression": "zstd", "use_dictionary": False}
BOMBS = {  # name: (column, options of the writer, bytes it would be at least)
    "a list of zeros": (one_list(pa.array(np.zeros(2_000_000, np.int64))), {"compression": "zstd"}, 16_000_000),
    "rows of zeros": (pa.array(np.zeros(2_000_000, np.int64)), {"compression": "zstd"}, 16_000_000),
    "a string in many rows": (repeated(pa.array([LONG])), {"compression": "zstd"}, 1_000_000_000),
    "a string many times in a list": (one_list(repeated(pa.array([LONG]))), {"compression": "zstd"}, 1_000_000_000),
    "strings that share a prefix": (
        pa.array([LONG] * 1000),
        {**PLAIN, "column_encoding": {"x": "DELTA_BYTE_ARRAY"}},
        1_000_000,
    ),
    "one compressed string": (pa.array(["x" * 20_000_000]), PLAIN, 20_000_000),
    "bytes of a fixed width": (pa.array([b"\0" * 100_000] * 300, pa.binary(100_000)), {"compression": "zstd"}, 30_000_000),
}  # fmt: skip


def write(path: Path, column: pa.Array, **options: object) -> str:
    pq.write_table(pa.table({"x": column}), path, store_schema=False, row_group_size=1 << 24, **options)
    return str(path)


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_it_is_decoded(tmp_path, name, monkeypatch):
    """With plain strings, as for prediction. The limits are lowered, so that the test needs little memory itself."""
    monkeypatch.setattr(footer, "SUSPICIOUS", 1 << 20)
    column, options, least = BOMBS[name]
    path = write(tmp_path / "bomb.parquet", column, **options)
    stored = Path(path).stat().st_size
    before = peak()
    with pytest.raises(
        InputError, match=r"column 'x' of '.*bomb\.parquet', row group 0 is too large: .*max_decoded_bytes"
    ) as caught:
        open_source(path).read([0], ["x"])
    decoded, of = numbers(str(caught.value))
    assert least <= decoded and of <= stored and decoded > 1000 * of
    assert peak() - before < 100_000_000


@pytest.mark.parametrize("name", BOMBS)
def test_inspect_looks_at_no_bomb(tmp_path, name, monkeypatch):
    """It samples the first rows of a row group, in which there may be one list, or one string, of any size."""
    monkeypatch.setattr(footer, "SUSPICIOUS", 1 << 20)
    column, options, _ = BOMBS[name]
    path = write(tmp_path / "bomb.parquet", column, **options)
    before = peak()
    with pytest.raises(InputError, match=r"column 'x' of '.*bomb\.parquet', row group 0 is too large"):
        list(open_source(path).batches(0, ["x"], 1 << 24))
    try:
        profile(open_source(path))  # of strings that repeat it takes a few thousand
    except InputError as error:
        assert "is too large" in str(error)
    assert peak() - before < 100_000_000


def numbers(message: str) -> tuple[int, int]:
    words = message.split("too large: ")[1].replace(",", "").split()
    found = [int(word) for word in words if word.isdigit()]
    return found[0], found[1]


@pytest.mark.parametrize("name", ["a string in many rows", "a string many times in a list"])
def test_training_reads_repeated_strings_as_dictionaries(tmp_path, name, monkeypatch):
    monkeypatch.setattr(footer, "SUSPICIOUS", 1 << 20)
    column, options, _ = BOMBS[name]
    table = open_source(write(tmp_path / "bomb.parquet", column, **options)).read([0], ["x"], strings=True)
    assert table.nbytes < 1_000_000


def test_the_limit_is_what_the_user_says(tmp_path):
    path = write(tmp_path / "a.parquet", pa.array(np.arange(100_000)))
    assert open_source(path).read([0], ["x"]).num_rows == 100_000
    assert open_source(path, 800_000).read([0], ["x"]).num_rows == 100_000
    with pytest.raises(InputError, match=r"at least 800,000 bytes in memory.*limit of 799,999\. If"):
        open_source(path, 799_999).read([0], ["x"])
    path = write(tmp_path / "zeros.parquet", one_list(pa.array(np.zeros(2_000_000, np.int64))), compression="zstd")
    assert open_source(path, 10**9).read([0], ["x"])["x"][0].values.null_count == 0


def test_several_row_groups_are_added_up_and_columns_that_nobody_reads_do_not_count(tmp_path):
    table = pa.table({"x": np.arange(10_000), "y": np.arange(10_000)})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=1000)
    source = open_source(str(tmp_path / "a.parquet"), 40_000)
    assert source.read(range(5), ["x"]).num_rows == 5000
    with pytest.raises(InputError, match=r"column 'x' of '.*a\.parquet', row group 5 is too large"):
        source.read(range(10), ["x"])
    with pytest.raises(InputError, match=r"column 'y' of '.*a\.parquet', row group 2 is too large"):
        source.read(range(5), ["x", "y"])


ENCODINGS = ["PLAIN", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY", "dictionary"]
TEXTS = [["a", "b"], None, [], ["ab", None, "a"]]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("suspicious", [1, 1 << 31], ids=["watched", "plain"])
@pytest.mark.parametrize("strings", [False, True])
def test_strings_of_every_encoding_are_what_was_written(tmp_path, encoding, suspicious, strings, monkeypatch):
    """Row groups of one file and files of one folder with other encodings too; Arrow has no dictionaries of the DELTA ones."""
    monkeypatch.setattr(footer, "OUT_OF_PROPORTION", 1 << 40)
    monkeypatch.setattr(footer, "SUSPICIOUS", suspicious)
    table = pa.table(
        {"s": ["a", None, "ab", "a"], "l": pa.array(TEXTS, pa.list_(pa.string())), "b": [b"a", b"b", None, b""]}
    )
    for number, name in enumerate((encoding, "PLAIN")):
        plain = name != "dictionary"
        columns = dict.fromkeys(("s", "l.list.element", "b"), name) if plain else None
        pq.write_table(
            table, tmp_path / f"{number}.parquet", use_dictionary=not plain, column_encoding=columns, row_group_size=3
        )
    read = open_source(str(tmp_path)).read(range(4), ["l", "s", "b"], strings=strings)
    assert read.to_pylist() == table.select(["l", "s", "b"]).to_pylist() * 2
