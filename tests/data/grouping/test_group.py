"""`data group` gives what a loop over rows gives, whatever the types and files; `data ungroup` gives the rows back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec import cli
from interformer_rec.data.grouping.arguments import AskedColumns
from interformer_rec.data.grouping.command import group, ungroup
from interformer_rec.data.grouping.engine import engine
from interformer_rec.data.grouping.same_rows import rows_of
from interformer_rec.errors import InputError
from tests.data.grouping.samples import CANDIDATES, plainly_grouped, read, same, table, write

NAMES = [f"on={day}/part-{part}.parquet" for day in (1, 2) for part in range(4)]
SHOWN = ("number", *CANDIDATES)
ASKED = AskedColumns(candidates=",".join(SHOWN))


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return table(np.random.default_rng(0), 400, 60)


@pytest.fixture
def source(tmp_path: Path, rows: pa.Table) -> Path:
    write(tmp_path / "rows", rows, NAMES)
    return tmp_path / "rows"


def written(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.parquet"))


def test_requests_are_those_of_a_loop_over_rows_and_come_back(source: Path, tmp_path: Path) -> None:
    made = group(str(source), str(tmp_path / "requests"), "request,part", ASKED, 0.2)
    expected = plainly_grouped(source, NAMES, ("request", "part"), SHOWN)
    assert written(tmp_path / "requests") == sorted(expected)
    for name, requests in expected.items():
        assert same(read(tmp_path / "requests", name), requests), name
    before, after = (pq.read_schema(folder / NAMES[0]) for folder in (source, tmp_path / "requests"))
    for field in before:
        assert after.field(field.name).type == (pa.list_(field.type) if field.name in SHOWN else field.type)
    count = sum(map(len, expected.values()))
    alone = sum(row["request"] is None for name in NAMES for row in read(source, name))
    assert (made["rows"], made["requests"]) == (400, count) and made["rows with a null key"].startswith(f"{alone} ")
    assert alone > 20 and "the same rows" in made["checked"]

    back = ungroup(str(tmp_path / "requests"), str(tmp_path / "back"), AskedColumns(), 0.2)
    assert (back["requests"], back["rows"]) == (count, 400)
    assert pq.read_schema(tmp_path / "back" / NAMES[0]).equals(before)
    for name, requests in expected.items():
        flat = [{**row, **{c: row[c][at] for c in SHOWN}} for row in requests for at in range(len(row["number"]))]
        assert same(read(tmp_path / "back", name), flat), name


def test_rows_that_lie_by_request_come_back_as_they_were(tmp_path: Path, rows: pa.Table) -> None:
    write(tmp_path / "rows", rows.sort_by("request"), ["a.parquet"], row_group=90)
    group(str(tmp_path / "rows/a.parquet"), str(tmp_path / "requests"), "request", ASKED)
    ungroup(str(tmp_path / "requests/a.parquet"), str(tmp_path / "back"), ASKED)
    assert same(read(tmp_path / "back", "a.parquet"), read(tmp_path / "rows", "a.parquet"))


def test_many_small_files_with_requests_across_them(tmp_path: Path) -> None:
    names = [f"part-{place:03}.parquet" for place in range(90)]
    write(tmp_path / "rows", table(np.random.default_rng(1), 300, 20), names)
    group(str(tmp_path / "rows"), str(tmp_path / "requests"), "request", ASKED)
    expected = plainly_grouped(tmp_path / "rows", names, ("request",), SHOWN)
    assert max(len(row["number"]) for found in expected.values() for row in found) > 10
    assert all(same(read(tmp_path / "requests", name), found) for name, found in expected.items())


def test_splits_in_one_folder_stay_apart(tmp_path: Path) -> None:
    one = pa.table({"request": [1, 2, 1], "item": [1, 2, 3], "user": [5, 6, 5]})
    for name in ("train-0", "train-1", "valid"):
        (tmp_path / "rows").mkdir(exist_ok=True)
        pq.write_table(one, tmp_path / f"rows/{name}.parquet")
    group(str(tmp_path / "rows"), str(tmp_path / "out"), "request", AskedColumns(candidates="item"))
    assert read(tmp_path / "out", "valid.parquet") == [
        {"request": 1, "item": [1, 3], "user": 5},
        {"request": 2, "item": [2], "user": 6},
    ]
    assert [row["item"] for row in read(tmp_path / "out", "train-0.parquet")] == [[1, 3, 1, 3], [2, 2]]
    assert written(tmp_path / "out") == ["train-0.parquet", "valid.parquet"]


def test_times_by_the_minute_and_values_of_the_first_row(tmp_path: Path) -> None:
    rows = pa.table(
        {"user": [7, 7, 7, 7], "time": [-1, 0, 59_999, 60_000], "seen": [[], [1], [1, 2], [3]], "x": [1, 2, 3, 4]}
    )
    pq.write_table(rows, tmp_path / "a.parquet")
    asked = AskedColumns(candidates="time,x", first="se*")
    made = group(str(tmp_path / "a.parquet"), str(tmp_path / "out"), "user,time//60000", asked)
    assert [(row["x"], row["seen"]) for row in read(tmp_path / "out", "a.parquet")] == [
        ([1], []),
        ([2, 3], [1]),
        ([4], [3]),
    ]
    assert made["checked"].endswith("apart from seen")


def test_a_column_of_the_request_that_differs_is_named(source: Path, tmp_path: Path, rows: pa.Table) -> None:
    with pytest.raises(
        InputError,
        match=r"column 'number' is taken for the request's, but differs .* request = 'r\d+'.*: \d+ and \d+, in "
        r"'.*parquet', row group \d, row \d+ of the file.*--candidates.*--first.*--drop",
    ):
        group(str(source), str(tmp_path / "out"), "request", AskedColumns(candidates=",".join(CANDIDATES)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows"]  # nothing half-made
    made = group(
        str(source), str(tmp_path / "out"), "request", AskedColumns(candidates=",".join(CANDIDATES), drop="number")
    )
    assert made["rows"] == 400 and "number" not in read(tmp_path / "out", NAMES[0])[0]


@pytest.mark.parametrize(
    ("by", "asked", "said"),
    [
        ("requst", ASKED, "--by requst: the files have no such column; did you mean 'request'"),
        ("", ASKED, "--by names no column"),
        ("history", ASKED, r"--by history: column 'history' is .*; a request is told by single values"),
        ("city//5", ASKED, "only whole numbers and times can be divided"),
        ("number//0", ASKED, "behind // stands a whole number from 1 on"),
        ("item", ASKED, "column 'item' is in --by and is the candidates'"),
        ("request", AskedColumns(), "which columns are the candidates'"),
        ("request", AskedColumns(candidates="lable"), "--candidates lable: .* did you mean 'label'"),
        ("request", AskedColumns(candidates="label", drop="lab*"), "column 'label' is in --drop and in --candidates"),
    ],
)
def test_options_that_cannot_be(source: Path, tmp_path: Path, by: str, asked: AskedColumns, said: str) -> None:
    with pytest.raises(InputError, match=said):
        group(str(source), str(tmp_path / "out"), by, asked)
    assert not (tmp_path / "out").exists()


def test_the_config_says_whose_the_columns_are(source: Path, tmp_path: Path, capsys) -> None:
    config = {
        "name": "grouped",
        "data": {"train": str(source)},
        "features": {
            "tables": {"item": {}, "tag": {}, "city": {}},
            "ids": ["item", "city"],
            "dense": ["price"],
            "bags": [{"name": "tags", "table": "tag"}],
            "candidate": ["item", "price", "tags"],
            "labels": ["label"],
        },
        "model": {"kind": "dcnv2"},
    }
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(config), encoding="utf-8")
    options = ["--by", "request", "--config", str(path), "--candidates", "shown_at", "--drop", "number"]
    assert cli.main(["data", "group", str(source), *options, "--out", str(tmp_path / "out")]) == 0
    assert "candidates a request" in capsys.readouterr().out
    assert pq.read_schema(tmp_path / "out" / NAMES[0]).field("tags").type == pa.list_(pa.list_(pa.string()))
    back = ["data", "ungroup", str(tmp_path / "out"), "--out", str(tmp_path / "back")]
    assert cli.main(back) == 0 and "400" in capsys.readouterr().out
    (tmp_path / "back" / "mine.txt").write_text("x", encoding="utf-8")
    assert cli.main(back) == 2 and "holds mine.txt" in capsys.readouterr().err


def test_places_and_files_that_cannot_be(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lies among the files of SRC"):
        group(str(source), str(source / "requests"), "request", ASKED)
    with pytest.raises(InputError, match="on this machine"):
        group(str(source), "s3://bucket/requests", "request", ASKED)
    with pytest.raises(InputError, match=r"0\.1 GiB at least"):
        group(str(source), str(tmp_path / "out"), "request", ASKED, 0.01)
    with pytest.raises(InputError, match="was not written by `interformer data group`"):
        ungroup(str(source), str(tmp_path / "out"), AskedColumns())
    content = bytearray((source / NAMES[3]).read_bytes())
    content[200:600] = b"\xff" * 400
    (source / NAMES[3]).write_bytes(content)
    with pytest.raises(InputError, match=r"cannot read '.*part-3.parquet'"):
        group(str(source), str(tmp_path / "out"), "request", ASKED)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows"]


def test_lists_of_different_length_do_not_come_back(tmp_path: Path) -> None:
    pq.write_table(pa.table({"u": [1, 2], "a": [[1], [1, 2]], "b": [[1], [1]]}), tmp_path / "a.parquet")
    with pytest.raises(
        InputError, match=r"row 1 of the file.*column 'b': a list of another length than that of 'a'.*1 against 2"
    ):
        ungroup(str(tmp_path / "a.parquet"), str(tmp_path / "out"), AskedColumns(candidates="a,b"))


def test_other_rows_are_seen(tmp_path: Path) -> None:
    rows = pa.table({"a": [1, 2, 3], "b": ["x", None, "z"]})
    others = [
        rows.slice(0, 2),
        pa.concat_tables([rows, rows.slice(0, 1)]),
        pa.table({"a": [1, 2, 3], "b": ["x", "z", None]}),
    ]
    with engine(tmp_path / "out", 0.2) as sorter:
        found = rows_of([rows], rows.schema, sorter)
        assert found == rows_of([rows.slice(2), rows.slice(0, 2)], rows.schema, sorter)
        assert all(rows_of([other], rows.schema, sorter) != found for other in others)
