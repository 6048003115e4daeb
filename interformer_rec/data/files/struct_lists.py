"""Lists of structs as lists: candidates of a request that are one list<struct<...>> column. In: a Source; out: a Source with a list column
for each field of the struct.

Only the fields that are asked for are read. Nothing is copied: the lists share the bounds of the list of structs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa

from interformer_rec.config.features import FeatureSchema
from interformer_rec.data.files.source import Source
from interformer_rec.errors import InputError

NEEDS = "a list of structs, whose fields are the candidates' columns"


def with_candidate_lists(source: Source, features: FeatureSchema) -> Source:
    """`unpacked` by features.request.column; the source as it is where the candidates' columns are lists already."""
    column = features.request.column if features.request is not None else None
    return source if column is None else unpacked(source, column)


def unpacked(source: Source, column: str) -> Source:
    """The source with the fields of the struct in place of `column`; one that is unpacked already stays.

    Raises InputError unless every file holds the column as a list of structs.
    """
    if isinstance(source, CandidateLists):
        return source
    for file, schema in zip(source.files, source.schemas, strict=True):
        if column not in schema.names:
            raise InputError(
                f"column {column!r} (features.request.column) is missing in {file!r}. Its columns: {', '.join(schema.names)}. Correct "
                "the name, or leave features.request.column out: each column of the candidates is then a list of its own"
            )
        found = schema.field(column).type
        if not is_struct_list(found):
            raise InputError(
                f"column {column!r} of {file!r} is {found}; features.request.column needs {NEEDS}. Leave features.request.column out "
                "where each column of the candidates is a list of its own"
            )
    made: dict[int, pa.Schema] = {}  # equal schemas are one object
    for schema in source.schemas:
        made.setdefault(id(schema), _schema(schema, column))
    held = {one.name: getattr(source, one.name) for one in fields(Source)}
    held |= {"schemas": tuple(made[id(schema)] for schema in source.schemas), "_columns": []}
    return _Unpacked(**held, column=column, packed=source)


def is_struct_list(type_: pa.DataType) -> bool:
    """Lists (list, large_list or fixed_size_list) of structs."""
    lists = pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_)
    return lists and pa.types.is_struct(type_.value_type)


@dataclass(frozen=True, eq=False)
class CandidateLists(Source):
    """A source in which the candidates' columns are lists of their own, whatever the files hold."""


@dataclass(frozen=True, eq=False)
class _Unpacked(CandidateLists):
    column: str = ""
    packed: Source | None = None  # the files as they are

    def read(self, groups: Sequence[int], columns: Sequence[str], strings: bool = False) -> pa.Table:
        """As Source's. One that leaves rows out (windows by time) reads the structs whole."""
        assert self.packed is not None
        if type(self.packed) is Source:
            return super().read(groups, columns, strings)
        inside = {field.name for schema in self.packed.schemas for field in schema.field(self.column).type.value_type}
        wanted = [name for name in columns if name not in inside]
        wanted += [self.column] if len(wanted) < len(columns) else []
        return self._lists(self.packed.read(groups, wanted, strings)).select(list(columns))

    def where_row(self, groups: Sequence[int], row: int) -> str:
        """As Source's."""
        assert self.packed is not None
        return self.packed.where_row(groups, row)

    def batches(self, group: int, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
        """As Source's."""
        file = int(self.group_file[group])
        assert self.packed is not None
        for table in self.packed.batches(group, self._stored(file, columns), rows):
            yield self._lists(table).select(list(columns))

    def check_size(self, group: int, columns: Sequence[str]) -> None:
        """As Source's."""
        file = int(self.group_file[group])
        assert self.packed is not None
        self.packed.check_size(group, self._stored(file, self.columns.stored(file, columns)))

    def _read(self, file: int, groups: np.ndarray, columns: Sequence[str], strings: bool = False) -> pa.Table:
        assert self.packed is not None
        table = self.packed._read(file, groups, self._stored(file, columns), strings)
        return self._lists(table).select(list(columns))

    def _stored(self, file: int, columns: Sequence[str]) -> list[str]:
        """Columns and paths of fields, as the file has them."""
        assert self.packed is not None
        plain = set(self.packed.schemas[file].names) - {self.column}
        footer = self.packed._file(file).footer
        paths = [[name] if name in plain else footer.paths(self.column, name) for name in columns]
        return [path for of_column in paths for path in of_column]

    def _lists(self, table: pa.Table) -> pa.Table:
        if self.column not in table.column_names:
            return table
        packed = table[self.column]
        columns = {name: table[name] for name in table.column_names if name != self.column}
        parts = [_unpack(chunk) for chunk in packed.chunks] or [_unpack(pa.array([], packed.type))]
        for place, field in enumerate(packed.type.value_type):
            columns[field.name] = pa.chunked_array([part[place] for part in parts])
        return pa.table(columns)


def _schema(schema: pa.Schema, column: str) -> pa.Schema:
    found: list[pa.Field] = []
    for field in schema:
        if field.name != column:
            found.append(field)
            continue
        of = pa.large_list if pa.types.is_large_list(field.type) else pa.list_
        found += [pa.field(inside.name, of(inside.type)) for inside in field.type.value_type]
    return pa.schema(found)


def _unpack(packed: pa.Array) -> list[pa.Array]:
    """Of each field a list array with the bounds and nulls of `packed`; what a null struct holds is null."""
    if pa.types.is_fixed_size_list(packed.type):
        packed = packed.cast(pa.list_(packed.type.value_type))
    of = pa.large_list if pa.types.is_large_list(packed.type) else pa.list_
    bounds = packed.buffers()[:2]
    return [
        pa.Array.from_buffers(of(part.type), len(packed), bounds, packed.null_count, packed.offset, [part])
        for part in packed.values.flatten()
    ]
