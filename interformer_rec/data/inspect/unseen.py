"""Ids of the held-out files that no training row has: nothing was learned for them. In: a draft, its files; out: shares by column.

An id counts as seen where any column that reads the same table has it in training, a history too.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import nan

import pyarrow as pa
import pyarrow.compute as pc

from interformer_rec.data.files.source import Source
from interformer_rec.data.files.unify import is_bytes, is_text
from interformer_rec.data.inspect.draft import Draft
from interformer_rec.data.inspect.profile import Column, column_batches, plain

MOST_COMPARED = 50_000_000  # values of a column up to which it is read whole
MERGE_ABOVE = 1_000_000  # distinct values of batches that wait to be merged


@dataclass(frozen=True)
class Unseen:
    """Share of a column's ids that training has not seen, nulls left out, in the held-out files where it is larger."""

    share: float  # of the rows; of a list column of its elements
    path: str


def unseen_ids(guess: Draft, train: Source, held_out: Mapping[str, Source]) -> dict[str, Unseen]:
    """Of every id, bag and history column and of the group column; those of which nothing is known are left out.

    `held_out`: path -> files that have the draft's columns. Reads columns whole.
    """
    events = [column for group in guess.groups for column in group.columns.values()]
    readers = {column.name: column for column in (*guess.ids, *guess.bags, *events)}
    by_table: dict[str, list[Column]] = {}
    for name, column in readers.items():
        by_table.setdefault(guess.tables[name], []).append(column)
    if guess.group_key is not None and guess.group_key.name not in readers:
        by_table[guess.group_key.name] = [guess.group_key]
    found: dict[str, Unseen] = {}
    for columns in by_table.values():
        known = _known(train, columns) if held_out else None
        if known is None:
            continue
        for column in columns:
            shares = {path: _share(source, column, known) for path, source in held_out.items()}
            shares = {path: share for path, share in shares.items() if share == share}
            if shares:
                path = max(shares, key=lambda one: shares[one])
                found[column.name] = Unseen(shares[path], path)
    return found


def _known(train: Source, columns: list[Column]) -> pa.Array | None:
    """The ids of these columns in training; None where they are too many to read."""
    if any(_values(train, column) > MOST_COMPARED for column in columns):
        return None
    known: pa.Array | None = None
    waiting: list[pa.Array] = []
    for column in columns:
        for values in _ids(train, column):
            waiting.append(pc.unique(values))
            known = waiting[0][:0] if known is None else known
            if sum(map(len, waiting)) > MERGE_ABOVE:
                known, waiting = pc.unique(pa.concat_arrays([known, *waiting])), []
    return None if known is None else pc.unique(pa.concat_arrays([known, *waiting]))


def _share(source: Source, column: Column, known: pa.Array) -> float:
    """NaN where it is not known: no value, or too many."""
    if _values(source, column) > MOST_COMPARED:
        return nan
    count = seen = 0
    for values in _ids(source, column):
        count += len(values)
        seen += pc.sum(pc.is_in(values, value_set=known)).as_py() or 0
    return 1 - seen / count if count else nan


def _values(source: Source, column: Column) -> float:
    """How many there are, about."""
    return source.rows * (float(column.kept_lengths().mean()) if column.is_list else 1.0)


def _ids(source: Source, column: Column) -> Iterator[pa.Array]:
    """Of one type for all layouts of integers, or of text."""
    for values in column_batches(source, column.name):
        ids = plain(values.flatten()) if column.is_list else values
        if is_text(ids.type) or is_bytes(ids.type):
            yield ids.drop_null().cast(pa.large_binary())
        elif pa.types.is_boolean(ids.type) or pa.types.is_integer(ids.type):
            yield ids.drop_null().cast(pa.int64(), safe=False)
        else:
            yield ids.drop_null()
