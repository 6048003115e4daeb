"""Yambda's multi_event.parquet, flat or sequential -> one log of events. In: the file as published; out: Arrow batches of
events in the file's order, whatever its form, and each track's artist and album."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from interformer_rec.data.recipes import raw_parquet
from interformer_rec.errors import InputError

PLAYED = 50  # per cent of a track from which a listen counts as one: the paper's Listen+
KINDS = ("listen_plus", "skip", "like")  # of events, by their code; dislikes and what takes a like back are left out
NAMES = pa.array(["listen", "like", "dislike", "unlike", "undislike"])
FLAT = {
    **{name: pa.int64() for name in ("uid", "item_id", "timestamp")},
    "is_organic": pa.int8(),
    "event_type": pa.string(),
    "played_ratio_pct": pa.int32(),
    "track_length_seconds": pa.int32(),
}
NULLABLE = ("played_ratio_pct", "track_length_seconds")  # of events that are no listens
PLURAL = {"item_id": "item_ids", "timestamp": "timestamps"}  # as the dataset card calls the sequential form's lists
SCHEMA = pa.schema(
    [
        *((name, pa.int64()) for name in ("user_id", "item_id", "timestamp")),
        ("kind", pa.int8()),
        ("is_organic", pa.int8()),
        ("track_length_seconds", pa.int32()),
    ]
)
SEQUENCES = 256  # users of the sequential form decoded at a time: about 5,000 events each


def log(path: Path) -> Iterator[pa.RecordBatch]:
    """Listens and likes of a flat or sequential file, in SCHEMA. Raises InputError for another form or a wrong value."""
    for batch in _sequential(path) if is_sequential(path) else raw_parquet.batches(path, FLAT, NULLABLE):
        yield _events(path, batch)


def is_sequential(path: Path) -> bool:
    """Whether the file has a row a user, with lists. Raises InputError where it cannot be read."""
    schema = raw_parquet.opened(path).schema_arrow
    name = next((name for name in ("timestamp", "timestamps") if name in schema.names), None)
    if name is None:
        raise InputError(f"{path} has no column timestamp; its columns are {', '.join(schema.names)}")
    type_ = schema.field(name).type
    return pa.types.is_list(type_) or pa.types.is_large_list(type_)


def events_of(path: Path) -> int:
    """About how many events the file holds, from its footer."""
    metadata = raw_parquet.opened(path).metadata
    names = [metadata.schema.column(place).path.split(".")[0] for place in range(metadata.num_columns)]
    place = next((place for place, name in enumerate(names) if name in ("timestamp", "timestamps")), 0)
    return sum(metadata.row_group(group).column(place).num_values for group in range(metadata.num_row_groups))


def _sequential(path: Path) -> Iterator[pa.RecordBatch]:
    """A row an event, from a row a user."""
    names = raw_parquet.opened(path).schema_arrow.names
    stored = {name: PLURAL[name] if name in PLURAL and name not in names else name for name in FLAT}
    types = {stored[name]: type_ if name == "uid" else pa.list_(type_) for name, type_ in FLAT.items()}
    for batch in raw_parquet.batches(path, types, rows=SEQUENCES):
        lists = {name: batch.column(stored[name]) for name in FLAT if name != "uid"}
        lengths = {name: column.value_lengths() for name, column in lists.items()}
        wrong = [name for name, length in lengths.items() if not length.equals(lengths["timestamp"])]
        if wrong:
            raise InputError(f"{path}: the lists {wrong[0]} and timestamp of a user differ in length")
        owner = pa.array(np.repeat(np.arange(len(batch)), lengths["timestamp"].to_numpy()))
        columns = {"uid": batch.column("uid").take(owner), **{name: column.flatten() for name, column in lists.items()}}
        empty = [name for name, column in columns.items() if column.null_count and name not in NULLABLE]
        if empty:
            raise InputError(f"{path} has nulls in column {', '.join(empty)}, where every event needs a value")
        yield pa.RecordBatch.from_pydict({name: columns[name] for name in FLAT})


def _events(path: Path, batch: pa.RecordBatch) -> pa.RecordBatch:
    name = pc.index_in(batch.column("event_type"), value_set=NAMES)
    if name.null_count:
        wrong = batch.column("event_type").filter(name.is_null())[0].as_py()
        raise InputError(f"{path} has the event_type {wrong!r}; it must be one of {', '.join(NAMES.to_pylist())}")
    code, ratio = name.to_numpy(), batch.column("played_ratio_pct")
    if pc.any(pc.and_(pc.equal(name, 0), ratio.is_null())).as_py():
        raise InputError(f"{path} has a listen without played_ratio_pct: nobody knows what its label is")
    for column in ("uid", "item_id", "timestamp"):
        if len(batch) and pc.min(batch.column(column)).as_py() < 0:
            raise InputError(f"{path} has a negative {column}")
    played = pc.fill_null(ratio, 0).to_numpy() >= PLAYED
    kind = np.select([(code == 0) & played, code == 0, code == 1], [0, 1, 2], -1).astype(np.int8)
    columns = [batch.column(column) for column in ("uid", "item_id", "timestamp")]
    columns += [pa.array(kind), batch.column("is_organic"), batch.column("track_length_seconds")]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA).filter(pa.array(kind >= 0))


def first_of_items(path: Path, column: str) -> pa.Table:
    """item_id and its artist or album, the smallest id where it has several; one row an item."""
    table = raw_parquet.whole(path, {"item_id": pa.int64(), column: pa.int64()})
    item, other = table["item_id"].to_numpy(), table[column].to_numpy()
    order = np.lexsort((other, item))
    item, other = item[order], other[order]
    first = np.r_[True, item[1:] != item[:-1]][: len(item)]
    return pa.table({"item_id": item[first], column: other[first]})
