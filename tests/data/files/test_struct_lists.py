"""One list of structs read as a list column for each field: any layout, only what is asked for, sizes watched, and what cannot be."""

from __future__ import annotations

import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.config.windows import WindowsConfig
from interformer_rec.data.files.source import open_source
from interformer_rec.data.files.struct_lists import unpacked
from interformer_rec.data.windows.time_cut import TimeCut
from interformer_rec.errors import InputError
from tests.data.request_samples import CANDIDATES, requests, structs

COLUMNS = (*CANDIDATES, "click", "rating", "weight")


@pytest.fixture
def plain() -> pa.Table:
    return requests(np.random.default_rng(1), 40)


def test_the_fields_are_the_lists(plain, tmp_path):
    pq.write_table(structs(plain, COLUMNS), tmp_path / "rows.parquet", row_group_size=7)
    source = unpacked(open_source(str(tmp_path)), "shown")
    assert unpacked(source, "shown") is source and source.rows == 40
    wanted = ["city", "user", "tags", "price"]
    assert source.columns.require(wanted) == plain.select(wanted).schema
    groups = list(range(len(source.group_rows)))
    for read in (source, pickle.loads(pickle.dumps(source))):
        assert read.read(groups, wanted).equals(plain.select(wanted))
    parts = [table for group in groups for table in source.batches(group, wanted, 3)]
    assert max(len(part) for part in parts) == 3 and pa.concat_tables(parts).equals(plain.select(wanted))
    encoded = source.read([2], ["city", "user"], strings=True)["city"]
    assert pa.types.is_dictionary(encoded.type.value_type) and encoded.to_pylist() == plain["city"].to_pylist()[14:21]


def test_only_the_fields_that_are_asked_for_are_decoded(plain, tmp_path, monkeypatch):
    pq.write_table(structs(plain, COLUMNS), tmp_path / "rows.parquet")
    source = unpacked(open_source(str(tmp_path)), "shown")
    decoded = []
    whole = type(source.packed)._read
    monkeypatch.setattr(
        type(source.packed), "_read", lambda self, *given: decoded.append(whole(self, *given)) or decoded[-1]
    )
    source.read([0], ["tags", "click"])
    assert decoded[0].schema.field("shown").type == pa.list_(
        pa.struct([("tags", pa.list_(pa.int16())), ("click", pa.bool_())])
    )


VALUES = [[{"item": 1, "at": "x"}, None], [{"item": None, "at": None}, {"item": 3, "at": "z"}], None]
ITEMS = [[1, None], [None, 3], None]
STRUCT = pa.struct([("item", pa.int64()), ("at", pa.string())])


@pytest.mark.parametrize("type_", [pa.list_(STRUCT), pa.large_list(STRUCT), pa.list_(STRUCT, 2)], ids=str)
def test_nulls_and_every_layout_of_lists(type_, tmp_path):
    pq.write_table(pa.table({"shown": pa.array(VALUES, type_)}), tmp_path / "rows.parquet")
    source = unpacked(open_source(str(tmp_path)), "shown")
    assert source.read([0], ["item"])["item"].to_pylist() == ITEMS
    assert source.columns.require(["item"]).field("item").type == source.read([0], ["item"])["item"].type


def test_files_that_differ_have_the_widest_type(tmp_path):
    narrow = pa.list_(pa.struct([("item", pa.int16()), ("more", pa.int8())]))
    pq.write_table(pa.table({"shown": pa.array([[{"item": 7, "more": 1}]], narrow)}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"shown": pa.array(VALUES, pa.large_list(STRUCT))}), tmp_path / "b.parquet")
    source = unpacked(open_source(str(tmp_path)), "shown")
    assert source.columns.require(["item"]).field("item").type == pa.large_list(pa.int64())
    assert source.read([0, 1], ["item"])["item"].to_pylist() == [[7], *ITEMS]
    with pytest.raises(InputError, match=r"column 'at' is missing in '.*a.parquet'. Its columns: item, more"):
        source.columns.require(["at"])


def test_fields_that_are_structs_themselves(tmp_path):
    inside = pa.struct([("inner", pa.struct([("a", pa.int8()), ("b", pa.int8())])), ("text", pa.string())])
    rows = [[{"inner": {"a": 1, "b": 2}, "text": "long " * 9}], []]
    table = pa.table({"shown": pa.array(rows, pa.list_(inside))})
    pq.write_table(table, tmp_path / "rows.parquet")
    source = unpacked(open_source(str(tmp_path)), "shown")
    assert source.read([0], ["inner"])["inner"].to_pylist() == [[{"a": 1, "b": 2}], []]
    assert source.read([0], ["text", "inner"])["text"].to_pylist() == [["long " * 9], []]


def test_strings_that_would_be_too_large_are_refused(tmp_path):
    text = "x" * 1000
    shown = [[{"item": 1, "text": text}] * 2000]
    pq.write_table(pa.table({"shown": shown}), tmp_path / "rows.parquet")
    source = unpacked(open_source(str(tmp_path), max_decoded_bytes=100_000), "shown")
    assert source.read([0], ["item"])["item"].to_pylist() == [[1] * 2000]
    with pytest.raises(InputError, match=r"column '.*' of .*rows.parquet', row group 0 is too large"):
        source.read([0], ["text"])
    with pytest.raises(InputError, match="is too large"):
        list(source.batches(0, ["text"], 1))
    larger = unpacked(open_source(str(tmp_path), max_decoded_bytes=4_000_000), "shown")
    assert larger.read([0], ["text"])["text"].to_pylist() == [[text] * 2000]


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        (
            [[1, 2]],
            r"column 'shown' of '.*rows.parquet' is list<.*int64>; features.request.column needs a list of structs",
        ),
        (None, r"column 'shown' \(features.request.column\) is missing in '.*rows.parquet'. Its columns: user"),
    ],
)
def test_what_is_no_list_of_structs(shown, said, tmp_path):
    pq.write_table(pa.table({"user": [1]} | ({"shown": shown} if shown else {})), tmp_path / "rows.parquet")
    with pytest.raises(InputError, match=said):
        unpacked(open_source(str(tmp_path)), "shown")


def test_a_field_named_as_another_column_cannot_be_read(tmp_path):
    pq.write_table(pa.table({"item": [1], "shown": [[{"item": 2, "price": 3.0}]]}), tmp_path / "rows.parquet")
    source = unpacked(open_source(str(tmp_path)), "shown")
    assert source.read([0], ["price"])["price"].to_pylist() == [[3.0]]
    with pytest.raises(InputError, match=r"column 'item' is there 2 times in '.*rows.parquet'"):
        source.columns.require(["item"])


def test_damage_is_named_by_the_field(plain, tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(structs(plain, COLUMNS), path, compression="snappy")
    source = unpacked(open_source(str(tmp_path)), "shown")
    metadata = pq.read_metadata(path).row_group(0)
    chunk = next(
        metadata.column(at) for at in range(metadata.num_columns) if metadata.column(at).path_in_schema.endswith("city")
    )
    content = bytearray(path.read_bytes())
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    content[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"(?s)row group 0, column 'city'.*damaged\?"):
        source.read([0], ["price", "city"])


def test_windows_by_time_have_the_lists_of_their_own_rows(tmp_path):
    rows = {
        "at": [1, 20, 2, 25],
        "city": ["a", "b", "c", "d"],
        "shown": [[{"x": "p"}], [{"x": "q"}], [], [{"x": "r"}, {"x": None}]],
    }
    pq.write_table(pa.table(rows), tmp_path / "rows.parquet", row_group_size=3)
    cut = TimeCut(WindowsConfig.model_validate({"path": str(tmp_path), "by": "time", "column": "at", "width": 10}))
    first, last = (unpacked(cut.open([window]), "shown") for window in cut.find())
    assert first.read([0], ("x", "city")).to_pydict() == {"x": [["p"], []], "city": ["a", "c"]}
    assert first.read([0], ("x",), strings=True).to_pydict() == {"x": [["p"], []]}
    assert last.read([0, 1], ("city", "x")).to_pydict() == {"city": ["b", "d"], "x": [["q"], ["r", None]]}
    assert last.read([1], ("city",)).to_pydict() == {"city": ["d"]}
    assert "row 2 of the file" in first.where_row([0], 1)
