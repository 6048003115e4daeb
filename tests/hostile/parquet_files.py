"""Parquet files from a description. In: a case of parquet.yaml; out: its files on disk.

A file is the base rows with changes: `set` gives columns another type or other values (see `column`), `drop`, `rename`, `backwards`,
`nest` (so many structs) and `wide` (so many columns more); `options` are the writer's; `name` is the file's, with folders; `footer` changes
numbers of the footer (thrift.py), `bytes` the file's bytes, `cut` takes bytes off its end.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.hostile.thrift import BINARY, CUT, LIST, STRUCT, with_changes

NESTED = re.compile(r"(\w+)<(.*)>")
DECIMAL = re.compile(r"decimal(128|256)\((\d+), (\d+)\)")

SPECIAL = {  # what YAML cannot say: a struct that names a key, a list without its last element, names
    "ENCRYPTED": (STRUCT, {2: (STRUCT, {1: (LIST, (BINARY, [b"user"]))})}),
    "CUT": CUT,
    "NOT_UTF8": b"us\xffr",
    "LONG": b"x" * 1_000_000,
}


def base_rows() -> pa.Table:
    """Eight rows with nulls, empty lists and strings."""
    ints = pa.list_(pa.int64())
    return pa.table(
        {
            "user": pa.array([1, 2, 1, 3, None, 2, 1, 4]),
            "city": pa.array(["a", "b", "a", None, "é", "b", "", "a"]),
            "price": pa.array([1.0, 2.0, 0.5, 4.0, 3.0, 2.5, 1.5, 0.0]),
            "tags": pa.array([[1], [], None, [2, 1], [3], [1, 1, 1], [None], []], ints),
            "seen": pa.array([[1, 2], [], [3], None, [1], [2, 3, 1], [4], []], ints),
            "when": pa.array([[5, 6], [], [7], None, [1], [2, 2, 9], [3], []], ints),
            "click": pa.array([0, 1, 0, 1, 1, 0, 1, 0]),
        }
    )


def parse_type(text: str) -> pa.DataType:
    """A type as Arrow writes it, with list<T>, large_list<T>, fixed<N, T>, dictionary<T>, decimal128(P, S)."""
    if found := DECIMAL.fullmatch(text):
        make = pa.decimal128 if found[1] == "128" else pa.decimal256
        return make(int(found[2]), int(found[3]))
    if found := NESTED.fullmatch(text):
        kind, inner = found[1], found[2]
        if kind == "fixed":
            size, inner = inner.split(", ", 1)
            return pa.list_(parse_type(inner), int(size))
        if kind == "dictionary":
            return pa.dictionary(pa.int32(), parse_type(inner))
        return {"list": pa.list_, "large_list": pa.large_list}[kind](parse_type(inner))
    return {"binary_view": pa.binary_view(), "string_view": pa.string_view()}.get(text) or pa.type_for_alias(text)


def column(before: pa.Array | None, change: dict[str, Any], rows: int) -> pa.Array:
    """`values` in `type`; `hex`: bytes that are taken for strings unchecked; or the values before in `type`."""
    type_ = parse_type(change["type"]) if "type" in change else None
    if "hex" in change:
        content = pa.array([None if v is None else bytes.fromhex(v) for v in change["hex"]], pa.binary())
        return content if type_ == pa.binary() else pa.Array.from_buffers(pa.string(), rows, content.buffers())
    if "values" in change:
        return pa.array([float(v) if v in ("nan", "inf", "-inf") else v for v in change["values"]], type_)
    assert before is not None and type_ is not None
    return before.cast(pa.int8()).cast(type_) if pa.types.is_boolean(before.type) else before.cast(type_)


def build(case: dict[str, Any], folder: Path) -> Path:
    """Write the case's files below `folder`."""
    for number, file in enumerate(case["files"]):
        table = base_rows()
        for name, change in file.get("set", {}).items():
            before = table[name].combine_chunks() if name in table.column_names else None
            array = column(before, change, table.num_rows)
            field = pa.field(name, array.type, nullable=change.get("nullable", True))
            place = table.column_names.index(name) if before is not None else None
            table = table.append_column(field, array) if place is None else table.set_column(place, field, array)
        table = table.drop_columns(file.get("drop", []))
        table = table.rename_columns([file.get("rename", {}).get(name, name) for name in table.column_names])
        if file.get("backwards"):
            table = table.select(table.column_names[::-1])
        for depth in range(file.get("nest", 0)):
            table = pa.table(
                {**{n: table[n] for n in table.column_names if n != "deep"}, "deep": _deeper(table, depth)}
            )
        for extra in range(file.get("wide", 0)):
            table = table.append_column(f"extra {extra}", table["price"])
        target = folder / file.get("name", f"{number}.parquet")
        target.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, target, **file.get("options", {}))
        content = target.read_bytes()
        if "footer" in file:
            content = with_changes(content, {path: SPECIAL.get(v, v) for path, v in file["footer"].items()})
        for place, values in file.get("bytes", {}).items():
            at = int(place) % len(content)
            content = content[:at] + bytes.fromhex(values) + content[at + len(values) // 2 :]
        target.write_bytes(content[: len(content) - file.get("cut", 0)])
    return folder


def _deeper(table: pa.Table, depth: int) -> pa.Array:
    inner = table["deep"].combine_chunks() if depth else pa.array(range(table.num_rows))
    return pa.StructArray.from_arrays([inner], ["a"])
