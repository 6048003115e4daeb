"""A store's Parquet files -> arrays in a folder of this machine, mapped into memory. In: a Source of events; out: Unpacked.

A row of a shuffled epoch wants the events of any user, and Parquet is read by row groups. So a store is decoded once, into a file an array,
which all processes of the machine map: what they hold of it is the system's cache of files. The folder is named after the store's footers,
so a store that changed is another one. A writer makes it under a lock, beside its place, and renames it.
"""

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

from interformer_rec.data.decode.arrays import Mask, flat, joined
from interformer_rec.data.decode.id_values import NULL_KIND, id_kind, strings
from interformer_rec.data.event_store.keys import time_keys
from interformer_rec.data.event_store.users import Places, users_of
from interformer_rec.data.files.source import Source
from interformer_rec.data.files.unify import bare
from interformer_rec.errors import InputError

FORMAT = 1
KEPT = 2  # versions of a store that stay in the cache
FACTS = "facts.json"  # written last


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
    """The arrays of a folder that `unpack` has made. Raises InputError for one that is damaged."""
    try:
        return _opened(folder)
    except (OSError, ValueError, KeyError, EOFError, pa.ArrowException) as error:
        raise InputError(
            f"cannot read the unpacked events in {str(folder)!r}: {error}. Delete that folder: it is made anew"
        ) from None


def _opened(folder: Path) -> Unpacked:
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
    """Two passes, a row group at a time: where each user's events lie, then the events to their places."""
    schema = source.require((user, time, *columns))
    users = users_of(source, user, time)
    for name, array in (("users", users.keys), ("begins", users.begins), ("ends", users.ends)):
        np.save(folder / f"{name}.npy", array)
    times = _array(folder / "times.npy", source.rows, np.dtype(np.int64))
    writers = [_Column(folder, i, source.rows, name, schema.field(name).type) for i, name in enumerate(columns)]
    at = 0
    for group in range(len(source.group_rows)):
        table = source.read([group], tuple(dict.fromkeys((time, *columns))), strings=True)
        places = users.places(at, at + len(table))
        times[places] = time_keys(table[time])[0]
        for writer in writers:
            writer.add(places, table[writer.name])
        at += len(table)
    for writer in writers:
        writer.close()
    (folder / FACTS).write_text(json.dumps({"events": source.rows, "columns": columns}), encoding="utf-8")


def _array(path: Path, size: int, type_: np.dtype) -> np.ndarray:
    """Zeros in a file."""
    if not size:  # nothing can be mapped
        np.save(path, np.zeros(0, type_))
        return np.zeros(0, type_)
    array = np.lib.format.open_memmap(path, "w+", type_, (size,))
    with open(path, "r+b") as file:  # takes the room now: a map of a file that finds none ends the process
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


class _Column:
    """The file, or files, of a column."""

    def __init__(self, folder: Path, number: int, size: int, name: str, type_: pa.DataType) -> None:
        self.name, self._folder, self._number, self._size = name, folder, number, size
        self._type = emitted(name, type_)
        self._places: dict[str, int] | None = {} if pa.types.is_string(self._type) else None
        self._storage = pa.int32() if self._places is not None else _storage(self._type)
        self._values = _array(folder / f"values{number}.npy", size, np.dtype(self._storage.to_pandas_dtype()))
        self._nulls: np.ndarray | None = None

    def add(self, places: Places, column: pa.ChunkedArray) -> None:
        """Put events into their places. Raises InputError for what is no id."""
        if self._places is not None:
            self._put(places, *self._strings(column))
            return
        plain = column.cast(bare(column.type)) if column.type != bare(column.type) else column
        values, null = flat(plain.cast(self._type).cast(self._storage))
        self._put(places, values, null)

    def _strings(self, column: pa.ChunkedArray) -> tuple[np.ndarray, Mask]:
        """Places in the dictionary, which grows."""
        assert self._places is not None
        parts, nulls = [np.zeros(0, np.int32)], []
        for distinct, indices, null, wrong in strings(column):
            if wrong is not None and wrong.any():
                raise InputError(f"column {self.name!r} of the events holds an id that is not valid UTF-8")
            known = [self._places.setdefault(text, len(self._places)) for text in distinct.to_pylist()]
            parts.append(np.array([*known, 0], np.int32).take(indices))
            nulls.append((null, len(indices)))
        return np.concatenate(parts), joined(nulls)

    def _put(self, places: Places, values: np.ndarray, null: Mask) -> None:
        self._values[places] = values
        if null is not None and null.any():
            if self._nulls is None:
                self._nulls = _array(self._folder / f"nulls{self._number}.npy", self._size, np.dtype(bool))
            self._nulls[places] = null

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
