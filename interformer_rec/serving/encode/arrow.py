"""Requests as Arrow tables: the training Decoder reads them, as it reads files. In: columns; out: serving/request.Rows, or a Refusal.

A column may have another width or layout than in the training files, as a file may that `predict` reads, and no other kind of value.
Where few values come in the types of the signature, the reader of JSON takes them: the Decoder costs as much for one row as for hundreds.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from interformer_rec.config.features import FeatureSchema
from interformer_rec.data.decode.arrays import is_list
from interformer_rec.data.decode.bad_rows import BadRows, shown
from interformer_rec.data.decode.columns import Columns
from interformer_rec.data.decode.decoder import Decoder
from interformer_rec.data.decode.ids import RowMap
from interformer_rec.data.decode.kinds import value_kind
from interformer_rec.data.files.unify import bare, is_text
from interformer_rec.data.fit import Fitted
from interformer_rec.data.meaning import NO_VALUES, is_id
from interformer_rec.serving.encode.refusal import Refusal, Wrong
from interformer_rec.serving.encode.side import Origin, SideColumns, element_type, types_of_tables
from interformer_rec.serving.request import NO_ROW, Bags, Histories, Rows, Side

NUMBERS = ("integer", "number")
FEW = 256  # values a column, below which the reader of JSON is faster


class ArrowColumns:
    """As SideColumns, of Arrow's columns."""

    def __init__(
        self,
        features: FeatureSchema,
        side: Side,
        types: Mapping[str, pa.DataType],
        maps: Mapping[str, RowMap],
        fitted: Fitted,
        thin: SideColumns,
    ) -> None:
        # model_copy would copy what the whole schema has cached
        mine = FeatureSchema.model_construct(
            tables=features.tables,
            dense=tuple(one for one in features.dense if one.name in side.dense),
            ids=tuple(one for one in features.ids if one.name in side.ids),
            bags=tuple(one for one in features.bags if one.name in side.bags),
            sequences=tuple(one for one in features.sequences if one.name in side.histories),
            labels=features.labels,
        )
        self._features, self._decoder = mine, Decoder(mine, fitted, labels=False, maps=maps)
        self._kinds = _kinds(mine, types)
        self._thin, self._types = thin, {name: types[name] for name in self._kinds}
        self._plain = all(_is_plain(element_type(type_)) for type_ in self._types.values())
        self._lists = {one.column for one in mine.bags} | {c.column for group in mine.sequences for c in group.columns}
        self._times = {group.timestamp for group in mine.sequences if group.timestamp}

    def __call__(self, columns: Mapping[str, pa.ChunkedArray | None], count: int, origin: Origin) -> Rows:
        """`count` rows; None is a column of nulls. Raises Refusal."""
        if not self._kinds:  # a table without columns has no rows
            return Rows(np.zeros((count, 0), np.float32), np.zeros((count, 0), np.int64), (), ())
        checked = {name: self._checked(name, columns[name], count, origin) for name in self._kinds}
        if self._plain and self._few_alike(checked):
            return self._thin({name: column.to_pylist() for name, column in checked.items()}, count, origin)
        table = pa.table(checked)
        return self._rows(self._decoder.columns(table, _Refusing(table, origin)), count)

    def _few_alike(self, columns: Mapping[str, pa.ChunkedArray]) -> bool:
        """Whether few values come in the very types of the signature."""
        values = 0
        for name, column in columns.items():
            if not bare(column.type).equals(self._types[name]):
                return False
            values += sum(len(part.flatten()) for part in column.chunks) if is_list(column.type) else len(column)
        return values < FEW * len(columns)

    def _checked(self, name: str, column: pa.ChunkedArray | None, count: int, origin: Origin) -> pa.ChunkedArray:
        if column is None:
            return pa.chunked_array([pa.nulls(count)])
        type_, wanted = column.type, self._kinds[name]
        found, lists = value_kind(type_), name in self._lists | self._times
        if wanted == "number" and found in NUMBERS:
            found = wanted
        if found not in (wanted, NO_VALUES) or (is_list(type_) != lists and not pa.types.is_null(type_)):
            needs = f"a list of {wanted} values" if lists else f"{wanted} values"
            raise self._type(name, f"a column of type {type_}, where the model was trained on {needs}", origin)
        if name in self._times and pa.types.is_decimal(type_.value_type) and type_.value_type.scale:
            raise self._type(name, f"times of type {type_.value_type}, which have fractions", origin)
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:
            raise self._type(name, f"a column that is no valid Arrow ({error})", origin) from None
        return column

    def _type(self, name: str, what: str, origin: Origin) -> Refusal:
        return origin.column_refusal(name, what, "Write the column as the signature has it")

    def _rows(self, columns: Columns, count: int) -> Rows:
        singles = {feature.name: at for at, feature in enumerate(self._decoder.layout.singles)}
        lists = {feature.name: at for at, feature in enumerate(self._decoder.layout.jagged)}
        ids = np.full((count, len(self._features.ids)), NO_ROW, np.int64)
        for at, feature in enumerate(self._features.ids):
            if feature.name in singles:
                ids[:, at] = columns.singles[:, singles[feature.name]]
            else:
                found = columns.jagged[lists[feature.name]]
                ids[found.lengths == 1, at] = found.events[:, 0]
        bags = [columns.jagged[lists[bag.name]] for bag in self._features.bags]
        groups = [columns.jagged[lists[group.name]] for group in self._features.sequences]
        return Rows(
            columns.dense,
            ids,
            tuple(Bags(bag.events[:, 0].astype(np.int64), bag.lengths) for bag in bags),
            tuple(Histories(group.events.astype(np.int64), group.lengths) for group in groups),
        )


class _Refusing(BadRows):
    """The first bad row is a Refusal."""

    def __init__(self, table: pa.Table, origin: Origin) -> None:
        super().__init__(table, str, skip=False)
        self._origin = origin

    def add(
        self, column: str, what: str, rows: np.ndarray, cure: str, value: Callable[[int], object] | None = None
    ) -> None:
        """As BadRows.add."""
        if len(rows):
            row = int(rows[0])
            found = value(row) if value else self._table[column][row]
            wrong = Wrong(what, cure.replace("the file", "the request"), None)
            raise self._origin.refusal(column, wrong, row, text=shown(found))


def _is_plain(type_: pa.DataType) -> bool:
    """Whether Python's values of this type are JSON's, each with the same meaning."""
    integer = pa.types.is_integer(type_) or pa.types.is_boolean(type_)
    return integer or pa.types.is_float32(type_) or pa.types.is_float64(type_) or is_text(type_)


def _kinds(features: FeatureSchema, types: Mapping[str, pa.DataType]) -> dict[str, str]:
    """Column -> the kind of its values; of one that held none, the kind of its table."""
    of_tables = types_of_tables(features, types)
    kinds = {column: value_kind(types[column]) for column in features.columns(labels=False)}
    pairs: list[tuple[Any, str]] = [(one.column, one.table) for one in (*features.ids, *features.bags)]
    pairs += [(column.column, column.table) for group in features.sequences for column in group.columns]
    for column, table in pairs:
        if kinds[column] == NO_VALUES:
            kinds[column] = value_kind(of_tables[table])
    return {
        column: kind if is_id(features, column) or kind not in (*NUMBERS, NO_VALUES) else "number"
        for column, kind in kinds.items()
    }
