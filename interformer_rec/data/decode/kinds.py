"""Do the columns suit the features that read them? In: the files' Arrow schema and the feature schema; out: nothing, or an InputError.

`value_kind` names what a column holds; meaning.py compares the kinds of the files that a model reads with those it was trained on.
"""

from collections.abc import Callable

import pyarrow as pa

from interformer_rec.config.features import FeatureSchema
from interformer_rec.data.decode.arrays import is_list
from interformer_rec.data.decode.id_values import NULL_KIND, id_kind
from interformer_rec.data.files.source import Source
from interformer_rec.data.files.unify import is_number
from interformer_rec.errors import InputError

IDS = "integers or strings (or dates, timestamps, decimals without a fraction, booleans)"


def value_kind(type_: pa.DataType) -> str:
    """What a column (or the elements of its lists) holds: integer, string, date, timestamp (id_values.py says which types are ids of one
    kind), number, ... Types of one kind give equal values the same meaning. "null": no value at all."""
    if is_list(type_):
        return value_kind(type_.value_type)
    return id_kind(type_) or ("number" if pa.types.is_floating(type_) else str(type_))


def columns_of(features: FeatureSchema, labels: bool) -> tuple[str, ...]:
    """Columns to read; for prediction (`labels` False) neither labels, weight nor the group key, unless a feature reads it too."""
    if labels:
        return features.columns(labels=True)
    return features.model_copy(update={"group": None}).columns(labels=False)


def check_kinds(source: Source, features: FeatureSchema, labels: bool) -> None:
    """Raises InputError that names file, column, type found and types allowed, or the table that mixes integers and strings."""
    schema = source.require(columns_of(features, labels))
    check = _Check(source, schema, features.candidate_columns)
    for dense in features.dense:
        check.number(dense.column, f"dense feature {dense.name!r}", dense.fill is not None)
    for single in features.ids:
        check.id(single.column, check.type(single.column), single.table, f"id feature {single.name!r}", features)
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
            check.elements(group.timestamp, what)
            check.that(group.timestamp, _is_time, what, "a list of integers or timestamps", inside=True)
    if labels:
        for label in features.labels:
            check.number(label.column, f"label {label.name!r}", fill=False)
        if features.weight:
            check.number(features.weight, "weight", fill=False)
        if features.group:
            check.that(features.group, lambda type_: id_kind(type_) is not None, "group key", IDS)


class _Check:
    def __init__(self, source: Source, schema: pa.Schema, candidates: frozenset[str]) -> None:
        self._source, self._schema, self._candidates = source, schema, candidates
        for column in schema.names:
            if column in candidates:
                self._list_of_candidates(column)
        self._kinds: dict[str, tuple[str, str]] = {}  # table -> kind of its ids, by this column

    def _list_of_candidates(self, column: str) -> None:
        for file, found in self._source.columns.types(column):
            if not _is_list(found):
                raise InputError(
                    f"column {column!r} of {file!r} is {found}; features.request makes it the candidates': a list a row, an element "
                    "each. Write lists, or leave features.request out: a row is then one candidate's"
                )

    def type(self, column: str) -> pa.DataType:
        """Of a value a row; of the candidates' columns, of an element."""
        return self._unwrapped(column, self._schema.field(column).type)

    def _unwrapped(self, column: str, type_: pa.DataType) -> pa.DataType:
        return type_.value_type if column in self._candidates and is_list(type_) else type_

    def number(self, column: str, what: str, fill: bool) -> None:
        if pa.types.is_null(self.type(column)) and not fill:
            cure = "; set `fill` on the feature or remove it" if what.startswith("dense") else ""
            raise InputError(
                f"column {column!r} holds nulls only, in all files of {self._source.path!r}; {what} needs numbers{cure}"
            )
        self.that(column, _is_number, what, "numbers (integer, floating point, decimal or boolean)")

    def elements(self, column: str, what: str) -> pa.DataType:
        """The type of a list's elements."""
        type_ = self.type(column)
        if pa.types.is_null(type_):
            return type_
        self.that(column, _is_list, what, "a list (list, large_list or fixed_size_list)")
        return type_.value_type

    def id(self, column: str, type_: pa.DataType, table: str, what: str, features: FeatureSchema) -> None:
        whole = self.type(column)
        inside = is_list(whole) and type_.equals(whole.value_type)
        wanted = f"ids: {IDS}; cast the column when writing it"
        self.that(column, lambda found: id_kind(found) is not None, what, wanted, inside)
        kind = id_kind(type_)
        assert kind is not None
        if kind == NULL_KIND:
            return
        if kind == "string" and features.tables[table].ids == "identity":
            wanted = "integers, because its table has ids: identity (or use ids: vocab or hash)"
            self.that(column, lambda found: id_kind(found) != "string", what, wanted, inside)
        seen, other = self._kinds.setdefault(table, (kind, column))
        if seen != kind:
            mixed = " and ".join(f"{one}s" for one in sorted((seen, kind)))
            types = f"{self._schema.field(other).type} and {self._schema.field(column).type}"
            raise InputError(
                f"table {table!r} would mix {mixed}: columns {other!r} and {column!r} of {self._source.files[0]!r} are {types}; write both "
                "alike or use two tables"
            )

    def that(
        self, column: str, suits: Callable[[pa.DataType], bool], what: str, wanted: str, inside: bool = False
    ) -> None:
        """Raises InputError unless the column's type suits (`inside`: of a list, the elements'); it names a file whose type does not."""
        if suits(_elements(self.type(column), inside)):
            return
        types = list(self._source.columns.types(column))
        wrong = (one for one in types if not suits(_elements(self._unwrapped(column, one[1]), inside)))
        file, found = next(wrong, types[0])
        each = ", in a list of candidates" if column in self._candidates else ""
        raise InputError(f"column {column!r} of {file!r} is {found}; {what} needs {wanted}{each}")


def _elements(type_: pa.DataType, inside: bool) -> pa.DataType:
    return type_.value_type if inside and is_list(type_) else type_


def _is_list(type_: pa.DataType) -> bool:
    return is_list(type_) or pa.types.is_null(type_)


def _is_number(type_: pa.DataType) -> bool:
    return is_number(type_) or pa.types.is_null(type_)


def _is_time(type_: pa.DataType) -> bool:
    whole = pa.types.is_integer(type_) or (pa.types.is_decimal(type_) and type_.scale == 0)
    return whole or pa.types.is_timestamp(type_) or pa.types.is_null(type_)
