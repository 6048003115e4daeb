"""DuckDB on streams of Arrow tables. In: tables one after another and a query; out: the result's tables, one after another.

DuckDB sorts and hashes: what does not fit into the memory it may take goes to files in a folder. docs/decisions/0043 has the reasons.
"""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa

from interformer_rec.errors import InputError
from interformer_rec.host import usable_cores

ROWS = 16_384  # of a table handed over at once


class Engine:
    """A connection; made by `engine`."""

    def __init__(self, connection: Any, folder: Path) -> None:
        self._connection, self.folder, self.closed = connection, folder, False

    def run(self, query: str, schema: pa.Schema, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """The result of a query over `source`, which is these tables. An error that they raise comes out as it is."""
        raised: BaseException | None = None

        def batches() -> Iterator[pa.RecordBatch]:
            nonlocal raised
            try:
                for table in tables:
                    yield from table.cast(schema).to_batches()
            except BaseException as error:
                raised = error
                raise

        reader = pa.RecordBatchReader.from_batches(schema, batches())
        self._connection.register("source", reader)
        try:
            for batch in _reader(self._connection.sql(query)):
                yield pa.Table.from_batches([batch])
        except Exception as error:
            if raised is not None:
                raise raised from None
            raise self._told(error) from error
        finally:
            if not self.closed:
                self._connection.unregister("source")

    def _told(self, error: Exception) -> Exception:
        if type(error).__name__ == "OutOfMemoryException":
            return InputError(f"sorting needs more memory or more disk: give more (--memory). DuckDB says: {error}")
        return error


@contextmanager
def engine(beside: Path, memory: float) -> Iterator[Engine]:
    """DuckDB with at most `memory` GiB of its own, and a folder for the rest beside the folder `beside`, which goes at the end.

    Raises InputError where DuckDB is not installed, or for a memory that cannot be.
    """
    require()
    if not memory >= 0.1:
        raise InputError(f"--memory {memory:g}: sorting needs 0.1 GiB at least")
    import duckdb  # an optional package

    beside.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{beside.name}-sorting-", dir=beside.parent) as folder:
        options: dict[str, Any] = {
            "memory_limit": f"{memory:.3f}GiB",
            "temp_directory": folder,
            "threads": usable_cores(),
        }
        connection = duckdb.connect(config=options)
        made = Engine(connection, Path(folder))
        try:
            yield made
        finally:
            made.closed = True  # a result of which the rest is not wanted ends later
            connection.close()


def _reader(result: Any) -> pa.RecordBatchReader:
    """DuckDB 2 has another name for it than DuckDB 1, the last for Python 3.10."""
    read = getattr(result, "to_arrow_reader", None) or result.fetch_arrow_reader
    return read(ROWS)


def require() -> None:
    """Raises InputError without DuckDB: an installation that only trains does not need it."""
    if find_spec("duckdb") is None:
        raise InputError(
            "grouping needs the package duckdb, which is not installed: pip install 'interformer-rec[group]'"
        )
