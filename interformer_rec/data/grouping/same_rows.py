"""Are two sets of rows the same, in whatever order? In: tables; out: what two sets that are the same have in common."""

from collections.abc import Iterable
from typing import NamedTuple

import pyarrow as pa

from interformer_rec.data.grouping.engine import Engine
from interformer_rec.data.grouping.plain import plain_table


class Rows(NamedTuple):
    """Of rows as a multiset: a row that is missing, changed or there twice gives another sum."""

    rows: int
    total: int  # of 64-bit hashes of all values of a row


def rows_of(tables: Iterable[pa.Table], schema: pa.Schema, engine: Engine) -> Rows:
    """Reads all tables; `schema`: the columns to compare, in plain types."""
    numbered = pa.schema([(f"c{place}", field.type) for place, field in enumerate(schema)])
    plainly = (plain_table(table, schema).rename_columns(numbered.names) for table in tables)
    query = f"SELECT count(*) AS rows, CAST(sum(hash({', '.join(numbered.names)})::HUGEINT) AS VARCHAR) AS total FROM source"
    (found,) = engine.run(query, numbered, plainly)
    return Rows(found["rows"][0].as_py(), int(found["total"][0].as_py() or 0))
