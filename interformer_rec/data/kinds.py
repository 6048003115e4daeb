"""Do the columns suit the features that read them? In: the files' Arrow schema and the feature schema; out: nothing, or an InputError.

`value_kind` names what a column holds; meaning.py compares the kinds of the files that a model reads with those it was trained on.
"""

from __future__ import annotations

import pyarrow as pa

from interformer_rec.data.arrays import is_id, is_list, is_string
from interformer_rec.data.source import Source
from interformer_rec.errors import InputError
from interformer_rec.schema import FeatureSchema


def value_kind(type_: pa.DataType) -> str:
    """What a column (or the elements of its lists) holds: integer, string, number, boolean, timestamp, ... Types of one kind give equal
    values the same meaning: the widths of integers and the layouts of strings and lists are not a difference. "null": no value at all."""
    if is_list(type_) or pa.types.is_dictionary(type_):
        return value_kind(type_.value_type)
    if is_string(type_):
        return "string"
    named = {
        "null": pa.types.is_null,
        "integer": pa.types.is_integer,
        "number": pa.types.is_floating,
        "boolean": pa.types.is_boolean,
        "timestamp": pa.types.is_timestamp,
        "date": pa.types.is_date,
        "decimal": pa.types.is_decimal,
    }
    return next((kind for kind, holds in named.items() if holds(type_)), str(type_))


def columns_of(features: FeatureSchema, labels: bool) -> tuple[str, ...]:
    """Columns to read; for prediction (`labels` False) neither labels, weight nor the group key, unless a feature reads it too."""
    if labels:
        return features.columns(labels=True)
    return features.model_copy(update={"group": None}).columns(labels=False)


def check_kinds(source: Source, features: FeatureSchema, labels: bool) -> None:
    """Raises InputError that names file, column, type found and types allowed, or the table that mixes integers and strings."""
    schema = source.require(columns_of(features, labels))
    check = _Check(source.files[0], schema)
    for dense in features.dense:
        check.number(dense.column, f"dense feature {dense.name!r}")
    for single in features.ids:
        check.id(single.column, schema.field(single.column).type, single.table, f"id feature {single.name!r}", features)
    for bag in features.bags:
        check.id(
            bag.column,
            check.elements(bag.column, f"bag feature {bag.name!r}"),
            bag.table,
            f"bag feature {bag.name!r}",
            features,
        )
    for group in features.sequences:
        for column in group.columns:
            what = f"sequence column '{group.name}.{column.name}'"
            check.id(column.column, check.elements(column.column, what), column.table, what, features)
        if group.timestamp:
            what = f"timestamp of sequence group {group.name!r}"
            type_ = check.elements(group.timestamp, what)
            if not (pa.types.is_integer(type_) or pa.types.is_timestamp(type_)):
                check.fail(group.timestamp, what, "a list of integers or timestamps")
    if labels:
        for label in features.labels:
            check.number(label.column, f"label {label.name!r}")
        if features.weight:
            check.number(features.weight, "weight")
        if features.group and not is_id(schema.field(features.group).type):
            check.fail(features.group, "group key", "integers or strings")


class _Check:
    def __init__(self, file: str, schema: pa.Schema) -> None:
        self._file, self._schema = file, schema
        self._strings: dict[str, tuple[bool, str]] = {}  # table -> fed with strings, by this column

    def number(self, column: str, what: str) -> None:
        type_ = self._schema.field(column).type
        if not (pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_boolean(type_)):
            self.fail(column, what, "numbers (integer, floating point or boolean)")

    def elements(self, column: str, what: str) -> pa.DataType:
        type_ = self._schema.field(column).type
        if not is_list(type_):
            self.fail(column, what, "a list (list, large_list or fixed_size_list)")
        return type_.value_type

    def id(self, column: str, type_: pa.DataType, table: str, what: str, features: FeatureSchema) -> None:
        if not is_id(type_):
            self.fail(column, what, "ids: integers or strings; cast the column when writing it")
        string = is_string(type_)
        if string and features.tables[table].ids == "identity":
            self.fail(column, what, "integers, because its table has ids: identity (or use ids: vocab or hash)")
        seen, other = self._strings.setdefault(table, (string, column))
        if seen != string:
            raise InputError(
                f"table {table!r} would mix integers and strings: columns {other!r} and {column!r} of {self._file!r} are "
                f"{self._schema.field(other).type} and {self._schema.field(column).type}; write both alike or use two tables"
            )

    def fail(self, column: str, what: str, wanted: str) -> None:
        found = self._schema.field(column).type
        raise InputError(f"column {column!r} of {self._file!r} is {found}; {what} needs {wanted}")
