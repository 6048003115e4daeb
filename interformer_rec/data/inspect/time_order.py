"""Do held-out rows come after the training rows? In: files and a profile; out: the share that is older than the newest training row."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from interformer_rec.data.column_roles import is_calendar, is_epoch
from interformer_rec.data.decode.kinds import value_kind
from interformer_rec.data.files.source import Source
from interformer_rec.data.inspect import column_names as names
from interformer_rec.data.inspect.profile import Column, Profile, column_batches
from interformer_rec.data.inspect.unseen import MOST_COMPARED
from interformer_rec.errors import InputError


@dataclass(frozen=True)
class Older:
    """Held-out rows that are older than the newest training row."""

    path: str
    column: str
    share: float


def older_rows(facts: Profile, train: Source, held_out: Mapping[str, Source]) -> list[Older]:
    """By the column that is most likely the moment of the row; [] without one, or where it is too long to read."""
    times = sorted(filter(_is_row_time, facts.columns.values()), key=_rank)
    if not times or train.rows > MOST_COMPARED:
        return []
    name = times[0].name
    newest: Any = None
    for values in _times(train, name):
        high = pc.max(values)
        newest = high if newest is None or (high.is_valid and pc.greater(high, newest).as_py()) else newest
    found = []
    for path, source in held_out.items():
        try:
            same = value_kind(source.require([name])[0].type) == value_kind(train.require([name])[0].type)
        except InputError:
            continue
        if not same or newest is None or source.rows > MOST_COMPARED:
            continue
        older = rows = 0
        for values in _times(source, name):
            older += pc.sum(pc.less(values, newest.cast(values.type))).as_py() or 0
            rows += len(values)
        if rows:
            found.append(Older(path, name, older / rows))
    return found


def _times(source: Source, name: str) -> Iterator[pa.Array]:
    for values in column_batches(source, name):
        there = values.drop_null()
        if len(there):
            yield there


def _is_row_time(column: Column) -> bool:
    timely = column.kind == "time" or is_epoch(column) or is_calendar(column)
    return not column.is_list and column.distinct > 0 and timely and names.is_row_time(column.name)


def _rank(column: Column) -> int:
    """The finer one first: a time before a day."""
    return 0 if is_epoch(column) or "timestamp" in column.type else 1
