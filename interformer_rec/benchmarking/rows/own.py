"""The user's own rows for a longest history. In: a table of training rows; out: the table with other histories, or of requests.

`data` keeps what the files say: a history is cut at `longest` as max_length would cut it. Where `longest` is more than the longest history
of the sample, every history is stretched by their ratio: its own events stay the newest, older ones are drawn from all events of the
sample and have the time of its first one.
"""

import numpy as np
import pyarrow as pa

from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.run import RunConfig
from interformer_rec.data.decode.arrays import elements, lists
from interformer_rec.data.event_store.joined import open_rows
from interformer_rec.data.files.source import Source
from interformer_rec.errors import InputError

SAMPLE_ROWS = 50_000  # of the files, at most
LARGEST_LIST = 2**31 - 1  # elements that 32-bit offsets reach


def open_training(config: RunConfig) -> Source:
    """The files of data.train, or of all windows. Raises InputError."""
    key, path = config.data.to_train
    if path is None:
        raise InputError(
            f"{key} is not set: name the training files in the config, or make up rows with --distribution zipf (or fixed)"
        )
    return open_rows(path, config.data, config.features)


def sample(source: Source, features: FeatureSchema, most: int) -> pa.Table:
    """The columns that training reads, of the first rows. Raises InputError where there is no row."""
    columns = features.columns()
    source.require(columns)
    enough = int(np.searchsorted(np.cumsum(source.group_rows), most)) + 1
    groups = list(range(min(enough, len(source.group_rows))))
    table = source.read(groups, columns).slice(0, most)
    if not len(table):
        raise InputError(f"{source.path!r} has no row")
    return table


def repeated(table: pa.Table, rows: int) -> pa.Table:
    """So many rows: the first ones, or all of them again and again."""
    if len(table) >= rows:
        return table.slice(0, rows)
    return table.take(pa.array(np.arange(rows) % len(table)))


def stretched(table: pa.Table, features: FeatureSchema, longest: int) -> pa.Table:
    """Histories of at most `longest` events, as the head of this file says."""
    columns = {name: table[name] for name in table.column_names}
    for group in features.sequences:
        first = lists(table[group.columns[0].column])
        own, total = first.lengths, int(first.lengths.sum())
        new = np.where(own > 0, np.maximum(_stretched(own, longest), 1), 0)
        row = np.repeat(np.arange(len(own)), new)
        age = np.repeat(np.cumsum(new), new) - 1 - np.arange(len(row))  # 0: the newest
        starts = np.cumsum(own) - own
        kept, oldest = age < own[row], starts[row]
        newest = oldest + own[row] - 1 - age
        drawn = np.random.default_rng(0).integers(0, max(1, total), len(row))
        for name in (*(column.column for column in group.columns), group.timestamp):
            if name is not None:
                place = np.where(kept, newest, oldest if name == group.timestamp else drawn)
                values = elements(lists(table[name]), own).take(pa.array(place))
                columns[name] = list_array(new, values)
    return pa.table(columns)


def _stretched(lengths: np.ndarray, longest: int) -> np.ndarray:
    most = int(lengths.max(initial=0))
    if longest <= most or most == 0:
        return np.minimum(lengths, longest)
    return np.rint(lengths * (longest / most)).astype(np.int64)


def requests_of(table: pa.Table, columns: frozenset[str], candidates: int) -> pa.Table:
    """Rows of one candidate -> requests of `candidates` of them: the user's side is the first row's of each. `columns`: of candidates.

    Raises InputError for fewer rows than candidates.
    """
    count = len(table) // candidates
    if not count:
        raise InputError(f"a request of {candidates} candidates needs as many rows; there are {len(table)}")
    first = pa.array(np.arange(count) * candidates)
    sizes = np.full(count, candidates)
    return pa.table(
        {
            name: list_array(sizes, table[name].slice(0, count * candidates))
            if name in columns
            else table[name].take(first)
            for name in table.column_names
        }
    )


def with_candidates(table: pa.Table, columns: frozenset[str], counted: str, candidates: int) -> pa.Table:
    """Requests with exactly `candidates` candidates: the first of their own, again and again where those are fewer."""
    own = lists(table[counted]).lengths
    table = table.filter(pa.array(own > 0))
    own = own[own > 0]
    if not len(table):
        raise InputError(f"column {counted!r}: no request has a candidate")
    starts = np.cumsum(own) - own
    place = pa.array((starts[:, None] + np.arange(candidates) % own[:, None]).ravel())
    sizes = np.full(len(table), candidates)
    return pa.table(
        {
            name: list_array(sizes, elements(lists(table[name]), own).take(place)) if name in columns else table[name]
            for name in table.column_names
        }
    )


def list_array(lengths: np.ndarray, values: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Lists of these lengths over values laid end to end."""
    flat = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if isinstance(flat, pa.ChunkedArray):  # combine_chunks of none
        flat = pa.concat_arrays(flat.chunks) if flat.num_chunks else pa.array([], flat.type)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    if offsets[-1] > LARGEST_LIST:
        return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), flat)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat)
