"""Every draft runs or names the decision that it waits for: odd columns, files that differ, random tables of hostile names."""

import datetime
import decimal
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from interformer_rec import cli
from interformer_rec.config.run import load
from interformer_rec.data.inspect.command import inspect_folder
from interformer_rec.data.written_names import TAKEN_BY_TORCH
from interformer_rec.errors import InputError

NAMES = json.loads((Path(__file__).parents[1] / "hostile/column_names.json").read_text(encoding="utf-8"))
ROWS = 60
LABEL = [row % 2 for row in range(ROWS)]


def column(values: object, type_: pa.DataType | None = None) -> pa.Array:
    """Values of ROWS rows: a list that is repeated, or a function of the row."""
    made = (
        [values(row) for row in range(ROWS)] if callable(values) else [values[row % len(values)] for row in range(ROWS)]
    )
    return pa.array(made, type_)


KINDS = {
    "int": column(lambda row: row % 7),
    "amount": column(lambda row: row * 1000),
    "uint64": column(lambda row: 2**63 + row % 5, pa.uint64()),
    "int64": column(lambda row: -(2**63) + row % 5),
    "float": column(lambda row: row / 7),
    "float16": pa.array(np.arange(ROWS, dtype=np.float16)),
    "ids as floats": column(lambda row: float(row % 9)),
    "huge": column([1e200, 1.0]),
    "nan": column([float("nan"), 1.0, 2.0]),
    "infinite": column([float("inf"), 1.0, 2.0]),
    "nulls": column([None, 1.5, 2.5]),
    "one value and nulls": column([None, 3.5]),
    "null ids": column([None, 3, 4]),
    "all null": column([None], pa.int64()),
    "null type": pa.nulls(ROWS),
    "constant": column([5]),
    "bool": column([True, False, None]),
    "string": column(["a", "b", ""]),
    "large string": column(["a", "b"], pa.large_string()),
    "string view": column(["a", "b"], pa.string_view()),
    "dictionary": column(["a", "b"]).dictionary_encode(),
    "dictionary of integers": column([4, 5]).dictionary_encode(),
    "binary": column([b"a", b"b"]),
    "not UTF-8": column([b"\xff", b"b"]),
    "fixed binary": column([b"0123456789abcdef"], pa.binary(16)),
    "decimal": column([decimal.Decimal("1.50"), decimal.Decimal("2.25")]),
    "decimal ids": column([decimal.Decimal(7), decimal.Decimal(8)], pa.decimal128(10, 0)),
    "long decimal ids": column([decimal.Decimal(10**20), decimal.Decimal(8)], pa.decimal128(30, 0)),
    "date": column(lambda row: datetime.date(2024, 1, 1 + row % 9)),
    "timestamp": column(lambda row: row, pa.timestamp("us", "UTC")),
    "time": column([1], pa.time32("s")),
    "duration": column([1, 2], pa.duration("us")),
    "struct": column([{"a": 1}]),
    "map": column([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
    "nested": column([[[1]], [[2, 3]]]),
    "list": column([[1, 2], [], None, [3, None, 4, 5, 6, 7]]),
    "list of strings": column([["a"], ["b", "c"]]),
    "list of dictionaries": column([["a"], ["b", "c"]], pa.list_(pa.dictionary(pa.int32(), pa.string()))),
    "list of floats": column([[0.5, 0.25]]),
    "list of bools": column([[True], [False]]),
    "list of timestamps": column([[1, 2], [3]], pa.list_(pa.timestamp("ms"))),
    "list of dates": column([[datetime.date(2024, 1, 1)], []]),
    "list of structs": column([[{"a": 1}]]),
    "list of nulls": column([[], None], pa.list_(pa.null())),
    "list of decimals": column([[decimal.Decimal(1)], [decimal.Decimal(2)]], pa.list_(pa.decimal128(9, 0))),
    "list of not UTF-8": column([[b"\xff"], [b"a"]]),
    "empty lists": column([[]], pa.list_(pa.int64())),
    "null lists": column([None], pa.list_(pa.int64())),
    "large list": column([[1, 2], [3]], pa.large_list(pa.int64())),
    "list view": column([[1], [2]], pa.list_view(pa.int64())),
    "fixed list": column([[1, 2], [3, 4]], pa.list_(pa.int64(), 2)),
}  # fmt: skip


def draft_of(folder: Path, **files: pa.Table) -> str:
    folder.mkdir(exist_ok=True)
    for name, table in files.items():
        pq.write_table(table, folder / f"{name}.parquet")
    return inspect_folder(str(folder))


def check(folder: Path, text: str, train: bool) -> None:
    """A draft without a decision loads, and trains a step, through the doors that its reader uses."""
    decisions = [line for line in text.splitlines() if line.startswith("# NEEDS A DECISION")]
    path = folder / "draft.yaml"
    path.write_text(text, encoding="utf-8")
    if decisions:
        assert "Traceback" not in text
        return
    load(path)
    if train:
        small = ("data.batch_size=16", "training.max_steps=1", f"training.out={folder}/run", "training.device=cpu")
        assert cli.main(["train", str(path), *(f"--set={one}" for one in small)]) == 0, text


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_of_every_kind(tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    rows = pa.table({"label": LABEL, "user_id": column(lambda row: row % 5), "it": KINDS[kind]})
    check(
        tmp_path,
        draft_of(tmp_path, train=rows),
        train="list" in kind or kind in ("nulls", "binary", "decimal", "uint64"),
    )


def test_a_column_of_every_kind_at_once(tmp_path: Path) -> None:
    rows = pa.table({"label": LABEL, **KINDS})
    check(tmp_path, draft_of(tmp_path, train=rows, valid=rows), train=True)


def test_every_name(tmp_path: Path) -> None:
    columns = {name: column(lambda row, n=n: (row * 7 + n) % 11) for n, name in enumerate(NAMES) if name != "label"}
    check(tmp_path, draft_of(tmp_path, train=pa.table({"label": LABEL, **columns})), train=True)
    read = load(tmp_path / "draft.yaml").features.columns()
    assert len(read) > len(NAMES) - 25 and set(read) <= set(NAMES)
    lists = {name: column([[n, 1], [2, 3, 4], [n]]) for n, name in enumerate(NAMES)}
    folder = tmp_path / "lists"
    check(
        folder, draft_of(folder, train=pa.table({"label": LABEL, **{**lists, "label": LABEL, "item_id": LABEL}})), False
    )


def test_columns_are_found_by_name_in_every_file(tmp_path: Path) -> None:
    """Same types in another order, and lists where the first file has numbers."""
    rows = pa.table(
        {"user_id": column(lambda r: r), "click": LABEL, "hist_item": KINDS["list"], "item_id": KINDS["int"]}
    )
    other = rows.select(["hist_item", "item_id", "user_id", "click"]).append_column("extra", KINDS["float"])
    text = draft_of(tmp_path, **{"train-0": rows, "train-1": other})
    features = load_text(tmp_path, text).features
    assert [one.column for one in features.labels] == ["click"] and {one.column for one in features.ids} == {
        "user_id",
        "item_id",
    }
    assert "- user_id  # 60 ids" in text and "- item_id  # 7 ids" in text
    assert "extra: column 'extra' is missing in" in text
    check(tmp_path, text, train=True)


def load_text(folder: Path, text: str):
    (folder / "draft.yaml").write_text(text, encoding="utf-8")
    return load(folder / "draft.yaml")


def test_files_that_differ_in_width_and_files_in_conflict(tmp_path: Path) -> None:
    first = pa.table({"label": LABEL, "item": KINDS["int"], "price": KINDS["float"], "kind": KINDS["int"]})
    second = pa.table(
        {
            "kind": KINDS["string"],
            "price": KINDS["float"].cast(pa.float32()),
            "item": KINDS["int"].cast(pa.int32()),
            "label": LABEL,
        }
    )
    text = draft_of(tmp_path, **{"train-0": first, "train-1": second})
    assert {one.column for one in load_text(tmp_path, text).features.ids} == {"item"}
    assert "kind: the files of" in text and "no type holds both" in text
    check(tmp_path, text, train=True)


def test_duplicate_names_are_left_out(tmp_path: Path) -> None:
    rows = pa.Table.from_arrays([pa.array(LABEL), KINDS["int"], KINDS["int"], KINDS["float"]], ["label", "a", "a", "b"])
    text = draft_of(tmp_path, train=rows)
    assert "column 'a' is there 2 times" in text
    check(tmp_path, text, train=True)


@pytest.mark.parametrize(
    "values, said",
    [
        (LABEL, "The label is click."),
        ([0.25, 0.5, 1.0], "The label is click."),
        ([0], "Its value is 0 in every row"),
        ([0, 1, None], "such rows are left out"),
        ([0, 1, float("nan")], "such rows are left out"),
        (["no", "yes"], "NEEDS A DECISION"),
        ([0, 1, 2, 3, 4, 5], "NEEDS A DECISION"),
        ([None], "NEEDS A DECISION"),
    ],
)
def test_labels(tmp_path: Path, values: list, said: str, capfd: pytest.CaptureFixture[str]) -> None:
    rows = pa.table({"click": column(values), "item": KINDS["int"], "hist_item": KINDS["list"]})
    text = draft_of(tmp_path, train=rows)
    assert said in text and "item" in text
    check(tmp_path, text, train=True)
    assert ("# - click  # " in text) == (said == "NEEDS A DECISION" and values != [None])
    assert cli.main(["inspect", str(tmp_path)]) == 0
    assert ("NEEDS A DECISION" in capfd.readouterr().err) == (said == "NEEDS A DECISION")


def test_a_decision_can_be_taken_where_the_draft_says(tmp_path: Path) -> None:
    rows = pa.table({"stars": column([0.0, 1.0, 0.5]), "item": KINDS["int"]})
    text = draft_of(tmp_path, train=rows)
    assert "# NEEDS A DECISION: no 0/1 column is named like feedback" in text
    check(tmp_path, text.replace("# NEEDS A DECISION", "#").replace("    # - stars", "    - stars"), train=True)


def test_held_out_files_that_do_not_suit(tmp_path: Path) -> None:
    rows = pa.table({"label": LABEL, "item": KINDS["int"], "hist_item": KINDS["list"]})
    text = draft_of(
        tmp_path, train=rows, valid=rows.set_column(1, "item", KINDS["string"]), test=rows.drop_columns(["hist_item"])
    )
    assert "# NEEDS A DECISION: data.valid is commented out: column 'item' is string there, but int64" in text
    assert "# NEEDS A DECISION: data.test is commented out: column 'hist_item' is missing in" in text
    assert "\n  # valid: " in text and "\n  # test: " in text
    loaded = load_text(tmp_path, text)
    assert loaded.data.valid is None and loaded.data.test is None
    one_class = draft_of(tmp_path / "one", train=rows, valid=rows.set_column(0, "label", column([0])))
    assert "monitor: logloss" in one_class
    check(tmp_path / "one", one_class, train=True)


@pytest.mark.parametrize("kind", ["constant", "struct", "null type", "not UTF-8", "list of timestamps"])
def test_nothing_usable_is_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(InputError, match=r"no column of .* can be a feature"):
        draft_of(tmp_path, train=pa.table({"label": LABEL, "it": KINDS[kind]}))


@pytest.mark.parametrize("name", ["2024", "null", "1e3", "${X}", "größe", "a.b"])
def test_names_of_folders(tmp_path: Path, name: str) -> None:
    rows = pa.table({"label": LABEL, "item": KINDS["int"]})
    check(tmp_path / name, draft_of(tmp_path / name, train=rows), train=False)
    assert load(tmp_path / name / "draft.yaml").data.train == f"{tmp_path}/{name}/train.parquet"


def test_names_that_torch_has_taken(tmp_path: Path) -> None:
    missing = {name for name in dir(torch.nn.ModuleDict()) if not name.startswith("_")} - TAKEN_BY_TORCH
    assert not missing, "of this release of torch"
    columns = {"type": KINDS["int"], "train": KINDS["list"], "__len__": KINDS["string"]}
    text = draft_of(tmp_path, train=pa.table({"label": LABEL, **columns}))
    check(tmp_path, text, train=True)
    assert "type" in load(tmp_path / "draft.yaml").features.columns()


def random_folder(folder: Path, seed: int) -> str | None:
    """One to three files with random columns of random kinds and names; None if nothing in them is usable."""
    random = np.random.default_rng(seed)
    names = [str(name) for name in random.choice(NAMES, random.integers(1, 9), replace=False)]
    kinds = [str(kind) for kind in random.choice(list(KINDS), len(names))]
    table = pa.table({"label" if random.random() < 0.8 else "stars": LABEL})
    for name, kind in zip(names, kinds, strict=True):
        if name not in table.column_names:
            table = table.append_column(name, KINDS[kind])
    files = {"train-0": table}
    for number in range(1, int(random.integers(1, 4))):
        order = [str(name) for name in random.permutation(table.column_names)]
        files[f"train-{number}"] = table.select(order[int(random.random() < 0.1) :])
    if random.random() < 0.4:
        files["valid"] = table.select(table.column_names[: len(names) + int(random.random() < 0.8)])
    try:
        return draft_of(folder, **{name: one for name, one in files.items() if one.num_columns})
    except InputError as error:
        assert "no column of" in str(error), error
        return None


@pytest.mark.parametrize(
    "seeds, trained", [(range(60), 15), pytest.param(range(1000, 1300), 6, marks=pytest.mark.slow)]
)
def test_random_tables(tmp_path: Path, seeds: range, trained: int) -> None:
    for seed in seeds:
        folder = tmp_path / str(seed)
        text = random_folder(folder, seed)
        if text is not None:
            check(folder, text, train=seed % trained == 0)
