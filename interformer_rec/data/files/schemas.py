"""The files of a data set as one: which columns they have, in which types, and how a file's columns become the data set's.

In: each file's Arrow schema and the keys in its folders' names; out: one schema, and tables cast to it. Where all files have one schema
and no folder holds a key, nothing is cast.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from interformer_rec.data.files.partitions import Keys, partition_types, partition_value
from interformer_rec.data.files.unify import agrees, cast, encoded, widest
from interformer_rec.errors import InputError


class Whole(NamedTuple):
    """All columns of a data set, for who hands them on."""

    schema: pa.Schema
    left_out: tuple[str, ...]  # why a column is not in it: 'column: reason'


class FileSchemas:
    """Made once per Source from what the footers say; used by several threads."""

    def __init__(self, path: str, files: Sequence[str], schemas: Sequence[pa.Schema], keys: Sequence[Keys]) -> None:
        self._path, self._files, self._schemas, self._keys = path, files, schemas, keys
        # equal schemas are one object; the first file of each
        self._first = {id(schema): file for file, schema in zip(reversed(files), reversed(schemas), strict=True)}
        self._distinct = list({id(schema): schema for schema in schemas}.values())
        self._key_types = partition_types(keys)
        self._fields: dict[str, pa.Field] = {}
        self._everywhere: set[str] = set()  # columns that no file lacks
        self.uniform = len(self._distinct) == 1 and not self._key_types

    def require(self, columns: Sequence[str]) -> pa.Schema:
        """The schema of these columns. Raises InputError if a file lacks one, or two files hold it as types that have none in common."""
        for name in columns:
            if name not in self._everywhere:
                self._require_everywhere(name)
                self._everywhere.add(name)
        return self.fields(columns)

    def fields(self, columns: Sequence[str]) -> pa.Schema:
        """The schema of columns that some files may lack."""
        for name in columns:
            if name not in self._fields:
                self._fields[name] = self._field(name)
        return pa.schema([self._fields[name] for name in columns])

    def whole(self, needed: Sequence[str]) -> Whole:
        """All columns of all files, in the order in which they come; `needed` ones raise InputError as `require` does.

        A column that some files lack is null there; one that files hold in types without a common one is left out.
        """
        names = dict.fromkeys(name for schema in self._distinct for name in schema.names)
        names |= dict.fromkeys(self._key_types)
        self.require(needed)
        fields, left_out = [], []
        for name in names:
            try:
                fields.append(self.fields((name,))[0])
            except InputError as error:
                left_out.append(f"{name}: {error}")
        return Whole(pa.schema(fields), tuple(left_out))

    def stored(self, file: int, columns: Sequence[str]) -> list[str]:
        """Those of the columns that the file itself holds."""
        return list(columns) if self.uniform else [name for name in columns if name in self._schemas[file].names]

    def conform(
        self, table: pa.Table, file: int, schema: pa.Schema, strings: bool, where: Callable[[], str]
    ) -> pa.Table:
        """What was read of a file -> the columns of `schema`; `strings`: as dictionaries. Raises InputError with `where()`."""
        out = []
        for field in schema:
            column = table[field.name] if field.name in table.column_names else None
            type_ = encoded(field.type) if strings else field.type
            key = self._key(file, field.name)
            try:
                if column is None:
                    value = key if key is not None else pa.scalar(None, pa.null())
                    column = _constant(value, table.num_rows, field.type)
                elif key is not None and not agrees(column, key):
                    raise InputError(
                        f"column {field.name!r} of {where()} differs from the name of its folder, {field.name}={key.as_py()}. Leave the "
                        "column out of the file, or name the folder after its values"
                    )
                out.append(cast(column, type_, exact=not strings))
            except pa.ArrowException as error:
                raise InputError(
                    f"column {field.name!r} of {where()} does not fit {field.type}, the widest type that the files of {self._path!r} hold "
                    f"it in: {error}. Write the files with one schema"
                ) from None
        return pa.table(out, schema=pa.schema([pa.field(f.name, c.type) for f, c in zip(schema, out, strict=True)]))

    def types(self, name: str) -> Iterator[tuple[str, pa.DataType]]:
        """The types in which files hold a column, each with the first file that has it; a folder's key last."""
        found: dict[pa.DataType, str] = {}
        for schema in self._distinct:
            for place in schema.get_all_field_indices(name):
                found.setdefault(schema.field(place).type, self._first[id(schema)])
        if name in self._key_types and any(name not in schema.names for schema in self._distinct):
            file = next(f for f, keys in zip(self._files, self._keys, strict=True) if name in keys)
            found.setdefault(self._key_types[name], file)
        yield from ((file, type_) for type_, file in found.items())

    def _field(self, name: str) -> pa.Field:
        for schema in self._distinct:
            count = schema.names.count(name)
            if count > 1:
                file, names = self._first[id(schema)], ", ".join(schema.names)
                raise InputError(f"column {name!r} is there {count} times in {file!r}. Its columns: {names}")
        found = list(self.types(name))
        fields = [schema.field(name) for schema in self._distinct if name in schema.names]
        if len(fields) == len(self._distinct) and all(field.equals(fields[0]) for field in fields):
            return fields[0]
        type_: pa.DataType | None = found[0][1]
        for number, (file, other) in enumerate(found[1:], 1):
            assert type_ is not None
            type_ = widest(type_, other)
            if type_ is None:
                first, held = next(
                    (pair for pair in found[:number] if widest(pair[1], other) is None), found[number - 1]
                )
                raise InputError(
                    f"the files of {self._path!r} differ: column {name!r} is {held} in {first!r} but {other} in {file!r}, and no type "
                    "holds both; write them with one schema"
                )
        return pa.field(name, type_)

    def _require_everywhere(self, name: str) -> None:
        for file, schema, keys in zip(self._files, self._schemas, self._keys, strict=True):
            if name in schema.names or name in keys:
                continue
            folders = f"; the names of its folders hold {', '.join(keys)}" if keys else ""
            raise InputError(f"column {name!r} is missing in {file!r}. Its columns: {', '.join(schema.names)}{folders}")

    def _key(self, file: int, name: str) -> pa.Scalar | None:
        keys = self._keys[file]
        return partition_value(keys[name], self._key_types[name]) if name in keys else None


def _constant(value: pa.Scalar, rows: int, type_: pa.DataType) -> pa.ChunkedArray:
    """A column of one value in all rows; strings are kept once."""
    if not value.is_valid:
        return pa.chunked_array([pa.nulls(rows, type_)])
    if pa.types.is_string(value.type):
        indices = pa.array(np.zeros(rows, np.int32))
        return pa.chunked_array([pa.DictionaryArray.from_arrays(indices, pa.array([value.as_py()], value.type))])
    return pa.chunked_array([pa.repeat(value, rows)])
