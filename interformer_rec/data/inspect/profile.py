"""Facts about the columns of Parquet files nobody has described. In: a Source; out: a Profile, from a sample of
bounded size.

The sample is up to SAMPLE_ROWS rows, spread over up to SAMPLE_GROUPS row groups; of a row group its first rows are
read, in small batches. Distinct values are counted up to MOST_DISTINCT a column."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from interformer_rec.data.decode.arrays import is_list
from interformer_rec.data.files.source import Source
from interformer_rec.data.files.unify import is_bytes, is_text
from interformer_rec.errors import InputError

SAMPLE_ROWS = 100_000
SAMPLE_GROUPS = 32
BATCH_ROWS = 4096
MOST_DISTINCT = 300_000
KEPT_ROWS = 20_000  # of scalar columns, and of the newest element of list columns


@dataclass
class Column:
    """What the sample says about one column. Of a list column `kind`, `distinct`, `low`, `high` mean the elements."""

    name: str
    type: str  # as Arrow writes it
    kind: str  # int, float, string, bool, time, other
    is_list: bool
    rows: int = 0
    nulls: int = 0
    element_nulls: int = 0
    not_finite: int = 0  # NaN or infinite values of a float column
    whole: bool = True  # no value with a fraction
    utf8: bool = True  # strings can be read as such
    low: float = np.inf
    high: float = -np.inf
    rising: bool = True  # a list's elements never decrease; a scalar never decreases from row to row
    falling: bool = True  # they never increase
    capped: bool = False  # more than MOST_DISTINCT distinct values
    values: pa.Array | None = None  # the distinct values, nulls left out
    pending: list[pa.Array] = field(default_factory=list, repr=False)
    lengths: list[np.ndarray] = field(default_factory=list, repr=False)
    digest: str = ""  # lists: equal for columns whose lists are equally long in every sampled row
    kept: list[pa.Array] = field(default_factory=list, repr=False)

    @property
    def distinct(self) -> int:
        """Distinct values in the sample; at least so many when `capped`."""
        return 0 if self.values is None else len(self.values)

    @property
    def null_share(self) -> float:
        """Nulls among the sampled rows, in [0, 1]."""
        return self.nulls / max(self.rows, 1)

    def length(self, percent: float) -> int:
        """Percentile of the list length; null lists count as empty."""
        return int(np.percentile(np.concatenate(self.lengths), percent, method="higher"))

    def sample(self) -> pa.Array:
        """Up to KEPT_ROWS values, the same rows for every column; of a list its last element (null if empty)."""
        return pa.concat_arrays(self.kept)

    def kept_lengths(self) -> np.ndarray:
        """Lengths of the lists in the rows of `sample`."""
        return np.concatenate([all_[: len(kept)] for all_, kept in zip(self.lengths, self.kept, strict=True)])

    def median(self, size: bool = False) -> float:
        """Median of the kept values of a numeric column, or of their sizes; its least value if all of those are null."""
        kept = self.sample().cast(pa.float64()).drop_null().to_numpy(zero_copy_only=False)
        return float(np.median(np.abs(kept) if size else kept)) if len(kept) else self.low

    def commonest_share(self) -> float:
        """Share of the kept rows that have the most frequent value, null being one; of a list the share that is empty."""
        if self.is_list:
            return float((self.kept_lengths() == 0).mean())
        counts = pc.value_counts(self.sample()).field("counts").to_numpy()
        return float(counts.max() / counts.sum())


@dataclass(frozen=True)
class Profile:
    """The columns of all files, and how much was looked at. `unread`: why a column cannot be read by any feature."""

    columns: dict[str, Column]
    rows: int
    sampled: int
    groups: int
    sampled_groups: int
    unread: dict[str, str] = field(default_factory=dict)


def profile(source: Source) -> Profile:
    """Sample `source`, column by column by its name in each file. Memory: a batch of BATCH_ROWS rows, the distinct values and the list
    lengths."""
    schema, unread = _readable(source)
    columns = {one.name: _column(one) for one in schema}
    digests = {name: hashlib.blake2b(digest_size=8) for name, column in columns.items() if column.is_list}
    filled = np.flatnonzero(source.group_rows)
    chosen, budget = filled, SAMPLE_ROWS
    if source.rows > SAMPLE_ROWS:
        chosen = filled[np.unique(np.linspace(0, len(filled) - 1, SAMPLE_GROUPS).round().astype(int))]
        budget = -(-SAMPLE_ROWS // len(chosen))
    read = [name for name, column in columns.items() if column.kind != "other"]
    sampled, kept = 0, min(1.0, KEPT_ROWS / max(1, min(source.rows, SAMPLE_ROWS)))
    for group in chosen:
        for table in _batches(source, int(group), budget, read):
            sampled += len(table)
            keep = max(1, round(len(table) * kept))
            for name in read:
                _look(columns[name], one_array(table[name]), digests.get(name), keep)
    for column in columns.values():
        _merge(column)
        column.digest = digests[column.name].hexdigest() if column.is_list else ""
    return Profile(columns, source.rows, sampled, len(filled), len(chosen), unread)


def _readable(source: Source) -> tuple[pa.Schema, dict[str, str]]:
    """The columns that every file has, and why each of the others cannot be read."""
    whole = source.columns.whole(())
    unread = dict(reason.split(": ", 1) for reason in whole.left_out)
    fields = []
    for one in whole.schema:
        try:
            source.require([one.name])
            if not one.name or "\0" in one.name:
                raise InputError("a config cannot name it: its name is empty or holds the character NUL")
            fields.append(one)
        except InputError as error:
            unread[one.name] = str(error).split(". Its columns: ")[0]
    return pa.schema(fields), unread


def column_batches(source: Source, name: str) -> Iterator[pa.Array]:
    """The values of one column, whole, in order."""
    for group in np.flatnonzero(source.group_rows):
        for table in _batches(source, int(group), int(source.group_rows[group]), [name], 64 * BATCH_ROWS):
            yield plain(one_array(table[name]))


def _batches(
    source: Source, group: int, rows: int, columns: list[str], at_once: int = BATCH_ROWS
) -> Iterator[pa.Table]:
    """The first `rows` rows of a row group in batches of at most `at_once`, without decoding the rest; columns by name, in the types
    that all files have in common."""
    file = int(source.group_file[group])
    stored, schema = source.columns.stored(file, columns), source.columns.fields(columns)
    if not stored:  # every one of them is in the names of folders
        rows = min(rows, int(source.group_rows[group]))
        bare = pa.table({"": pa.nulls(rows)})
        yield source.columns.conform(bare, file, schema, False, lambda: source.where(group))
        return
    for table in source.batches(group, stored, at_once):
        yield source.columns.conform(table.slice(0, rows), file, schema, False, lambda: source.where(group))
        rows -= len(table)
        if rows <= 0:
            return


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """The chunks of a column as one array."""
    chunks = column.combine_chunks()
    return chunks if isinstance(chunks, pa.Array) else pa.concat_arrays(chunks.chunks)


def _column(one: pa.Field) -> Column:
    listed = is_list(one.type)
    return Column(one.name, str(one.type), _kind(one.type.value_type if listed else one.type), listed)


def _kind(kind: pa.DataType) -> str:
    types = pa.types
    if types.is_dictionary(kind):
        return _kind(kind.value_type)
    for name, test in (
        ("int", types.is_integer),
        ("float", types.is_floating),
        ("bool", types.is_boolean),
        ("time", lambda found: types.is_timestamp(found) or types.is_date(found)),
    ):
        if test(kind):
            return name
    if types.is_decimal(kind):
        return "int" if kind.scale == 0 and kind.precision <= 18 else "float"
    return "string" if is_text(kind) or is_bytes(kind) else "other"


def _look(column: Column, array: pa.Array, digest: hashlib.blake2b | None, keep: int) -> None:
    """Take one batch of a column into account."""
    column.rows += len(array)
    column.nulls += array.null_count
    array = values = plain(array)
    if column.is_list:
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy().astype(np.int32)
        column.lengths.append(lengths)
        assert digest is not None
        digest.update(lengths.tobytes())
        values = plain(array.flatten())  # of null lists nothing
        column.element_nulls += values.null_count
        stops = np.cumsum(lengths)
        newest = pa.array(np.maximum(stops - 1, 0)[:keep], mask=(lengths == 0)[:keep])
        column.kept.append(values.take(newest))
        _look_order(column, values, np.setdiff1d(stops[:-1], [len(values)]))
    else:
        column.kept.append(array.slice(0, keep))
        _look_order(column, values, np.empty(0, np.int64))
    _look_range(column, values)
    if column.kind == "string" and column.utf8:
        column.utf8 = _is_utf8(values)
    if column.kind != "other" and not column.capped and len(values):
        column.pending.append(pc.unique(values.drop_null()))
        if sum(map(len, column.pending)) > MOST_DISTINCT:
            _merge(column)
            column.capped = column.distinct > MOST_DISTINCT


def plain(array: pa.Array) -> pa.Array:
    """Dictionaries resolved, timestamps as integers of their unit, decimals as integers or floats."""
    if isinstance(array, pa.DictionaryArray):
        return plain(array.dictionary_decode())
    if pa.types.is_decimal(array.type):
        return array.cast(pa.int64() if _kind(array.type) == "int" else pa.float64())
    if pa.types.is_string_view(array.type) or pa.types.is_binary_view(array.type):
        return array.cast(pa.string() if pa.types.is_string_view(array.type) else pa.binary())
    return array.cast(pa.int64()) if pa.types.is_timestamp(array.type) else array


def _is_utf8(values: pa.Array) -> bool:
    try:
        values.cast(pa.large_binary()).cast(pa.large_string())
    except pa.ArrowInvalid:
        return False
    return True


def _look_order(column: Column, values: pa.Array, boundaries: np.ndarray) -> None:
    """Whether ints rise or fall; steps over `boundaries` (the first element of another list) do not count."""
    if column.kind not in ("int", "time") or not (column.rising or column.falling) or values.null_count:
        column.rising = column.falling = False
        return
    if not pa.types.is_integer(values.type):  # dates, times of day
        column.rising = column.falling = False
        return
    steps = np.diff(values.to_numpy(zero_copy_only=False).astype(np.float64))
    steps[boundaries[boundaries > 0] - 1] = 0
    column.rising &= not (steps < 0).any()
    column.falling &= not (steps > 0).any()


def _look_range(column: Column, values: pa.Array) -> None:
    if column.kind not in ("int", "float", "bool"):
        return
    numbers = values.drop_null().cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    finite = numbers[np.isfinite(numbers)]
    column.not_finite += len(numbers) - len(finite)
    if len(finite):
        column.low, column.high = min(column.low, float(finite.min())), max(column.high, float(finite.max()))
        column.whole = column.whole and bool((finite == np.round(finite)).all())


def _merge(column: Column) -> None:
    parts = ([column.values] if column.values is not None else []) + column.pending
    column.values = pc.unique(pa.concat_arrays(parts)) if parts else None
    column.pending = []
