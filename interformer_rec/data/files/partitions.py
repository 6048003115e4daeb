"""Columns that folder names hold (Hive's partitions, `day=2024-01-05/hour=7/part-0.parquet`). In: file names; out: values per file.

Names and values are decoded from URLs' escapes (%2F), `__HIVE_DEFAULT_PARTITION__` is a null. A key is a column of integers if every value
that any file has for it is an integer of 64 bits, else of strings.
"""

import re
from collections.abc import Mapping, Sequence
from urllib.parse import unquote

import pyarrow as pa

NULL = "__HIVE_DEFAULT_PARTITION__"
INTEGER = re.compile(r"[+-]?[0-9]{1,19}")

Keys = Mapping[str, str | None]  # key -> value of one file


def keys_of(files: Sequence[str], base: str) -> tuple[Keys, ...]:
    """The keys in the names of folders below `base`, and in those of `base` itself and the folders right above that have one."""
    above = base.rstrip("/").split("/")
    first = len(above)
    while first and _pair(above[first - 1]):
        first -= 1
    known: dict[tuple[str, ...], Keys] = {}  # folders have many files
    out = []
    for file in files:
        folders = tuple(folder for folder in file.split("/")[first:-1] if _pair(folder))
        if folders not in known:
            known[folders] = dict(pair for pair in map(_pair, folders) if pair)
        out.append(known[folders])
    return tuple(out)


def partition_types(keys: Sequence[Keys]) -> dict[str, pa.DataType]:
    """The type of each key over all files, in the order in which they come."""
    values: dict[str, set[str | None]] = {}
    for of_file in {id(one): one for one in keys}.values():
        for key, value in of_file.items():
            values.setdefault(key, set()).add(value)
    return {key: _type(found - {None}) for key, found in values.items()}


def partition_value(value: str | None, type_: pa.DataType) -> pa.Scalar:
    """A key's value in a file, in its column's type."""
    if value is None:
        return pa.scalar(None, type_)
    return pa.scalar(int(value) if pa.types.is_integer(type_) else value, type_)


def _type(values: set[str | None]) -> pa.DataType:
    if not values:
        return pa.null()
    integers = all(value and INTEGER.fullmatch(value) and -(2**63) <= int(value) < 2**63 for value in values)
    return pa.int64() if integers else pa.string()


def _pair(folder: str) -> tuple[str, str | None] | None:
    key, equals, value = folder.partition("=")
    if not key or not equals:
        return None
    return unquote(key), None if value == NULL else unquote(value)
