"""Finding files and reading row groups."""

from __future__ import annotations

import pickle

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.data.files.source import open_source
from interformer_rec.errors import InputError
from tests.data.samples import numbered_table, write_numbered

SIZES = [[3, 2], [4], [1, 1, 5]]


def names(source) -> list[str]:
    return [file.rsplit("/", 1)[1] for file in source.files]


def test_row_groups_of_a_directory(tmp_path):
    source = open_source(write_numbered(tmp_path / "d", SIZES))
    assert source.rows == 16 and source.group_rows.tolist() == [3, 2, 4, 1, 1, 5]
    assert source.group_file.tolist() == [0, 0, 1, 2, 2, 2] and source.group_index.tolist() == [0, 1, 0, 0, 1, 2]
    assert source.group_start.tolist() == [0, 3, 0, 0, 1, 2]
    table = source.read([1, 2, 5], ["label", "row"])
    assert table.column_names == ["label", "row"] and table["row"].to_pylist() == [3, 4, 5, 6, 7, 8, 11, 12, 13, 14, 15]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.parquet", ["a.parquet", "b.parquet"]),
        ("?.parquet", ["a.parquet", "b.parquet"]),
        ("[!a].parquet", ["b.parquet"]),
        ("[ab].parquet", ["a.parquet", "b.parquet"]),
        ("**/*.parquet", ["a.parquet", "b.parquet", "c.parquet"]),
        ("su*/c.parquet", ["c.parquet"]),
        ("a.parquet", ["a.parquet"]),
        ("", ["a.parquet", "b.parquet", "c.parquet"]),
    ],
)
def test_globs_and_directories(tmp_path, pattern, expected):
    for name in ("a.parquet", "b.parquet", "sub/c.parquet", "_temporary/d.parquet", ".e.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pq.write_table(numbered_table(0, 2), tmp_path / name)
    (tmp_path / "_SUCCESS").touch()
    for scheme in ("", "file://") if "?" not in pattern else ("",):  # in a URI a ? begins the query
        found = names(open_source(f"{scheme}{tmp_path}/{pattern}"))
        assert [name for name in found if name != ".e.parquet"] == expected or (
            pattern.startswith("**") and set(expected) <= set(found)
        )


def test_a_file_name_with_wildcard_characters_is_a_file(tmp_path):
    pq.write_table(numbered_table(0, 2), tmp_path / "part[0].parquet")
    assert open_source(str(tmp_path / "part[0].parquet")).rows == 2


def test_other_schemes_go_through_fsspec():
    memory = fsspec.filesystem("memory")
    with memory.open("/fsspec-test/a.parquet", "wb") as file:
        pq.write_table(numbered_table(0, 5), file)
    for uri in ("memory://fsspec-test", "memory://fsspec-test/*.parquet", "memory://fsspec-test/a.parquet"):
        assert open_source(uri).read([0], ["row"])["row"].to_pylist() == [0, 1, 2, 3, 4]
    memory.rm("/fsspec-test", recursive=True)


def test_a_pickled_source_reads_on(tmp_path):
    source = pickle.loads(pickle.dumps(open_source(write_numbered(tmp_path / "d", SIZES))))
    assert source.read([2], ["row"])["row"].to_pylist() == [5, 6, 7, 8]


def test_empty_row_groups_and_files_without_rows_are_passed_over(tmp_path):
    source = open_source(write_numbered(tmp_path / "d", [[0, 2], [0], [3]]))
    assert source.rows == 5 and source.group_rows.tolist() == [2, 3] and source.group_file.tolist() == [0, 2]


def test_more_files_than_are_kept_open(tmp_path, monkeypatch):
    monkeypatch.setattr("interformer_rec.data.files.source.OPEN_FILES", 2)
    source = open_source(write_numbered(tmp_path / "d", [[2]] * 7))
    for _ in range(2):
        assert source.read(range(7), ["row"])["row"].to_pylist() == list(range(14))


def test_what_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"there is no file or directory '.*nothing'"):
        open_source(str(tmp_path / "nothing"))
    with pytest.raises(InputError, match=r"no file matches '.*\*\.parquet'"):
        open_source(str(tmp_path / "*.parquet"))
    with pytest.raises(InputError, match=r"directory '.*' has no file that ends in \.parquet.*; it is empty"):
        open_source(str(tmp_path))
    (tmp_path / "data.csv").write_text("a,b")
    with pytest.raises(InputError, match=r"it holds 1 other file\(s\), such as '.*data\.csv'"):
        open_source(str(tmp_path))
    with pytest.raises(InputError, match="nosuchscheme"):
        open_source("nosuchscheme://bucket/key")
    with pytest.raises(InputError, match="the data path is empty"):
        open_source("")


def test_files_that_are_no_parquet(tmp_path):
    (tmp_path / "zero.parquet").touch()
    with pytest.raises(InputError, match=r"zero\.parquet' is empty \(0 bytes\)"):
        open_source(str(tmp_path / "zero.parquet"))
    (tmp_path / "text.parquet").write_text("label,user\n" * 10)
    with pytest.raises(InputError, match=r"cannot read '.*text\.parquet'.*Is it a Parquet file, and whole"):
        open_source(str(tmp_path / "text.parquet"))
    pq.write_table(numbered_table(0, 100), tmp_path / "cut.parquet")
    whole = (tmp_path / "cut.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cannot read '.*cut\.parquet'"):
        open_source(str(tmp_path / "cut.parquet"))
    pq.write_table(numbered_table(0, 0), tmp_path / "none.parquet")
    with pytest.raises(InputError, match=r"none\.parquet' has no rows"):
        open_source(str(tmp_path / "none.parquet"))


def test_damage_inside_a_file_names_row_group_and_column(tmp_path):
    path = tmp_path / "d.parquet"
    pq.write_table(numbered_table(0, 3000), path, row_group_size=1000, compression="zstd", use_dictionary=False)
    chunk = pq.read_metadata(path).row_group(1).column(1)
    assert chunk.path_in_schema == "number"
    data = bytearray(path.read_bytes())
    start = chunk.data_page_offset + 40
    data[start : start + 200] = bytes(200)
    path.write_bytes(data)
    source = open_source(str(path))
    assert source.read([0, 2], ["row", "number"]).num_rows == 2000
    with pytest.raises(InputError, match=r"cannot read '.*d\.parquet', row group 1, column 'number'.*damaged"):
        source.read([0, 1, 2], ["row", "number"])


def test_files_that_do_not_fit_together(tmp_path):
    write_numbered(tmp_path / "d", [[2]])
    other = numbered_table(2, 4)
    position = other.column_names.index("row")
    texts = other["row"].cast(pa.string())
    pq.write_table(other.set_column(position, "row", texts), tmp_path / "d" / "x.parquet")
    source = open_source(str(tmp_path / "d"))
    with pytest.raises(
        InputError, match=r"column 'row' is int64 in '.*part-000\.parquet' but string in '.*x\.parquet'"
    ):
        source.require(["row"])
    source.require(["number"])  # only the columns that are read have to agree
    pq.write_table(other.drop_columns(["label"]), tmp_path / "d" / "x.parquet")
    with pytest.raises(InputError, match=r"column 'label' is missing in '.*x\.parquet'. Its columns: row, number"):
        open_source(str(tmp_path / "d")).require(["label"])
