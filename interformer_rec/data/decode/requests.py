"""Rows that are requests -> Columns of candidates. In: a decoded row group; out: what batches are made of.

A request's own columns are decoded once; those of its candidates are lists, which are laid end to end and decoded as rows. So a check,
a cure and a message are those of rows that are impressions. Legend: R requests, C candidates.
"""

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa

from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.request import counted_column, sides
from interformer_rec.data.decode.arrays import Lists, elements, is_list, lists
from interformer_rec.data.decode.bad_rows import BadRows
from interformer_rec.data.decode.columns import Columns, Requests
from interformer_rec.data.decode.decoder import Decoder, row_maps
from interformer_rec.data.decode.layout import RequestLayout
from interformer_rec.data.files.source import Source
from interformer_rec.data.fit import Fitted


class RequestDecoder:
    """Decoder's counterpart for `features.request`; made once, used by several threads."""

    def __init__(self, features: FeatureSchema, fitted: Fitted, *, labels: bool = True, skip_bad: bool = False) -> None:
        self.features, self.layout = features, RequestLayout(features)
        maps = row_maps(features, fitted)
        once, shown = sides(features)
        self.once = Decoder(once, fitted, labels=labels, maps=maps)
        self.shown = Decoder(shown, fitted, labels=labels, maps=maps)
        self._skip = skip_bad
        self._columns = shown.columns(labels)
        self._counted = counted_column(features)

    def __call__(self, table: pa.Table, where: Callable[[int], str]) -> Columns:
        """Decode and check; `where(row)` names a request in messages. Raises InputError for a bad row, or marks it."""
        bad = BadRows(table, where, self._skip)
        once = self.once.columns(table, bad)
        candidates, counts = flattened(table, self._columns, self._counted, bad)
        request_of = np.repeat(np.arange(table.num_rows), counts)
        first = np.cumsum(counts) - counts

        def where_candidate(row: int) -> str:
            request = int(request_of[row])
            return f"{where(request)}, candidate {row - int(first[request])} of the row (the first is 0)"

        bad_candidates = BadRows(candidates, where_candidate, self._skip)
        shown = self.shown.columns(candidates, bad_candidates)
        shown.groups = once.groups[request_of]
        shown.requests = Requests(once, request_of, np.arange(table.num_rows))
        shown.bad, shown.reasons = _all_bad(bad, bad_candidates, request_of)
        return shown


def candidate_rows(source: Source, features: FeatureSchema, workers: int) -> np.ndarray:
    """(row groups,) candidates of each: one pass over one column."""
    column = counted_column(features)

    def count(group: int) -> int:
        return int(lists(source.read([group], (column,))[column]).lengths.sum())

    with ThreadPoolExecutor(workers) as pool:
        return np.array(list(pool.map(count, range(len(source.group_rows)))), np.int64)


def flattened(table: pa.Table, columns: Sequence[str], counted: str, bad: BadRows) -> tuple[pa.Table, np.ndarray]:
    """A row a candidate, (C) of `columns`, and (R,) candidates of each request; a null list has none.

    Requests whose lists differ in length are bad; as many of their candidates as `counted` has stay, with nulls in place of what is
    not there, so that every reader counts alike.
    """
    counts = lists(table[counted]).lengths
    read = {column: lists(table[column]) for column in columns}
    flat = {}
    for column, found in read.items():
        wrong = np.flatnonzero(found.lengths != counts)

        def both(row: int, column: str = column, found: Lists = found) -> object:
            return f"{found.lengths[row]} against {counts[row]}"

        what = f"a list of another length than that of {counted!r} (both count the request's candidates)"
        bad.add(column, what, wrong, "Write all lists of a request equally long", value=both)
        flat[column] = elements(found, counts)
    return pa.table(flat), counts


def candidate_schema(schema: pa.Schema, shown: Collection[str]) -> pa.Schema:
    """Of candidate_table."""
    fields = (one.with_type(one.type.value_type) if one.name in shown and is_list(one.type) else one for one in schema)
    return pa.schema(list(fields))


def candidate_table(table: pa.Table, shown: Collection[str], requests: Requests, start: int, stop: int) -> pa.Table:
    """Candidates start .. stop-1 of a table of requests, a row each: elements of the `shown` columns, the others repeated."""
    of = requests.of[start:stop]
    if not len(of):
        return candidate_schema(table.schema, shown).empty_table()
    first, last = int(of[0]), int(of[-1])
    begins = np.searchsorted(requests.of, np.arange(first, last + 2))
    part, counts = table.slice(first, last + 1 - first), np.diff(begins)
    repeated = pa.array(of - first)
    columns = {}
    for name in part.column_names:
        if name in shown:
            columns[name] = elements(lists(part[name]), counts).slice(start - int(begins[0]), stop - start)
        else:
            columns[name] = part[name].take(repeated)
    return pa.table(columns)


def as_in_batches(table: pa.Table, features: FeatureSchema) -> pa.Table:
    """A row a candidate, as a Batch holds them: a request's own columns stand at its first candidate, behind it are nulls."""
    counts = lists(table[counted_column(features)]).lengths
    of = np.repeat(np.arange(table.num_rows), counts)
    behind = np.diff(of, prepend=-1) == 0
    once = pa.array(of, mask=behind)
    shown = features.candidate_columns
    columns = {
        name: elements(lists(table[name]), counts) if name in shown else table[name].take(once)
        for name in table.column_names
    }
    return pa.table(columns)


def _all_bad(
    bad: BadRows, of_candidates: BadRows, request_of: np.ndarray
) -> tuple[np.ndarray | None, list[tuple[str, str]]]:
    """Codes of candidates: their request's, else their own."""
    if bad.codes is None and of_candidates.codes is None:
        return None, []
    requests = np.zeros(len(request_of), np.int32) if bad.codes is None else bad.codes[request_of]
    own = np.zeros(len(request_of), np.int32) if of_candidates.codes is None else of_candidates.codes
    codes = np.where(requests > 0, requests, np.where(own > 0, own + len(bad.reasons), 0))
    return codes.astype(np.int32), [*bad.reasons, *of_candidates.reasons]
