"""Random schemas, and random rows for them in two forms: as JSON has them, and as Python values that Arrow writes as the column's type.

The two forms are made side by side from one draw, without the code that is tested.
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from interformer_rec.config.features import FeatureSchema

Pair = tuple[Any, Any]  # JSON's value, Arrow's value
Draw = Callable[[random.Random, bool], Pair]  # with a share of values that training refuses, or without
INTEGERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
TEXTS = [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())]
DECIMALS = [pa.decimal128(20, 0), pa.decimal128(24, 2)]
TIMES = [pa.timestamp(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in (None, "UTC", "Europe/Berlin")]
WORDS = ["", "a", "b", "ab", "7", "null", "日本", "é", "\x00", "😀", "a" * 300]
EPOCH = datetime.date(1970, 1, 1)


class Column(NamedTuple):
    """A source column."""

    name: str
    type: pa.DataType
    draw: Draw


class Case(NamedTuple):
    """A schema and its columns, without the label's."""

    features: FeatureSchema
    columns: list[Column]


def random_case(rng: random.Random) -> Case:
    """Tables of every id form and kind, features of every kind; columns shared between features and tables between columns."""
    kinds = {f"t{i}": rng.choice(["integer", "text", "date", "time"]) for i in range(rng.randint(1, 4))}
    tables = {name: _table(rng, kind) for name, kind in kinds.items()}
    columns: list[Column] = []
    names = iter(f"c{i}" for i in range(1000))

    def column(type_: pa.DataType, draw: Draw) -> str:
        columns.append(Column(next(names), type_, draw))
        return columns[-1].name

    def ids(table: str, lists: bool) -> str:
        same = [c for c in columns if not lists and c.draw is not None and (c.name, table) in single]
        if same and rng.random() < 0.2:
            return rng.choice(same).name
        type_, draw = _id_type(rng, kinds[table], tables[table])
        name = column(pa.list_(type_) if lists else type_, list_of(draw) if lists else nullable(draw))
        single.add((name, table))
        return name

    single: set[tuple[str, str]] = set()
    every = list(tables)
    schema: dict[str, Any] = {"tables": tables, "labels": ["label"]}
    schema["dense"] = [_dense(rng, f"d{i}", column) for i in range(rng.randint(0, 5))]
    chosen = [*every, *rng.choices(every, k=rng.randint(0, 4))]
    schema["ids"] = [
        {"name": f"i{i}", "column": ids(table, False), "table": table, "null": rng.choice(["row", "empty"])}
        for i, table in enumerate(chosen)
    ]
    schema["bags"] = [
        {"name": f"b{i}", "column": ids(table, True), "table": table, "null": rng.choice(["row", "empty"])}
        for i, table in enumerate(rng.choices(every, k=rng.randint(0, 3)))
    ]
    schema["sequences"] = [_history(rng, f"h{i}", every, kinds, tables, column) for i in range(rng.randint(0, 3))]
    single_names = [one["name"] for key in ("dense", "ids", "bags") for one in schema[key]]
    schema["candidate"] = rng.sample(single_names, rng.randint(0, len(single_names)))
    return Case(FeatureSchema.model_validate(schema), columns)


def random_rows(case: Case, rng: random.Random, count: int, bad: float) -> tuple[list[dict[str, Any]], pa.Table]:
    """Rows as JSON and as a table of the columns' types; a share `bad` of them has values that training refuses."""
    pairs = [_row(case, rng, rng.random() < bad) for _ in range(count)]
    arrays = {c.name: pa.array([row[c.name][1] for row in pairs], c.type) for c in case.columns}
    return [{name: pair[0] for name, pair in row.items()} for row in pairs], pa.table(arrays)


def _row(case: Case, rng: random.Random, bad: bool) -> dict[str, Pair]:
    lengths: dict[str, int] = {}
    for group in case.features.sequences:
        length = rng.choice([0, 0, 1, group.max_length, group.max_length + 3, rng.randint(0, 40)])
        names = [column.column for column in group.columns] + ([group.timestamp] if group.timestamp else [])
        lengths |= dict.fromkeys(names, length)
        if bad and rng.random() < 0.3:
            lengths[rng.choice(names)] += 1
    row = {}
    for column in case.columns:
        draw = column.draw
        row[column.name] = draw(rng, bad, lengths[column.name]) if column.name in lengths else draw(rng, bad)  # type: ignore[call-arg]
    return row


def nullable(draw: Draw) -> Draw:
    """One value in five is null."""
    return lambda rng, bad: (None, None) if rng.random() < 0.2 else draw(rng, bad)


def list_of(draw: Draw, null_elements: bool = True) -> Draw:
    """Lists, null or empty ones too, of a length that may be given."""
    element = nullable(draw) if null_elements else draw

    def lists(rng: random.Random, bad: bool, length: int | None = None) -> Pair:
        length = rng.choice([0, 1, 2, 5, 30]) if length is None else length
        if not length and rng.random() < 0.5:
            return None, None
        pairs = [element(rng, bad and rng.random() < 0.1) for _ in range(length)]
        return [pair[0] for pair in pairs], [pair[1] for pair in pairs]

    return lists


def _table(rng: random.Random, kind: str) -> dict[str, Any]:
    ids = rng.choice(["hash", "vocab", "vocab", "identity" if kind == "integer" else "hash"])
    return {"ids": ids} if ids == "vocab" else {"ids": ids, "num_embeddings": rng.choice([50, 1000, 2**33])}


def _id_type(rng: random.Random, kind: str, table: dict[str, Any]) -> tuple[pa.DataType, Draw]:
    if kind == "text":
        return _text(rng)
    if kind == "date":
        return rng.choice([pa.date32(), pa.date64()]), _dates
    if kind == "time":
        return _times(rng.choice(TIMES), whole=True)
    size = table["num_embeddings"] if table["ids"] == "identity" else None
    if rng.random() < 0.1:
        return pa.bool_(), lambda rng, bad: (value := rng.random() < 0.5, value)
    type_ = rng.choice([*INTEGERS, *DECIMALS])
    return type_, _integers(type_, size)


def _integers(type_: pa.DataType, size: int | None) -> Draw:
    low, high = (0, 10**19) if pa.types.is_decimal(type_) else (np.iinfo(str(type_)).min, np.iinfo(str(type_)).max)

    def draw(rng: random.Random, bad: bool) -> Pair:
        if bad and pa.types.is_decimal(type_) and type_.scale and rng.random() < 0.5:
            return 1.5, Decimal("1.5")
        top = min(int(high), size - 1) if size else int(high)
        value = rng.choice([rng.randint(0, min(top, 20)), rng.randint(0, top), 0, top])
        if not size:
            value = rng.choice([value, int(low), rng.randint(int(low), int(high))])
        elif bad and high >= size:
            value = rng.choice([size, int(high), -1 if low < 0 else size])
        return value, Decimal(value) if pa.types.is_decimal(type_) else int(value)

    return draw


def _text(rng: random.Random) -> tuple[pa.DataType, Draw]:
    type_ = rng.choice(TEXTS)

    def draw(rng: random.Random, bad: bool) -> Pair:
        word = rng.choice(WORDS)
        return word, word.encode() if pa.types.is_binary(type_) else word

    return type_, draw


def _dates(rng: random.Random, bad: bool) -> Pair:
    day = EPOCH + datetime.timedelta(days=rng.choice([0, -1, 19_000, -719_162, 2_932_896, rng.randint(-50, 50)]))
    return day.isoformat(), day


def _times(type_: pa.DataType, whole: bool) -> tuple[pa.DataType, Draw]:
    """`whole`: of microseconds, unless it is to be bad."""
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[type_.unit]

    def draw(rng: random.Random, bad: bool) -> Pair:
        second = rng.choice([0, -1, 1_700_000_000, -2_000_000_000, rng.randint(-100, 100)])
        ticks = second * per_second + rng.randrange(per_second)
        if type_.unit == "ns" and whole and not bad:
            ticks -= ticks % 1000
        return time_text(ticks, type_), ticks

    return type_, draw


def time_text(ticks: int, type_: pa.DataType) -> str:
    """As NumPy writes it, with a zone where the type has one."""
    return f"{np.datetime64(ticks, type_.unit)}{'Z' if type_.tz else ''}"


def _dense(rng: random.Random, name: str, column: Callable[[pa.DataType, Draw], str]) -> dict[str, Any]:
    types = [*INTEGERS, *DECIMALS, pa.float16(), pa.float32(), pa.float32(), pa.float64(), pa.float64(), pa.bool_()]
    type_ = rng.choice(types)
    feature: dict[str, Any] = {"name": name, "log1p": rng.random() < 0.4, "standardise": rng.random() < 0.5}
    if rng.random() < 0.6:
        feature["fill"] = rng.choice([0.0, -1.0, 1e6, 0.1])
    if rng.random() < 0.4:
        feature["clip"] = rng.choice([(0.0, 60.0), (-0.5, 0.5), (-1e30, 1e30)])

    def draw(rng: random.Random, bad: bool) -> Pair:
        if (bad or "fill" in feature) and rng.random() < 0.2:
            return None, None
        if pa.types.is_boolean(type_):
            return (value := rng.random() < 0.5), value
        if pa.types.is_integer(type_):
            info = np.iinfo(str(type_))
            value = rng.choice([0, 1, int(info.min), int(info.max), rng.randint(int(info.min), int(info.max))])
            return value, value
        if pa.types.is_decimal(type_):
            number = Decimal(rng.randint(-(10**12), 10**12)).scaleb(-type_.scale)
            return float(number) if type_.scale else int(number), number
        value = rng.choice([0.0, -0.0, 0.1, -1e-40, 7.0, rng.gauss(0, 1), rng.gauss(0, 1e4), 60_000.0])
        if bad:
            value = rng.choice(
                [value, float("nan"), float("inf"), -float("inf"), 1e39, -1e300, 70_000.0, 3.4028235677e38]
            )
        return value, value

    return {**feature, "column": column(type_, draw)}


def _history(
    rng: random.Random,
    name: str,
    every: list[str],
    kinds: dict[str, str],
    tables: dict[str, dict[str, Any]],
    column: Callable[[pa.DataType, Draw], str],
) -> dict[str, Any]:
    parts = []
    for i, table in enumerate(rng.choices(every, k=rng.randint(1, 3))):
        type_, draw = _id_type(rng, kinds[table], tables[table])
        layout = rng.choice([pa.list_, pa.large_list])
        parts.append({"name": f"p{i}", "table": table, "column": column(layout(type_), list_of(draw))})
    group: dict[str, Any] = {"name": name, "max_length": rng.choice([1, 5, 20]), "columns": parts}
    if rng.random() < 0.6:
        type_ = rng.choice([pa.int64(), pa.int32(), pa.uint64(), *TIMES])
        group["timestamp"] = column(pa.list_(type_), _sorted(type_))
    return group


def _sorted(type_: pa.DataType) -> Draw:
    single = _times(type_, whole=False)[1] if pa.types.is_timestamp(type_) else _integers(type_, 2**31)

    def draw(rng: random.Random, bad: bool, length: int | None = None) -> Pair:
        pair = list_of(single, null_elements=False)(rng, False, length)  # type: ignore[call-arg]
        if not pair[0]:
            return pair
        order = sorted(range(len(pair[1])), key=pair[1].__getitem__)
        if bad and rng.random() < 0.3:
            rng.shuffle(order)
        given, written = [pair[0][i] for i in order], [pair[1][i] for i in order]
        if bad and rng.random() < 0.1:
            given[0] = written[0] = None
        return given, written

    return draw
