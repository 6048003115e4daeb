"""A run and its validation set: what is saved before an evaluation, and what an evaluation that fails leaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.distributed.checkpoints import Checkpoints
from interformer_rec.distributed.evaluated import FILE
from interformer_rec.errors import InputError
from interformer_rec.training import run
from tests.training.runs import records


def with_labels(source: Path, target: Path, change: Callable[[int, int], int | None]) -> str:
    """The same rows, the label of row i being change(i, label)."""
    table = pq.read_table(source)
    labels = [change(i, label) for i, label in enumerate(table["label"].to_pylist())]
    at = table.schema.get_field_index("label")
    pq.write_table(table.set_column(at, "label", pa.array(labels, pa.int64())), target)
    return str(target)


@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_bad_row_in_valid_loses_no_epoch(small, synthetic, tmp_path, asynchronous):
    bad = with_labels(synthetic / "valid.parquet", tmp_path / "bad.parquet", lambda i, y: None if i == 7 else y)
    overrides = ("data.test=null", f"training.checkpoint.asynchronous={asynchronous}")
    with pytest.raises(InputError, match=r"after step 12: .*bad.parquet.*row 7 of the file"):
        run.train(small(*overrides, f"data.valid={bad}"))
    saved = tmp_path / "run" / "checkpoints" / "step-00000012"
    assert (saved / "manifest.json").exists() and not (saved / FILE).exists()
    assert run.train(small(*overrides), resume=True) == 0
    assert [r["step"] for r in records(tmp_path / "run", "valid")] == [12, 24]
    assert sum(r["rows"] for r in records(tmp_path / "run", "train")) == 2 * 1501
    best = Checkpoints(tmp_path / "run" / "checkpoints").best()
    losses = [r["label/auc"] for r in records(tmp_path / "run", "valid")]
    assert best == ("step-00000012" if losses[0] >= losses[1] else "step-00000024")
