"""Files of one folder as other tools write them: the same rows are the same batches, whatever the types; a conflict names both files."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.data.files.source import open_source
from interformer_rec.data.fit import fit
from interformer_rec.errors import InputError
from tests.data.samples import equal, every_kind, every_kind_rows, loader_of


def retyped(table: pa.Table, **types: pa.DataType) -> pa.Table:
    return table.cast(pa.schema([pa.field(f.name, types.get(f.name, f.type)) for f in table.schema]))


def write(folder: Path, *tables: pa.Table) -> str:
    folder.mkdir(parents=True)
    for number, table in enumerate(tables):
        pq.write_table(table, folder / f"{number}.parquet")
    return str(folder)


def batches(path: str, shuffle_rows: int = 0, batch_size: int = 5) -> list:
    features = every_kind()
    loader = loader_of(path, features, fit(features, path), batch_size=batch_size, shuffle_rows=shuffle_rows)
    return [batch for batch, _ in loader.batches()]


T = every_kind_rows()
OTHER = {
    "not null": T.cast(pa.schema([f.with_nullable(f.name not in ("weight", "click", "watch_time")) for f in T.schema])),
    "narrow integers": retyped(
        T, candidate=pa.int16(), watch_item=pa.list_(pa.uint8()), watch_time=pa.list_(pa.int16()), hour=pa.uint32()
    ),
    "wide": retyped(T, price=pa.float64(), height=pa.float64(), age=pa.float32(), hour=pa.int64(), tags=pa.list_(pa.int64())),
    "unsigned 64": retyped(T, candidate=pa.uint64(), watch_item=pa.list_(pa.uint64()), topics=pa.list_(pa.uint64())),
    "half floats": retyped(T, rating=pa.float16(), height=pa.float16(), weight=pa.float16()),
    "decimals": retyped(
        T, candidate=pa.decimal128(22, 2), click=pa.int8(), rating=pa.decimal128(5, 3), height=pa.decimal256(40, 1)
    ),
    "strings": retyped(T, city=pa.large_string(), user=pa.dictionary(pa.int8(), pa.string())),
    "binary": retyped(T, city=pa.binary(), user=pa.large_binary()),
    "lists": retyped(T, tags=pa.large_list(pa.int8()), buy_item=pa.list_(pa.int32()), watch_hour=pa.large_list(pa.int8())),
    "booleans as numbers": retyped(T, click=pa.float32(), hour=pa.float32().__class__ and pa.int16()),
    "columns in another order, and one more": T.select(T.column_names[::-1]).append_column("more", pa.array(["x"] * 4)),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHER)
@pytest.mark.parametrize("shuffle_rows", [0, 100])
def test_the_same_rows_are_the_same_batches_whatever_the_types(tmp_path, kind, shuffle_rows):
    plain = write(tmp_path / "plain", T, T, T)
    mixed = write(tmp_path / "mixed", T, OTHER[kind], T)
    for one, other in zip(batches(plain, shuffle_rows), batches(mixed, shuffle_rows), strict=True):
        assert equal(one, other)
    other_first = write(tmp_path / "other", OTHER[kind], T, OTHER[kind])
    assert all(
        equal(*pair) for pair in zip(batches(plain, shuffle_rows), batches(other_first, shuffle_rows), strict=True)
    )


def nulls(table: pa.Table, *names: str) -> pa.Table:
    for name in names:
        table = table.set_column(table.column_names.index(name), name, pa.nulls(table.num_rows))
    return table


NULLABLE = ("age", "city", "hour", "user", "candidate", "tags", "topics", "watch_item", "watch_hour", "watch_time")


def test_a_file_with_nothing_but_nulls_in_a_column_has_the_type_of_the_others(tmp_path):
    typed = T
    for name in NULLABLE:
        typed = typed.set_column(typed.column_names.index(name), name, pa.nulls(4, typed.schema.field(name).type))
    plain, mixed = write(tmp_path / "plain", T, typed), write(tmp_path / "mixed", T, nulls(T, *NULLABLE))
    assert all(equal(*pair) for pair in zip(batches(plain), batches(mixed), strict=True))
    empty = pa.array([[]] * 4, pa.list_(pa.null()))
    lists = T.set_column(T.column_names.index("buy_item"), "buy_item", empty)
    typed = T.set_column(T.column_names.index("buy_item"), "buy_item", empty.cast(pa.list_(pa.int64())))
    plain, mixed = write(tmp_path / "plain2", typed, T), write(tmp_path / "mixed2", lists, T)
    assert all(equal(*pair) for pair in zip(batches(plain), batches(mixed), strict=True))


def test_nothing_but_nulls_in_all_files(tmp_path):
    ((batch),) = batches(write(tmp_path / "ids", nulls(T, *NULLABLE)))
    assert set(batch.sparse["city"].values().tolist()) == {0} and batch.sequences["watch.item"].values().numel() == 0
    assert batch.dense[:, 0].tolist() == [0, 0, 0, 0]  # filled with -1, clipped
    with pytest.raises(InputError, match=r"column 'price' holds nulls only.*dense feature 'price'.*set `fill`"):
        batches(write(tmp_path / "dense", nulls(T, "price")))
    with pytest.raises(InputError, match=r"column 'click' holds nulls only.*label 'click'"):
        batches(write(tmp_path / "label", nulls(T, "click")))


def test_the_ids_of_dates_timestamps_booleans_and_large_integers(tmp_path):
    """Hashed rows: 2^63 and up keeps its 64 bits, also beside a file of signed integers; a date is its day."""

    def rows(values: list, *types: pa.DataType) -> list[int]:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        features = every_kind().model_validate(
            {"tables": {"x": {"ids": "hash", "num_embeddings": 10**9}}, "ids": ["x"], "labels": ["y"]}
        )
        label = pa.array([0] * len(values))
        path = write(folder, *(pa.table({"x": pa.array(values, type_), "y": label}) for type_ in types))
        loader = loader_of(path, features, fit(features, path), batch_size=100)
        return next(loader.batches())[0].sparse.values().tolist()

    large = rows([2**63, 2**64 - 1, 7], pa.uint64())
    assert rows([7], pa.int64())[0] == large[2] and rows([-1], pa.int64())[0] == large[1]
    assert rows([2**63 - 1, 7], pa.uint64(), pa.int64()) == rows([2**63 - 1, 7], pa.int64()) * 2
    signed = rows([-5, 7], pa.int64(), pa.decimal128(20, 0))
    assert signed == rows([-5, 7], pa.int16()) * 2
    assert rows([True, False], pa.bool_()) == rows([1, 0], pa.int8())
    assert rows([19000, -3], pa.date32()) == rows([19000, -3], pa.int32())
    assert rows([19000 * 86_400_000], pa.date64()) == rows([19000], pa.int32())
    assert rows([5000], pa.timestamp("ms")) == rows([5], pa.timestamp("s")) == rows([5_000_000], pa.int64())
    assert rows([5_000_000_000], pa.timestamp("ns", "UTC"))[0] == rows([5], pa.timestamp("s"))[0]


BAD_IDS = {
    "decimal with a fraction": (
        pa.array(["1.00", "1.50"]).cast(pa.decimal128(5, 2)),
        "not an integer of 64 bits; the value is Decimal",
    ),
    "decimal beyond 64 bits": (pa.array(["1", str(2**64)]).cast(pa.decimal128(30, 0)), "not an integer of 64 bits"),
    "nanoseconds": (pa.array([1000, 1001], pa.timestamp("ns")), "not a whole number of microseconds"),
    "milliseconds far away": (
        pa.array([0, 2**62], pa.timestamp("ms")),
        "not a whole number of microseconds within 64 bits",
    ),
}


@pytest.mark.parametrize("kind", BAD_IDS)
def test_a_value_that_is_no_id_is_a_bad_row(tmp_path, kind):
    values, message = BAD_IDS[kind]
    features = every_kind().model_validate({"tables": {"x": {}}, "ids": ["x"], "labels": ["y"]})
    path = write(tmp_path / "d", pa.table({"x": values, "y": pa.array([0, 1])}))
    fitted = fit(features, path)
    assert fitted.table_rows["x"] == 3  # one id: the bad one is not counted
    with pytest.raises(
        InputError, match=rf"0\.parquet', row group 0, row 1 of the file.*column 'x': an id that is {message}"
    ):
        list(loader_of(path, features, fitted, batch_size=4).batches())
    loader = loader_of(path, features, fitted, batch_size=4, on_bad_row="skip")
    assert [batch.rows for batch, _ in loader.batches()] == [1] and sum(loader.bad_rows.values()) == 1


CONFLICTS = {
    "integers and strings": (T, retyped(T, candidate=pa.string()), r"'candidate' is int64 in '.*0\.parquet' but string in '.*1\.parquet'"),
    "list and scalar": (
        T, T.set_column(7, "tags", pa.array([1] * 4)), r"'tags' is list<element: int16> in '.*0\.parquet' but int64 in '.*1\.parquet'",
    ),
    "a float among ids": (T, retyped(T, candidate=pa.float64()), r"column 'candidate' of '.*1\.parquet' is double; .*needs ids"),
    "missing": (T, T.drop_columns(["city"]), r"column 'city' is missing in '.*1\.parquet'"),
    "twice": (T, T.append_column("city", T["city"]), r"column 'city' is there 2 times in '.*1\.parquet'"),
}  # fmt: skip


@pytest.mark.parametrize("kind", CONFLICTS)
def test_a_real_conflict_names_the_files_and_types(tmp_path, kind):
    *tables, message = CONFLICTS[kind]
    with pytest.raises(InputError, match=message):
        batches(write(tmp_path / "d", *tables))


def test_tables_have_one_schema_and_say_what_is_left_out(tmp_path, caplog):
    """Prediction: columns are handed on in the widest type, null where a file lacks one; a conflict among unused ones stops nothing."""
    first = T.append_column("note", pa.array([1, 2, 3, 4], pa.int8())).append_column("odd", pa.array(["x"] * 4))
    second = retyped(T, candidate=pa.int32(), price=pa.float32()).append_column("odd", pa.array([[1]] * 4))
    third = nulls(T, "city").drop_columns(["click"]).append_column("note", pa.array([2**40] * 4))
    path = write(tmp_path / "d", first, second, third.append_column("odd", T["age"]))
    features = every_kind()
    loader = loader_of(path, features, fit(features, write(tmp_path / "t", T)), batch_size=3, labels=False)
    whole = pa.concat_tables([kept.table for _, kept in loader.tables()])
    assert whole.column_names == [*T.column_names, "note"]
    assert whole["candidate"].to_pylist() == T["candidate"].to_pylist() * 3 and whole["candidate"].type == pa.int64()
    assert whole["note"].to_pylist() == [1, 2, 3, 4, *[None] * 4, *[2**40] * 4]
    assert (
        whole["click"].to_pylist() == [*T["click"].to_pylist() * 2, *[None] * 4] and whole["price"].type == pa.float64()
    )
    assert any("left out of the output: odd: " in record.getMessage() for record in caplog.records)


def hive(folder: Path, parts: dict[str, pa.Table]) -> str:
    for number, (place, table) in enumerate(parts.items()):
        write(folder / place, table) if number == 0 else write(folder / place, table, table.slice(0, 1))
    return str(folder)


def test_hive_partitions_are_columns(tmp_path):
    """As an id, as a label and as the group; the same batches as of files that hold the columns."""
    features = every_kind().model_validate(
        {
            "tables": {"day": {}, "hour": {}, "x": {"ids": "hash", "num_embeddings": 100}},
            "dense": [{"name": "hours", "column": "hour", "fill": -1.0}],
            "ids": ["day", "hour", "x"],
            "labels": ["y"],
            "group": "hour",
        }
    )
    rows = pa.table({"x": pa.array([5, 6, 7])})
    places = {
        "day=2024-01-05/y=0/hour=07": ("2024-01-05", 0, 7),
        "day=a%2Fb/y=1/hour=__HIVE_DEFAULT_PARTITION__": ("a/b", 1, None),
        "day=2024-01-05/y=1/hour=11": ("2024-01-05", 1, 11),
    }
    path = hive(tmp_path / "h", dict.fromkeys(places, rows))
    source = open_source(path)
    assert source.require(["day", "hour", "y"]).types == [pa.string(), pa.int64(), pa.int64()]
    flat = [
        rows.slice(0, n)
        .append_column("day", pa.array([day] * n, pa.string()))
        .append_column("y", pa.array([y] * n))
        .append_column("hour", pa.array([hour] * n, pa.int64()))
        for (day, y, hour), count in zip([places[p] for p in sorted(places)], (1, 2, 2), strict=True)
        for n in (3, 1)[:count]
    ]
    plain = write(tmp_path / "plain", *flat)
    fitted = fit(features, path)
    assert fitted.table_rows == fit(features, plain).table_rows
    one, other = (loader_of(p, features, fitted, batch_size=100) for p in (path, plain))
    assert all(equal(a, b) for (a, _), (b, _) in zip(one.batches(), other.batches(), strict=True))
    tables = [pa.concat_tables([kept.table for _, kept in loader.tables()]) for loader in (one, other)]
    assert tables[0].select(["x", "day", "y", "hour"]).equals(tables[1].select(["x", "day", "y", "hour"]))
    single = open_source(f"{path}/day=2024-01-05/y=0/hour=07/0.parquet")
    assert single.read([0], ["hour", "x"]).to_pylist() == [{"hour": 7, "x": x} for x in (5, 6, 7)]


def test_a_key_that_is_a_column_too(tmp_path):
    same = hive(
        tmp_path / "same", {"day=5": pa.table({"day": pa.array([5, 5], pa.int8())}), "day=6": pa.table({"day": [6]})}
    )
    assert open_source(same).read([0, 1], ["day"])["day"].to_pylist() == [5, 5, 6]
    differs = hive(tmp_path / "differs", {"day=5": pa.table({"day": [5, 6]})})
    with pytest.raises(
        InputError, match=r"column 'day' of '.*0\.parquet', row group 0 differs from the name of its folder, day=5"
    ):
        open_source(differs).read([0], ["day"])
