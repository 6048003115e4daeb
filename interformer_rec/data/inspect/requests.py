"""Are rows requests? In: a Source; out: the columns that are lists of candidates, and the files with a row a candidate.

`interformer data group` says in its files which columns they are. Otherwise lists are candidates' that have in every row of a sample as
many elements as a list of zeros and ones that is named like feedback: a history has no label, and no row has another one. A list of
structs is the candidates' if one of the fields is such a column.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from interformer_rec.data.decode.arrays import elements, is_list, lists
from interformer_rec.data.decode.requests import candidate_schema
from interformer_rec.data.files.source import Source, open_source
from interformer_rec.data.files.struct_lists import is_struct_list, unpacked
from interformer_rec.data.files.unify import is_number
from interformer_rec.data.grouping.request_files import candidates_said
from interformer_rec.data.inspect import column_names as names

SAMPLE_GROUPS, SAMPLE_ROWS = 8, 4096
PARTS = 16  # a batch of candidates is made of so many times fewer requests


class Candidates(NamedTuple):
    """Whose lists they are, as features.request says it."""

    columns: tuple[str, ...]  # () where rows are impressions
    structs: str | None  # the list of structs whose fields these are; None: they are lists of their own


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


def opened(path: str, candidates: Candidates) -> Source:
    """`open_source`; where there are `candidates`, with a row for each. Reads one column whole to count them."""
    source, (columns, structs) = open_source(path), candidates
    if not columns:
        return source
    source = unpacked(source, structs) if structs is not None else source
    counts = [_candidates(source, group, columns[0]) for group in range(len(source.group_rows))]
    known = {id(schema): candidate_schema(schema, columns) for schema in source.schemas}
    held = {one.name: getattr(source, one.name) for one in fields(Source)}
    held |= {"schemas": tuple(known[id(schema)] for schema in source.schemas), "group_rows": np.array(counts, np.int64)}
    return CandidateRows(**{**held, "_columns": []}, shown=columns, requests=source)


def candidates_of(source: Source) -> Candidates:
    """The columns that are lists of candidates."""
    said = candidates_said(source)
    if said:
        return Candidates(said, None)
    columns = source.columns.whole(()).schema
    structs = [one for one in columns if is_struct_list(one.type) and not _of_history(one.name)]
    for one in structs:
        if any(_flag(source, one, field) for field in one.type.value_type):
            return Candidates(tuple(field.name for field in one.type.value_type), one.name)
    return Candidates(_side_by_side(source, columns), None)


def _flag(source: Source, structs: pa.Field, field: pa.Field) -> bool:
    """Whether a field of a list of structs is a label: zeros and ones, named like feedback."""
    if names.feedback_rank(field.name) is None or not is_number(field.type):
        return False
    if not all(structs.name in schema.names for schema in source.schemas):
        return False
    sample = _sample(unpacked(source, structs.name), [field.name])
    return all(_zeros_and_ones(table[field.name]) for table in sample)


def _zeros_and_ones(listed: pa.ChunkedArray) -> bool:
    values = pc.unique(lists(listed).values.drop_null().cast(pa.float64())).to_pylist()
    return set(values) <= {0.0, 1.0}


def _side_by_side(source: Source, columns: pa.Schema) -> tuple[str, ...]:
    """Lists as long as a label's."""
    labels = [one for one in columns if names.feedback_rank(one.name) is not None and not _of_history(one.name)]
    listed = [one for one in labels if is_list(one.type) and is_number(one.type.value_type)]
    if not listed or any(is_number(one.type) for one in labels):
        return ()
    others = [one.name for one in columns if is_list(one.type) and not _of_history(one.name)]
    flag = listed[0].name
    equal = set(others)
    for table in _sample(source, others):
        if not _zeros_and_ones(table[flag]):
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
