"""Arrays of distinct ids, int64 or large_string: where the ones stand among the others. In and out: Arrow arrays, numpy places."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from interformer_rec.errors import InputError


def places(ids: pa.Array, among: pa.Array) -> np.ndarray:
    """(n,) int64: the place of each of `ids` in `among`, -1 for those that are not there. Nulls of `among` are no ids.

    Arrow hashes one side and looks the other one up: the shorter one is hashed.
    """
    if len(ids) >= len(among):
        return _found(pc.index_in(ids, value_set=among, skip_nulls=True))
    found = _found(pc.index_in(among, value_set=ids, skip_nulls=True))
    out = np.full(len(ids), -1, np.int64)
    where = np.flatnonzero(found >= 0)
    out[found[where]] = where
    return out


def _found(places_: pa.Array) -> np.ndarray:
    return np.asarray(pc.fill_null(places_, -1)).astype(np.int64)


def of_one_kind(ids: pa.Array, others: pa.Array, table: str) -> tuple[pa.Array, pa.Array]:
    """Both in one type; an array without ids has any. Raises InputError where one has integers and the other strings."""
    if ids.type == others.type:
        return ids, others
    if ids.null_count == len(ids):
        return pa.nulls(len(ids), others.type), others
    if others.null_count == len(others):
        return ids, pa.nulls(len(others), ids.type)
    raise InputError(
        f"table {table!r} has ids of type {_kind(ids)}, and this window has {_kind(others)}: write the ids of every window alike"
    )


def _kind(ids: pa.Array) -> str:
    return "integer" if pa.types.is_integer(ids.type) else "string"


def joined(ids: pa.Array, others: pa.Array) -> pa.Array:
    """One after the other; of one kind."""
    return pa.concat_arrays([ids, others])


def taken(ids: pa.Array, at: np.ndarray) -> pa.Array:
    """The ids at these places; null where the place is -1."""
    return ids.take(pa.array(at, pa.int64(), mask=at < 0))


def counted(
    own: pa.Array, counts: np.ndarray, seen: np.ndarray, ids: pa.Array, times: np.ndarray, window: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(counts, seen) of `own` after a window that has `ids` so many `times`, and the places in `ids` of those that it has not."""
    at = places(ids, own)
    known = at >= 0
    counts, seen = counts.copy(), seen.copy()
    counts[at[known]] += times[known]
    seen[at[known]] = window
    return counts, seen, np.flatnonzero(~known)
