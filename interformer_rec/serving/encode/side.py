"""One side's features of a request. In: parsed values, a list a column; out: serving/request.Rows, or a Refusal with the value's place."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from interformer_rec.config.features import MISSING_ROW, FeatureSchema
from interformer_rec.data.decode.arrays import is_list
from interformer_rec.data.decode.dense import Moments
from interformer_rec.data.decode.ids import RowMap
from interformer_rec.errors import DamagedError, InputError
from interformer_rec.serving.encode.dense import DenseColumns
from interformer_rec.serving.encode.ids import Ids, ids_of
from interformer_rec.serving.encode.lists import BagColumn, HistoryColumns, Times, WrongElement
from interformer_rec.serving.encode.refusal import Refusal, Wrong, shown
from interformer_rec.serving.request import NO_ROW, Rows, Side


class Origin(NamedTuple):
    """Where columns stood in a request, for messages."""

    part: str  # user, candidates, rows
    numbered: bool = True  # several rows, counted from 0
    shared: Collection[str] = ()  # columns of candidates that the user gave once for all

    def refusal(
        self, column: str, wrong: Wrong, row: int, element: int | None = None, text: str | None = None
    ) -> Refusal:
        """What was wrong, and where; `text` is the value, where it is none of JSON's."""
        user = column in self.shared
        return Refusal(
            wrong.what,
            wrong.cure,
            part="user" if user else self.part,
            field=column,
            row=row if self.numbered and not user else None,
            element=element,
            value=text or shown(wrong.value),
        )

    def column_refusal(self, column: str, what: str, cure: str) -> Refusal:
        """About all values of a column."""
        return Refusal(what, cure, part="user" if column in self.shared else self.part, field=column)


class SideColumns:
    """Reads the columns of the user's side or of the candidates'."""

    def __init__(
        self,
        features: FeatureSchema,
        side: Side,
        types: Mapping[str, pa.DataType],
        maps: Mapping[str, RowMap],
        moments: Mapping[str, Moments],
    ) -> None:
        of_tables = types_of_tables(features, types)

        def reader(column: str, table: str, missing: int = MISSING_ROW) -> Ids:
            type_ = element_type(types[column])
            if pa.types.is_null(type_):
                type_ = of_tables.get(table, type_)
            ids = ids_of(type_, maps[table], features.tables[table], table, missing)
            try:
                ids.many([])
            except InputError as error:
                raise DamagedError(f"column {column!r} is {type_} in the signature: {error}") from None
            return ids

        self._dense = DenseColumns([f for f in features.dense if f.name in side.dense], types, moments)
        self._ids = [
            (one.column, reader(one.column, one.table, MISSING_ROW if one.null == "row" else NO_ROW))
            for one in features.ids
            if one.name in side.ids
        ]
        self._bags = [BagColumn(bag, reader(bag.column, bag.table)) for bag in features.bags if bag.name in side.bags]
        self._histories = [
            HistoryColumns(
                group,
                [reader(column.column, column.table) for column in group.columns],
                Times(element_type(types[group.timestamp])) if group.timestamp else None,
            )
            for group in features.sequences
            if group.name in side.histories
        ]

    def __call__(self, columns: Mapping[str, list[Any]], count: int, origin: Origin) -> Rows:
        """`count` rows. Raises Refusal."""
        try:
            dense = self._dense(columns, count)
        except Wrong as wrong:
            row, place = divmod(wrong.at, len(self._dense.columns))
            raise origin.refusal(self._dense.columns[place], wrong, row) from None
        ids = self._id_rows(columns, count, origin)
        try:
            bags = tuple([bag(columns) for bag in self._bags])
            histories = tuple([history(columns) for history in self._histories])
        except WrongElement as found:
            raise origin.refusal(found.column, found.wrong, found.row, found.element) from None
        return Rows(dense, ids, bags, histories)

    def _id_rows(self, columns: Mapping[str, list[Any]], count: int, origin: Origin) -> np.ndarray:
        column = ""
        try:
            if count == 1:
                row = []
                for column, ids in self._ids:
                    row.append(ids.one(columns[column][0]))
                return np.array([row], np.int64)
            rows = np.empty((count, len(self._ids)), np.int64)
            for place, (column, ids) in enumerate(self._ids):
                rows[:, place] = ids.many(columns[column])
            return rows
        except Wrong as wrong:
            raise origin.refusal(column, wrong, wrong.at) from None


def types_of_tables(features: FeatureSchema, types: Mapping[str, pa.DataType]) -> dict[str, pa.DataType]:
    """Table -> the type of a column that reads it and held values in training; all of a table's are of one kind."""
    pairs = [(one.column, one.table) for one in (*features.ids, *features.bags)]
    pairs += [(column.column, column.table) for group in features.sequences for column in group.columns]
    found = {table: element_type(types[column]) for column, table in pairs}
    found |= {table: type_ for column, table in pairs if not pa.types.is_null(type_ := element_type(types[column]))}
    return found


def element_type(type_: pa.DataType) -> pa.DataType:
    """Of a list's elements; of another column its own."""
    return type_.value_type if is_list(type_) else type_
