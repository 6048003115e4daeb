"""Rows with the histories that are stored once. In: the rows' Source and `data.events`; out: a Source whose rows have the list columns.

Whoever reads it gets what rows with the lists in them would give: vocabularies, batches and export need not know where histories lie.
"""

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields
from zlib import crc32

import numpy as np
import pyarrow as pa

from interformer_rec.config.data import DataConfig
from interformer_rec.config.features import FeatureSchema
from interformer_rec.data.event_store.history import Found, History
from interformer_rec.data.event_store.keys import time_keys, user_keys
from interformer_rec.data.files.footer import MOST
from interformer_rec.data.files.locate import locate
from interformer_rec.data.files.source import Source, open_files, open_source
from interformer_rec.data.files.struct_lists import CandidateLists, with_candidate_lists
from interformer_rec.errors import InputError
from interformer_rec.redaction import redact


class Counted:
    """Rows that were joined, and those without a history, until it is said; used by several threads."""

    def __init__(self) -> None:
        self._lock, self._done = threading.Lock(), False
        self._counts: dict[str, np.ndarray] = {}

    def __getstate__(self) -> dict[str, object]:
        return {}

    def __setstate__(self, _: dict[str, object]) -> None:
        self.__init__()  # type: ignore[misc]

    def add(self, history: str, given: np.ndarray, found: Found, late: np.ndarray) -> None:
        """`given` (rows,) bool: rows with a user and a time; `late`: rows after the last event of the store."""
        counts = (~given, given & ~found.known, found.known & (found.lengths == 0), given & late)
        with self._lock:
            if self._done:
                return
            before = self._counts.get(history, np.zeros(5, np.int64))
            self._counts[history] = before + np.array([len(given), *map(np.count_nonzero, counts)])

    def said(self) -> list[str]:
        """A line a history with rows that have none; nothing the next time, as other passes over the rows would say the same."""
        with self._lock:
            counts, self._counts, self._done = self._counts, {}, True
        return [
            f"history {name!r} of {rows:,} rows read: {unknown:,} are of users without an event in the store, {early:,} of users whose "
            f"events are not before the row's time, {timeless:,} have no user or no time; {late:,} are later than the store's last event"
            for name, (rows, timeless, unknown, early, late) in counts.items()
            if timeless + unknown + early + late
        ]


@dataclass(frozen=True, eq=False)
class JoinedSource(CandidateLists):
    """Rows with list columns that no file holds."""

    plain: Source | None = None  # the rows as they lie in the files
    histories: tuple[History, ...] = ()
    counted: Counted = field(default_factory=Counted)

    @property
    def given(self) -> tuple[str, ...]:
        """The columns that the stores stand for."""
        return tuple(name for history in self.histories for name in history.given)

    def read(self, groups: Sequence[int], columns: Sequence[str], strings: bool = False) -> pa.Table:
        """As Source.read. Raises InputError where the histories of these rows are more than may be in memory at a time."""
        assert self.plain is not None
        wanted = [history for history in self.histories if not set(history.given).isdisjoint(columns)]
        keys = [name for history in wanted for name in (history.user, history.time)]
        table = self.plain.read(
            groups, tuple(dict.fromkeys([*(c for c in columns if c not in self.given), *keys])), strings
        )
        found = {name: table[name] for name in table.column_names}
        for history in wanted:
            found |= self._lists(history, table, groups, columns, strings)
        return pa.table({name: found[name] for name in columns})

    def where_row(self, groups: Sequence[int], row: int) -> str:
        """As Source.where_row."""
        assert self.plain is not None
        return self.plain.where_row(groups, row)

    def _lists(
        self, history: History, table: pa.Table, groups: Sequence[int], columns: Collection[str], strings: bool
    ) -> dict[str, pa.Array]:
        (users, nobody), (times, never) = user_keys(table[history.user]), time_keys(table[history.time])
        given = np.ones(len(users), bool)
        for mask in (nobody, never):
            if mask is not None:
                given &= ~mask
        found = history.find(users, times, given)
        self.counted.add(history.name, given, found, times > history.events().newest)
        limit, size = self.max_decoded_bytes or MOST, 8 * len(history.given) * int(found.lengths.sum())
        if size > limit:
            raise InputError(
                f"history {history.name!r} of the {len(users):,} rows of {self.where(groups[0])} would be about {size:,} bytes in memory, "
                f"more than the limit of {limit:,}. Write the rows in smaller row groups, lower max_length, or set data.max_decoded_bytes "
                "to what your memory holds"
            )
        return history.lists(found, columns, strings)


def joined(rows: Source, data: DataConfig, features: FeatureSchema) -> Source:
    """The rows as the schema reads them: with lists of candidates, and with the histories of `data.events`, whose stores are looked at now.

    Raises InputError for a store that cannot be read or does not suit the rows or the schema.
    """
    rows = with_candidate_lists(rows, features)
    if data.events is None or isinstance(rows, JoinedSource):
        return rows
    histories = []
    for name, columns in data.events.columns(features).items():
        group = next(group for group in features.sequences if group.name == name)
        path = data.events.stores[name]
        history = History(
            name,
            open_files(path, locate(path), data.max_decoded_bytes),
            data.events.user,
            data.events.time,
            tuple(column for column in columns if column != group.timestamp),
            group.timestamp,
            group.max_length,
            data.events.cache,
            data.events.delay,
        )
        history.require(rows)
        _refuse_both(history, rows)
        history.events()
        histories.append(history)
    added = [one for history in histories for one in history.types()]
    known = {id(schema): pa.schema([*schema, *added]) for schema in rows.schemas}
    checksum = rows.checksum
    for history in histories if data.windows is None else ():  # with windows a store grows while the run goes on
        checksum = crc32(history.source.checksum.to_bytes(4, "little"), checksum)
    values = {one.name: getattr(rows, one.name) for one in fields(Source)}
    values |= {"schemas": tuple(known[id(schema)] for schema in rows.schemas), "checksum": checksum, "_columns": []}
    return JoinedSource(**values, plain=rows, histories=tuple(histories))


def open_rows(path: str | Source, data: DataConfig, features: FeatureSchema) -> Source:
    """The rows of a path, or of a Source, as `joined`. Raises InputError."""
    return joined(path if isinstance(path, Source) else open_source(path, data.max_decoded_bytes), data, features)


def _refuse_both(history: History, rows: Source) -> None:
    for file, schema, keys in zip(rows.files, rows.schemas, rows.keys, strict=True):
        for name in history.given:
            if name in schema.names or name in keys:
                raise InputError(
                    f"column {name!r} is in {file!r}, and data.events.stores.{history.name} ({redact(history.source.path)!r}) stands for "
                    "it: which one counts? Write the rows without it, or leave the store out"
                )
