"""Split files: full row groups from tables of any size, in order; splits without rows."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.data.recipes.split_files import ROW_GROUP, SplitFiles
from interformer_rec.errors import InputError


def test_tables_of_any_size_become_full_row_groups(tmp_path: Path) -> None:
    rows = pa.table({"x": range(2 * ROW_GROUP + 5)})
    with SplitFiles(tmp_path) as files:
        for start, stop in ((0, 3), (3, 3), (3, ROW_GROUP + 1), (ROW_GROUP + 1, len(rows))):
            files.add("train", rows.slice(start, stop - start))
        for split in ("valid", "test"):
            files.add(split, rows.slice(0, 1))
    assert files.counts("") == {"train.parquet": len(rows), "valid.parquet": 1, "test.parquet": 1}
    written = pq.ParquetFile(tmp_path / "train.parquet")
    assert [written.metadata.row_group(n).num_rows for n in range(3)] == [ROW_GROUP, ROW_GROUP, 5]
    assert written.read().equals(rows)


def test_a_split_without_rows_is_an_error(tmp_path: Path) -> None:
    with SplitFiles(tmp_path) as files:
        files.add("train", pa.table({"x": [1]}))
    with pytest.raises(InputError, match="no row for valid, test: look here"):
        files.counts("look here")
