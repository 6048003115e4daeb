"""Impressions in the order of their requests. In: a Source and its Order; out: tables as lists.py takes them."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from interformer_rec.data.files.source import Source
from interformer_rec.data.grouping.engine import Engine
from interformer_rec.data.grouping.lists import FIRST, ROW, hash_name
from interformer_rec.data.grouping.order import Order
from interformer_rec.data.grouping.plain import plain, plain_table
from interformer_rec.data.grouping.reading import all_tables
from interformer_rec.data.grouping.sides import Sides


def sorted_rows(source: Source, order: Order, sides: Sides, engine: Engine) -> Iterator[pa.Table]:
    """One pass over all columns; sorted by request and row, unless they lie so. A history is sorted once a request."""
    kept = plain_schema(source, sides.written)
    schema = pa.schema([("row", pa.int64()), ("first", pa.int64()), *_numbered(kept)])
    selected = [f'row AS "{ROW}"', f'first AS "{FIRST}"']
    for place, name in enumerate(kept.names):
        if name in sides.candidates:
            selected.append(f'c{place} AS "{_quoted(name)}"')
        else:
            selected.append(f'CASE WHEN row = first THEN c{place} END AS "{_quoted(name)}"')
        if name in sides.once:
            selected.append(f'hash(c{place}) AS "{_quoted(hash_name(name))}"')
    sorting = "" if order.in_order else " ORDER BY first, row"
    return engine.run(f"SELECT {', '.join(selected)} FROM source{sorting}", schema, _rows(source, order, kept, schema))


def plain_schema(source: Source, columns: Sequence[str]) -> pa.Schema:
    """The columns in plain types."""
    return pa.schema([(field.name, plain(field.name, field.type)) for field in source.columns.fields(columns)])


def _rows(source: Source, order: Order, kept: pa.Schema, schema: pa.Schema) -> Iterator[pa.Table]:
    at = 0
    for table in all_tables(source, kept.names):
        rows = np.arange(at, at + table.num_rows)
        at += table.num_rows
        yield pa.table([rows, order.first[rows[0] : at], *plain_table(table, kept).columns], schema=schema)


def _numbered(kept: pa.Schema) -> list[tuple[str, pa.DataType]]:
    return [(f"c{place}", field.type) for place, field in enumerate(kept)]


def _quoted(name: str) -> str:
    return name.replace('"', '""')
