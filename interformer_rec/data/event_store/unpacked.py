"""A store's Parquet files -> arrays in a folder of this machine, mapped into memory. In: a Source of events; out: Unpacked.

A row of a shuffled epoch wants the events of any user, and Parquet is read by row groups. So a store is decoded once, into a file an array,
which all processes of the machine map: what they hold of it is the system's cache of files. The folder is named after the store's footers,
so a store that changed is another one. A writer makes it under a lock, beside its place, and renames it.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from interformer_rec.data.decode.arrays import Mask, flat
from interformer_rec.data.decode.id_values import NULL_KIND, id_kind, strings
from interformer_rec.data.event_store.keys import time_keys, user_keys
from interformer_rec.data.files.source import Source
from interformer_rec.data.files.unify import bare
from interformer_rec.data.grouping.reading import where
from interformer_rec.errors import InputError

FORMAT = 1
KEPT = 2  # versions of a store that stay in the cache
FACTS = "facts.json"  # written last
ORDER = "A user's events must lie side by side in one store, oldest first: write it with `interformer data events`"


@dataclass(frozen=True)
class Unpacked:
    """A store's events in its order, and where each user's begin and end. All arrays but the first three are mapped."""

    users: np.ndarray  # (users,) int64, rising
    begins: np.ndarray  # (users,) int64: the place of a user's first event
    ends: np.ndarray  # (users,) int64
    times: np.ndarray  # (events,) int64
    values: dict[str, np.ndarray]  # column -> (events,) integers, or places in its dictionary
    nulls: dict[str, np.ndarray]  # column -> (events,) bool; columns without a null are left out
    dictionaries: dict[str, pa.Array]  # of columns of strings

    @functools.cached_property
    def newest(self) -> int:
        """The time of the last event of all."""
        return int(self.times[self.ends - 1].max()) if len(self.ends) else 0


def unpack(source: Source, user: str, time: str, columns: tuple[str, ...], cache: str | None) -> Path:
    """The folder with the arrays of a store, made unless it is there. Raises InputError for a store that is not as it has to be."""
    root = _root(cache)
    place = _digest(source.path, user, time, *columns)
    name = f"{place}-{_digest(FORMAT, source.checksum, source.rows, *source.files)}"
    folder = root / name
    with open(root / f".{place}.lock", "a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of the first process that needs it; the others find it made
        if not (folder / FACTS).exists():
            fresh = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=root))
            try:
                _write(source, user, time, columns, fresh)
                shutil.rmtree(folder, ignore_errors=True)
                os.rename(fresh, folder)
            except OSError as error:
                raise InputError(
                    f"cannot unpack the events of {source.path!r} into {str(root)!r}: {error}. Name a folder with room for "
                    f"{_bytes(source, columns):,} bytes in data.events.cache"
                ) from None
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
        os.utime(folder)
        for old in sorted(root.glob(f"{place}-*"), key=lambda one: one.stat().st_mtime)[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)  # who has mapped it keeps its files
    return folder


@functools.lru_cache(maxsize=16)
def opened(folder: Path) -> Unpacked:
    """The arrays of a folder that `unpack` has made."""
    facts = json.loads((folder / FACTS).read_bytes())

    def mapped(name: str) -> np.ndarray:
        return np.load(folder / f"{name}.npy", mmap_mode="r") if facts["events"] else np.load(folder / f"{name}.npy")

    users, begins, ends = (np.load(folder / f"{name}.npy") for name in ("users", "begins", "ends"))
    numbered = dict(enumerate(facts["columns"]))
    return Unpacked(
        users,
        begins,
        ends,
        mapped("times"),
        {column: mapped(f"values{i}") for i, column in numbered.items()},
        {column: mapped(f"nulls{i}") for i, column in numbered.items() if (folder / f"nulls{i}.npy").exists()},
        {
            column: pa.ipc.open_file(folder / f"dictionary{i}.arrow").read_all().column(0).combine_chunks()
            for i, column in numbered.items()
            if (folder / f"dictionary{i}.arrow").exists()
        },
    )


def emitted(column: str, type_: pa.DataType) -> pa.DataType:
    """The type of an event's value as rows get it. Raises InputError for one that is no id."""
    type_ = bare(type_)
    kind = id_kind(type_)
    if kind == "string":
        return pa.string()
    if kind == NULL_KIND:
        return pa.int8()
    if pa.types.is_boolean(type_):
        return pa.uint8()
    if kind is None or pa.types.is_decimal(type_):
        raise InputError(
            f"column {column!r} of the events is {type_}; an event has integers, strings, dates or timestamps"
        )
    return type_


def _root(cache: str | None) -> Path:
    """A folder of this user's own: what lies in a folder of others would be read as events."""
    root = (
        Path(cache).expanduser()
        if cache is not None
        else Path(tempfile.gettempdir()) / f"interformer-events-{os.getuid()}"
    )
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = root.stat().st_uid
    except OSError as error:
        raise InputError(f"cannot make the folder {str(root)!r} (data.events.cache): {error}") from None
    if cache is None and (owner != os.getuid() or root.is_symlink()):
        raise InputError(f"the folder {str(root)!r} is another user's: name one of your own in data.events.cache")
    return root


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()[:16]


def _bytes(source: Source, columns: tuple[str, ...]) -> int:
    return source.rows * 8 * (1 + len(columns))


def _write(source: Source, user: str, time: str, columns: tuple[str, ...], folder: Path) -> None:
    """One pass, a row group at a time."""
    schema = source.require((user, time, *columns))
    times = _array(folder / "times.npy", source.rows, np.dtype(np.int64))
    writers = [_Column(folder, i, source.rows, name, schema.field(name).type) for i, name in enumerate(columns)]
    runs, at = _Runs(source), 0
    for group in range(len(source.group_rows)):
        table = source.read([group], tuple(dict.fromkeys((user, time, *columns))), strings=True)
        keys, unknown = user_keys(table[user])
        when, timeless = time_keys(table[time])
        for column, mask in ((user, unknown), (time, timeless)):
            if mask is not None and mask.any():
                row = at + int(np.argmax(mask))
                raise InputError(
                    f"an event without {column!r}: {where(source, row)}. Leave such events out of the store"
                )
        runs.add(keys, when)
        times[at : at + len(when)] = when
        for writer in writers:
            writer.add(at, table[writer.name])
        at += len(when)
    users, begins, ends = runs.done()
    for name, array in (("users", users), ("begins", begins), ("ends", ends)):
        np.save(folder / f"{name}.npy", array)
    for writer in writers:
        writer.close()
    (folder / FACTS).write_text(json.dumps({"events": source.rows, "columns": columns}), encoding="utf-8")


def _array(path: Path, size: int, type_: np.dtype) -> np.ndarray:
    """Zeros in a file."""
    if not size:  # nothing can be mapped
        np.save(path, np.zeros(0, type_))
        return np.zeros(0, type_)
    return np.lib.format.open_memmap(path, "w+", type_, (size,))


class _Runs:
    """Where each user's events begin and end, over row groups that follow each other."""

    def __init__(self, source: Source) -> None:
        self._source, self._at = source, 0
        self._keys: list[np.ndarray] = []
        self._begins: list[np.ndarray] = []
        self._last: tuple[int, int] | None = None  # user and time of the last event

    def add(self, keys: np.ndarray, times: np.ndarray) -> None:
        """Of a row group's events. Raises InputError where a user's events are not oldest first."""
        if not len(keys):
            return
        new = np.append(self._last is None or keys[0] != self._last[0], keys[1:] != keys[:-1])
        earlier = np.append(self._last is not None and times[0] < self._last[1], times[1:] < times[:-1])
        if (wrong := earlier & ~new).any():
            place = self._at + int(np.argmax(wrong))
            raise InputError(
                f"an event that is older than the one before it, of the same user: {where(self._source, place)}. {ORDER}"
            )
        first = np.flatnonzero(new)
        self._keys.append(keys[first])
        self._begins.append(first + self._at)
        self._last, self._at = (int(keys[-1]), int(times[-1])), self._at + len(keys)

    def done(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Users, rising, and where the events of each begin and end. Raises InputError for a user who is there twice."""
        empty = [np.zeros(0, np.int64)]
        keys, begins = np.concatenate([*empty, *self._keys]), np.concatenate([*empty, *self._begins])
        ends = np.append(begins[1:], self._at) if len(begins) else begins
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        again = np.flatnonzero(keys[1:] == keys[:-1])
        if len(again):
            place = int(begins[order[again[0] + 1]])
            raise InputError(
                f"events of a user whose others do not lie beside them: {where(self._source, place)}. {ORDER}"
            )
        return keys, begins[order], ends[order]


class _Column:
    """The file, or files, of a column."""

    def __init__(self, folder: Path, number: int, size: int, name: str, type_: pa.DataType) -> None:
        self.name, self._folder, self._number, self._size = name, folder, number, size
        self._type = emitted(name, type_)
        self._places: dict[str, int] | None = {} if pa.types.is_string(self._type) else None
        self._storage = pa.int32() if self._places is not None else _storage(self._type)
        self._values = _array(folder / f"values{number}.npy", size, np.dtype(self._storage.to_pandas_dtype()))
        self._nulls: np.ndarray | None = None

    def add(self, at: int, column: pa.ChunkedArray) -> None:
        """Events from place `at` on. Raises InputError for what is no id."""
        if self._places is not None:
            self._strings(at, column)
            return
        plain = column.cast(bare(column.type)) if column.type != bare(column.type) else column
        values, null = flat(plain.cast(self._type).cast(self._storage))
        self._put(at, values, null)

    def _strings(self, at: int, column: pa.ChunkedArray) -> None:
        assert self._places is not None
        for distinct, indices, null, wrong in strings(column):
            if wrong is not None and wrong.any():
                raise InputError(f"column {self.name!r} of the events holds an id that is not valid UTF-8")
            known = [self._places.setdefault(text, len(self._places)) for text in distinct.to_pylist()]
            values = np.array([*known, 0], np.int32).take(indices)
            self._put(at, values, null)
            at += len(indices)

    def _put(self, at: int, values: np.ndarray, null: Mask) -> None:
        self._values[at : at + len(values)] = values
        if null is not None and null.any():
            if self._nulls is None:
                self._nulls = _array(self._folder / f"nulls{self._number}.npy", self._size, np.dtype(bool))
            self._nulls[at : at + len(values)] = null

    def close(self) -> None:
        """Write the dictionary."""
        if self._places is not None:
            table = pa.table({"id": pa.array(list(self._places), pa.string())})
            with pa.ipc.new_file(self._folder / f"dictionary{self._number}.arrow", table.schema) as writer:
                writer.write_table(table)


def _storage(type_: pa.DataType) -> pa.DataType:
    """The integers in which Arrow has values of a type."""
    if pa.types.is_date32(type_):
        return pa.int32()
    return pa.int64() if pa.types.is_timestamp(type_) or pa.types.is_date64(type_) else type_
