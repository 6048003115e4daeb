"""Are rows requests? In: a Source; out: the columns that are lists of candidates, and the files with a row a candidate.

`interformer data group` says in its files which columns they are. Otherwise lists are candidates' that have in every row of a sample as
many elements as a list of zeros and ones that is named like feedback: a history has no label, and no row has another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from interformer_rec.data.decode.arrays import elements, is_list, lists
from interformer_rec.data.decode.requests import candidate_schema
from interformer_rec.data.files.source import Source, open_source
from interformer_rec.data.files.unify import is_number
from interformer_rec.data.grouping.request_files import candidates_said
from interformer_rec.data.inspect import column_names as names

SAMPLE_GROUPS, SAMPLE_ROWS = 8, 4096
PARTS = 16  # a batch of candidates is made of so many times fewer requests


@dataclass(frozen=True, eq=False)
class CandidateRows(Source):
    """Files of request rows as if each candidate were a row: the lists' elements, the request's columns repeated."""

    shown: tuple[str, ...] = ()
    requests: Source | None = None  # as they are

    def batches(self, group: int, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
        """As Source's, in tables of about `rows` rows."""
        counted = self.shown[0]
        assert self.requests is not None
        for table in self.requests.batches(group, list(dict.fromkeys([*columns, counted])), max(1, rows // PARTS)):
            counts = lists(table[counted]).lengths
            of = pa.array(np.repeat(np.arange(table.num_rows), counts))
            if len(of):
                yield pa.table(
                    {
                        name: elements(lists(table[name]), counts) if name in self.shown else table[name].take(of)
                        for name in columns
                    }
                )


def opened(path: str, candidates: tuple[str, ...]) -> Source:
    """`open_source`; where `candidates` are lists, with a row a candidate. Reads one column whole to count them."""
    source = open_source(path)
    if not candidates:
        return source
    counts = [_candidates(source, group, candidates[0]) for group in range(len(source.group_rows))]
    known = {id(schema): candidate_schema(schema, candidates) for schema in source.schemas}
    held = {one.name: getattr(source, one.name) for one in fields(Source)}
    held |= {"schemas": tuple(known[id(schema)] for schema in source.schemas), "group_rows": np.array(counts, np.int64)}
    return CandidateRows(**{**held, "_columns": []}, shown=candidates, requests=source)


def candidates_of(source: Source) -> tuple[str, ...]:
    """The columns that are lists of candidates; () where rows are impressions."""
    said = candidates_said(source)
    if said:
        return said
    columns = source.columns.whole(()).schema
    labels = [one for one in columns if names.feedback_rank(one.name) is not None and not _of_history(one.name)]
    listed = [one for one in labels if is_list(one.type) and is_number(one.type.value_type)]
    if not listed or any(is_number(one.type) for one in labels):
        return ()
    others = [one.name for one in columns if is_list(one.type) and not _of_history(one.name)]
    flag = listed[0].name
    equal = set(others)
    for table in _sample(source, others):
        values = pc.unique(lists(table[flag]).values.drop_null().cast(pa.float64())).to_pylist()
        if not set(values) <= {0.0, 1.0}:
            return ()
        equal = {name for name in equal if np.array_equal(lists(table[name]).lengths, lists(table[flag]).lengths)}
    return tuple(name for name in others if name in equal) if len(equal) > 1 else ()


def _of_history(name: str) -> bool:
    return bool(set(names.words(name)) & names.HISTORY)


def _sample(source: Source, columns: list[str]) -> Iterator[pa.Table]:
    filled = np.flatnonzero(source.group_rows)
    for group in filled[np.unique(np.linspace(0, len(filled) - 1, SAMPLE_GROUPS).round().astype(int))].tolist():
        stored = source.columns.stored(int(source.group_file[group]), columns)
        if set(stored) == set(columns):
            yield next(iter(source.batches(group, columns, SAMPLE_ROWS)))


def _candidates(source: Source, group: int, column: str) -> int:
    return sum(int(lists(table[column]).lengths.sum()) for table in source.batches(group, [column], SAMPLE_ROWS))
