"""`interformer data events SRC`: events, or rows with histories in them, become a store. In: options; out: a folder, and facts about it.

What was written is read again, as training reads it: of events the same have to be there, of rows with histories each history.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from interformer_rec.data.decode.id_values import id_kind
from interformer_rec.data.event_store.arguments import StoreOptions
from interformer_rec.data.event_store.from_rows import Listed, compare, exploded
from interformer_rec.data.event_store.history import History
from interformer_rec.data.event_store.keys import TIMES, USERS
from interformer_rec.data.event_store.sorted_events import numbered, sorted_events, write_store
from interformer_rec.data.event_store.unpacked import emitted
from interformer_rec.data.files.locate import Located, locate
from interformer_rec.data.files.made_folder import make_folder, refuse_foreign, sizes
from interformer_rec.data.files.overlap import refuse_written
from interformer_rec.data.files.source import Source, open_files
from interformer_rec.data.files.unify import bare, is_any_list
from interformer_rec.data.grouping.arguments import MEMORY
from interformer_rec.data.grouping.command import bytes_of, kept_columns, names_of, opened
from interformer_rec.data.grouping.engine import Engine, engine
from interformer_rec.data.grouping.plain import plain, plain_table
from interformer_rec.data.grouping.reading import all_tables, where, whole_schema
from interformer_rec.data.grouping.request_files import Files
from interformer_rec.data.grouping.same_rows import rows_of
from interformer_rec.errors import InputError
from interformer_rec.storage import Storage
from interformer_rec.text import size

EVERY = 2**62  # events of a history


def events(path: str, out: str, asked: StoreOptions, memory: float = MEMORY) -> dict[str, Any]:
    """Write the events of `path` as a store into the folder `out`; what is printed.

    Raises InputError for options that cannot be, files that cannot be read, and rows whose histories a store cannot give.
    """
    located, source = opened(path, out)
    if asked.rows is not None:
        if asked.event_time is None:
            raise InputError("--rows are rows without the lists of their histories: it goes with --event-time")
        refuse_written("--rows", Storage.open(asked.rows), names_of(located), {"SRC": path})
        refuse_foreign(Path(asked.rows))
    columns = _columns(asked, whole_schema(source))
    schema = _schema(source, asked, columns)
    made: dict[str, Any] = {}

    def fill(fresh: Path) -> dict[str, Any]:
        with engine(Path(out), memory) as sorter:
            store = _Store(source, asked, columns, schema, sorter, fresh)
            made.update(store.of_events() if asked.event_time is None else store.of_rows(asked.event_time))
        made.update(bytes_of(source, fresh))
        return {"name": "data events", "user": asked.user, "time": asked.time, "events": made["events"]}

    make_folder(Path(out), fill)
    if asked.rows is not None:
        left_out = {asked.event_time, *columns.values()}
        make_folder(Path(asked.rows), lambda fresh: _write_rows(located, source, left_out, fresh))
        made["bytes of the rows without histories"] = size(sum(sizes(Path(asked.rows)).values()))
    return made


class _Store:
    """A store that is being written into the folder `fresh`."""

    def __init__(
        self,
        source: Source,
        asked: StoreOptions,
        columns: dict[str, str],
        schema: pa.Schema,
        sorter: Engine,
        fresh: Path,
    ) -> None:
        self._source, self._asked, self._columns, self._schema = source, asked, columns, schema
        self._sorter, self._fresh = sorter, fresh
        self._kept = pa.schema([(field.name, plain(field.name, field.type)) for field in schema])

    def of_events(self) -> dict[str, Any]:
        """From events; what is printed."""
        files = self._write(_numbered(self._events(), self._kept), again=False)
        written = open_files(str(self._fresh), locate(str(self._fresh)))
        after = rows_of(all_tables(written, self._kept.names), self._kept, self._sorter)
        if rows_of(self._events(), self._kept, self._sorter) != after:
            raise RuntimeError("the events written differ from those that were there; nothing was kept")
        history = self._history(written, None)
        users = len(history.events().users)
        return {"events": written.rows, "users": users, "files": files, "checked": "read again: the same events"}

    def of_rows(self, event_time: str) -> dict[str, Any]:
        """From rows with histories in them; what is printed."""
        listed = Listed(self._asked.user, self._asked.time, event_time, tuple(self._columns.values()))
        files = self._write(exploded(self._source, listed, self._kept), again=True)
        written = open_files(str(self._fresh), locate(str(self._fresh)))
        history = self._history(written, event_time)
        longest = compare(self._source, listed, history)
        return {
            "rows": self._source.rows,
            "events": written.rows,
            "users": len(history.events().users),
            "longest history": longest,
            "files": files,
            "checked": "read again: each row has its history",
        }

    def _write(self, tables: Iterable[pa.Table], again: bool) -> int:
        ordered = sorted_events(tables, self._kept, self._sorter, again)
        return write_store(self._fresh, ordered, self._schema, self._asked.time)

    def _history(self, written: Source, timestamp: str | None) -> History:
        asked, cache = self._asked, str(self._sorter.folder / "unpacked")
        return History("", written, asked.user, asked.time, tuple(self._columns), timestamp, EVERY, cache, asked.delay)

    def _events(self) -> Iterator[pa.Table]:
        """In plain types. Raises InputError for an event without a user or a time."""
        old = (self._asked.user, self._asked.time, *self._columns.values())
        at = 0
        for table in all_tables(self._source, tuple(dict.fromkeys(old))):
            for name in old[:2]:
                if table[name].null_count:
                    row = at + int(np.argmax(table[name].is_null().to_numpy()))
                    raise InputError(
                        f"an event without {name!r}: {where(self._source, row)}. Write the files without such events"
                    )
            at += len(table)
            yield plain_table(pa.table([table[name] for name in old], names=self._kept.names), self._kept)


def _numbered(tables: Iterable[pa.Table], kept: pa.Schema) -> Iterator[pa.Table]:
    at, schema = 0, numbered(kept)
    for table in tables:
        nothing = np.zeros(len(table), np.int64)
        yield pa.table([np.arange(at, at + len(table)), nothing, nothing, *table.columns], schema=schema)
        at += len(table)


def _columns(asked: StoreOptions, schema: pa.Schema) -> dict[str, str]:
    """The store's column -> that of SRC. Raises InputError."""
    for option, name in (("--user", asked.user), ("--time", asked.time), ("--event-time", asked.event_time)):
        if name is not None and name not in schema.names:
            raise InputError(f"{option} {name}: SRC has no such column, but {', '.join(schema.names)}")
    taken = (asked.user, asked.time, asked.event_time)
    words = [word.strip() for word in asked.columns.split(",") if word.strip()]
    if not words and asked.event_time is not None:
        raise InputError(
            "--event-time says that histories lie in lists: name the other lists of the history with --columns"
        )
    found: dict[str, str] = {}
    for word in words or [name for name in schema.names if name not in taken]:
        new, _, old = word.partition("=")
        if (old or new) not in schema.names:
            raise InputError(f"--columns {word}: SRC has no column {old or new!r}, but {', '.join(schema.names)}")
        if new in found or new in taken:
            raise InputError(f"--columns {word}: the store would have two columns {new!r}")
        found[new] = old or new
    if not found:
        raise InputError("SRC has no column beside --user and --time: an event needs an id")
    return found


def _schema(source: Source, asked: StoreOptions, columns: dict[str, str]) -> pa.Schema:
    """Of the store: user, time, and the ids of an event. Raises InputError for types that cannot be."""
    found = source.columns.fields(tuple(dict.fromkeys((asked.user, asked.event_time or asked.time, *columns.values()))))

    def of(name: str) -> pa.DataType:
        type_ = bare(found.field(name).type)
        if asked.event_time is None or name == asked.user:
            return type_
        if not is_any_list(type_):
            raise InputError(f"column {name!r} is {type_}; with --event-time it is a list with an element an event")
        return bare(type_.value_type)

    fields = [(asked.user, of(asked.user)), (asked.time, of(asked.event_time or asked.time))]
    for (name, type_), kinds in zip(fields, (USERS, TIMES), strict=True):
        if id_kind(type_) not in kinds or pa.types.is_decimal(type_) or pa.types.is_boolean(type_):
            raise InputError(f"column {name!r} is {type_}; it has to be {' or '.join(kinds)}")
    return pa.schema([*fields, *((new, emitted(old, of(old))) for new, old in columns.items())])


def _write_rows(located: Located, source: Source, left_out: set[str | None], fresh: Path) -> dict[str, Any]:
    """The rows without some columns, in files and row groups as they were."""
    names = [name for name in kept_columns(whole_schema(source).names, source, located) if name not in left_out]
    files = Files(fresh, names_of(located), None)
    try:
        for group in range(len(source.group_rows)):
            files.add(int(source.group_file[group]), source.read([group], names))
    finally:
        files.close()
    return {"name": "data events --rows", "rows": source.rows}
