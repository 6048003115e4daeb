"""Users and times as numbers that rows and events are compared by. In: columns of a table; out: int64."""

import numpy as np
import pyarrow as pa

from interformer_rec.data.decode.arrays import Mask, joined, times
from interformer_rec.data.decode.id_values import id_kind, integers, strings
from interformer_rec.data.decode.ids import hash_strings

USERS, TIMES = ("integer", "string"), ("integer", "timestamp")  # kinds of ids that can be either


def user_keys(column: pa.ChunkedArray) -> tuple[np.ndarray, Mask]:
    """(rows,) int64: integers as they are, strings hashed (64 bits); and which are null or no user."""
    if id_kind(column.type) == "string":
        read = strings(column)
        if not read:
            return np.zeros(0, np.int64), None
        keys = [np.append(hash_strings(part.distinct).view(np.int64), 0).take(part.indices) for part in read]
        wrong = [(_either(part.null, part.wrong), len(part.indices)) for part in read]
        return np.concatenate(keys), joined(wrong)
    values, null, wrong_ones, _ = integers(column)
    return values.astype(np.int64, copy=False), _either(null, wrong_ones)


def time_keys(column: pa.ChunkedArray) -> tuple[np.ndarray, Mask]:
    """(rows,) int64: integers as they are, timestamps in microseconds; and which are null."""
    values, null = times(column)
    return values.astype(np.int64, copy=False), null


def _either(a: Mask, b: Mask) -> Mask:
    return b if a is None else a if b is None else a | b
