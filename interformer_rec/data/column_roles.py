"""What a column can be, looked at alone. In: a Column of the profile; out: why it is no feature, whether it can be a label, a time, ..."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from interformer_rec.data.inspect import column_names as names
from interformer_rec.data.inspect.profile import Column

SMALL = 64  # an integer of an event with fewer distinct values is an id, whatever its name
FEW = 10  # and one of the row with no more than these
CONSTANT = 0.995  # share of the rows with one value from which a column says too little to be read
CONSTANT_ROWS = 1000  # fewer show no such share
EPOCHS = ((5e8, 5e9), (5e11, 5e12), (5e14, 5e15), (5e17, 5e18))  # seconds, ms, us, ns since 1970: years 1985 to 2128
MOST_COUNTS = 1000  # distinct values of a count whose values are not far apart
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
    if column.is_list and column.kind in ("float", "bool"):
        return f"{column.type}: elements must be ids (integers or strings)"
    if column.is_list:
        return _near_constant(column)
    if column.distinct == 1 and not column.nulls:
        return "the same value in every row"
    if (reason := _near_constant(column)) is not None:
        return reason
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


def _near_constant(column: Column) -> str | None:
    if len(column.sample()) < CONSTANT_ROWS or (share := column.commonest_share()) < CONSTANT:
        return None
    return f"{'an empty list' if column.is_list else 'the same value'} in {share:.1%} of the rows: it can say next to nothing"


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
    return column.kind == "int" and column.distinct > FEW and names.is_numeric(column.name)


def number_by_values(column: Column, trend: Callable[[Column], bool]) -> str | None:
    """Why integers whose name says nothing are numbers and not ids; None if nothing says so. `trend`: see signal.Outcome.

    Ids may be small and dense, and frequent ones small: that alone proves nothing, so it takes a trend of the label besides.
    """
    if column.kind != "int" or column.distinct <= FEW or column.values is None or names.is_coded(column.name):
        return None
    found = np.sort(np.asarray(column.values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)))
    spread = found[-1] - found[0] + 1
    if found[1] < 0 and (spread <= 100 * len(found) or heavy_tail(column)):  # one negative value may stand for "none"
        return "integers below 0 and above: a number"
    half = len(found) // 2
    low_is_dense = found[half] - found[0] < 1.5 * half
    if low_is_dense and (len(found) <= MOST_COUNTS or heavy_tail(column)) and trend(column):
        return "small integers along which the label goes steadily up or down: a number"
    return None


def heavy_tail(column: Column) -> bool:
    """Whether a few values are far larger, in size, than most."""
    return max(abs(column.low), abs(column.high)) > max(20 * column.median(size=True), 10)
