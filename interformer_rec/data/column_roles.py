"""What a column can be, looked at alone. In: a Column of the profile; out: why it is no feature, whether it can be a label, a time, ..."""

from __future__ import annotations

import pyarrow.compute as pc

from interformer_rec.data.inspect import column_names as names
from interformer_rec.data.inspect.profile import Column

SMALL = 64  # an integer with fewer distinct values is an id, whatever its name
EPOCHS = ((5e8, 5e9), (5e11, 5e12), (5e14, 5e15), (5e17, 5e18))  # seconds, ms, us, ns since 1970: years 1985 to 2128
LARGEST = 1e30  # float32 ends at 3e38


def values(column: Column) -> str:
    """What it holds, in a few words."""
    if column.kind in ("int", "float", "bool") and column.distinct:
        return f"values {column.low:.6g} to {column.high:.6g}"
    return f"{column.distinct:,} values of type {column.type}"


def is_share(column: Column) -> bool:
    """Numbers in [0, 1], perhaps one only."""
    numeric = column.kind in ("int", "bool", "float") and column.distinct > 0
    return numeric and column.low >= 0 and column.high <= 1


def is_flag(column: Column) -> bool:
    """Zeros and ones, both."""
    return column.kind in ("int", "bool", "float") and column.distinct == 2 and (column.low, column.high) == (0, 1)


def unusable(column: Column, group_key: Column | None) -> str | None:
    """Why a column is no feature, or None."""
    sampled = column.rows - column.nulls
    if column.kind == "other":
        return f"type {column.type} is no feature kind"
    if names.is_index(column.name):
        return "pandas' index of the rows: no property of them"
    if column.distinct == 0:
        return "no value in the sample"
    if not column.utf8:
        return "bytes that are not UTF-8: write the ids as text or integers"
    if column.is_list and column.kind == "time" and not is_timestamp(column):
        return f"{column.type}: neither ids nor times of events (integers or timestamps)"
    if column.is_list:
        return (
            f"{column.type}: elements must be ids (integers or strings)" if column.kind in ("float", "bool") else None
        )
    if column.distinct == 1 and not column.nulls:
        return "the same value in every row"
    if column.kind == "time" or is_epoch(column) or is_calendar(column):
        return "time of the row: not a feature (later rows have values training never saw)"
    if column.not_finite:
        return f"{column.not_finite:,} NaN or infinite values in the sample; write nulls instead, then give it a fill"
    if column.kind == "float" and max(abs(column.low), abs(column.high)) > LARGEST:
        return f"values up to {max(abs(column.low), abs(column.high)):.3g}, more than 32-bit floats hold: scale it"
    if column.kind == "float" and column.whole and names.words(column.name)[-1:] == ("id",):
        return "an id stored as a float; write it as an integer or a string"
    if (
        column is not group_key
        and sampled > 1000
        and column.kind != "float"
        and column.distinct > 0.98 * sampled
        and not is_amount(column)
    ):
        return "another value in nearly every row: a row key?"
    return None


def is_timestamp(column: Column) -> bool:
    """Timestamps in Arrow's sense, or lists of them."""
    return column.kind == "time" and "timestamp" in column.type


def is_epoch(column: Column) -> bool:
    """Integers that are times since 1970."""
    in_range = any(low <= column.low and column.high < high for low, high in EPOCHS)
    named = bool(set(names.words(column.name)) & names.TIME)
    return column.kind in ("int", "time") and in_range and (named or column.rising or column.falling)


def is_calendar(column: Column) -> bool:
    """2024-05-01, 20240501 and the like under a name of time."""
    if not set(names.words(column.name)) & names.TIME or column.values is None:
        return False
    if column.kind == "int":
        return bool(column.low >= 19_850_101 and column.high <= 21_281_231)
    return column.kind == "string" and pc.all(pc.match_substring_regex(column.values, r"^\d{4}-?\d\d-?\d\d")).as_py()


def is_amount(column: Column) -> bool:
    """Integers that count or measure, by their name."""
    return column.kind == "int" and column.distinct > SMALL and bool(set(names.words(column.name)) & names.NUMERIC)
