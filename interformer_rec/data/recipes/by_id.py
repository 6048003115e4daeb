"""A table of users, items or products -> its columns at the rows of a log. In: a table with an id column; out: columns by id."""

import numpy as np
import pyarrow as pa


class ById:
    """A table with an id column, its columns by the id of a row."""

    def __init__(self, table: pa.Table, id_column: str) -> None:
        ids = table[id_column].to_numpy()
        order = np.argsort(ids, kind="stable")
        self._ids, self._order, self._table = ids[order], order, table

    def find(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ids (n,) -> rows of the table (n,) and whether the table has the id (n,); the row of an unknown id means nothing."""
        if not len(self._ids):
            return np.zeros(len(ids), np.int64), np.zeros(len(ids), bool)
        place = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)
        return self._order[place], self._ids[place] == ids

    def columns(self, rows: np.ndarray) -> dict[str, pa.Array]:
        """Every column at the rows, texts as strings."""
        taken = self._table.take(pa.array(rows)).combine_chunks()
        return {name: _plain(taken[name]) for name in taken.column_names}

    def column(self, name: str, rows: np.ndarray) -> pa.Array:
        """One column at the rows, texts as strings."""
        return _plain(self._table[name].take(pa.array(rows)))

    def stored(self, name: str, ids: np.ndarray) -> pa.Array:
        """One column at the ids (n,) as the table holds it; null at an id that the table lacks."""
        rows, known = self.find(ids)
        taken = self._table[name].take(pa.array(rows, mask=~known))
        return taken.combine_chunks() if isinstance(taken, pa.ChunkedArray) else taken


def _plain(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
