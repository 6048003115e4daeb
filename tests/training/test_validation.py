"""A run and its validation set: what is saved before an evaluation, and what an evaluation that fails leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.checkpoint.evaluated import FILE
from interformer_rec.checkpoint.retention import Checkpoints
from interformer_rec.errors import InputError
from interformer_rec.training import run
from interformer_rec.training.folder.run_folder import RunFolder
from tests.forked import command
from tests.training.runs import records, save_config


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
    with pytest.raises(
        InputError, match=r"after step 12: .*bad.parquet.*row 7 of the file.*--resume begins with its evaluation"
    ):
        run.train(small(*overrides, f"data.valid={bad}"))
    saved = tmp_path / "run" / "checkpoints" / "step-00000012"
    assert (saved / "manifest.json").exists() and not (saved / FILE).exists()
    assert run.train(small(*overrides), resume=True) == 0
    assert [r["step"] for r in records(tmp_path / "run", "valid")] == [12, 24]
    assert sum(r["rows"] for r in records(tmp_path / "run", "train")) == 2 * 1501
    best = Checkpoints(tmp_path / "run" / "checkpoints").best()
    losses = [r["label/auc"] for r in records(tmp_path / "run", "valid")]
    assert best == ("step-00000012" if losses[0] >= losses[1] else "step-00000024")


def test_a_bad_row_in_test_leaves_the_report_and_is_tested_again(small, synthetic, tmp_path, capfd):
    bad = with_labels(synthetic / "test.parquet", tmp_path / "bad.parquet", lambda i, y: None if i == 149 else y)
    overrides = ("training.epochs=1", "training.max_steps=3")
    with pytest.raises(
        InputError, match=r"report is written; the test failed: .*bad.parquet.*row 149 of the file.*--resume"
    ):
        run.train(small(*overrides, f"data.test={bad}"))
    folder = tmp_path / "run"
    assert json.loads((folder / "evaluation.json").read_text()).keys() == {"valid"}
    for name in ("data.json", "measured.json", "report.html"):
        assert (folder / name).exists(), name
    assert not (folder / "complete.json").exists()
    assert run.train(small(*overrides), resume=True) == 0
    assert json.loads((folder / "evaluation.json").read_text()).keys() == {"valid", "test"}
    assert (folder / "complete.json").exists() and len(records(folder, "test")) == 1


@pytest.mark.parametrize("split", ["valid", "test"])
@pytest.mark.parametrize("column", ["label", "item_id"])
def test_the_columns_of_every_split_are_checked_before_the_first_step(small, synthetic, tmp_path, split, column):
    table = pq.read_table(synthetic / f"{split}.parquet")
    for name, changed in (
        ("missing", table.drop_columns([column])),
        ("binary", table.set_column(0, column, pa.array([b"x"] * len(table))) if column == "label" else None),
    ):
        if changed is None:
            continue
        pq.write_table(changed, tmp_path / f"{name}.parquet")
        with pytest.raises(InputError, match=rf"column '{column}'.*{name}.parquet"):
            run.train(small(f"data.{split}={tmp_path}/{name}.parquet"))
        assert not (tmp_path / "run").exists()


def test_a_monitor_that_is_not_defined_falls_back_and_says_so(small, synthetic, tmp_path, capfd):
    """Validation rows of one class have no AUC: patience and the best checkpoint go by logloss, until there is an AUC again."""
    ones = with_labels(synthetic / "valid.parquet", tmp_path / "ones.parquet", lambda i, y: 1)
    overrides = ("data.test=null", "training.patience=0", "training.checkpoint.keep=9")
    frozen = ("optimizer.dense.lr=1e-30", "optimizer.embedding.lr=1e-30")
    assert run.train(small(*overrides, *frozen, f"data.valid={ones}", "training.epochs=9")) == 0
    said = capfd.readouterr().err
    assert said.count("training.monitor label/auc is not defined on data.valid (all rows have the label 1)") == 1
    assert "go by label/logloss from here on" in said
    folder = tmp_path / "run"
    assert [record["step"] for record in records(folder, "valid")] == [12, 24]  # the second is no better
    best = RunFolder(small()).checkpoints.best()
    assert best == "step-00000012"
    more = ("training.patience=5", "training.epochs=9", "training.max_steps=30")
    assert run.train(small(*overrides, *more), resume=True) == 0
    assert "data.valid defines label/auc again" in capfd.readouterr().err
    assert RunFolder(small()).checkpoints.best() == "step-00000030"


def test_rows_without_weight_are_no_evaluation(small, synthetic, tmp_path):
    table = pq.read_table(synthetic / "valid.parquet")
    pq.write_table(table.append_column("w", pa.array([0.0] * len(table))), tmp_path / "valid.parquet")
    table = pq.read_table(synthetic / "train")
    pq.write_table(table.append_column("w", pa.array([1.0] * len(table))), tmp_path / "train.parquet")
    files = (f"data.train={tmp_path}/train.parquet", f"data.valid={tmp_path}/valid.parquet", "data.test=null")
    with pytest.raises(InputError, match="nothing was evaluated: all 150 rows have weight 0"):
        run.train(small(*files, "features.weight=w", "training.max_steps=2"))


def test_training_rows_without_weight_are_no_training(small, synthetic, tmp_path):
    table = pq.read_table(synthetic / "train")
    weights = {"none": [0.0] * len(table), "one": [0.0] * (len(table) - 1) + [1.0]}
    for name, of in weights.items():
        pq.write_table(table.append_column("w", pa.array(of)), tmp_path / f"{name}.parquet")
    options = ("data.valid=null", "data.test=null", "features.weight=w", "training.epochs=1", "data.shuffle_rows=0")
    with pytest.raises(InputError, match=r"after step 12: all rows of data\.train .* weight 0, .* correct column 'w'"):
        run.train(small(*options, f"data.train={tmp_path}/none.parquet"))
    with pytest.raises(InputError, match=r"after step 3: all rows of data\.train"):
        run.train(
            small(
                *options,
                f"data.train={tmp_path}/none.parquet",
                f"training.out={tmp_path}/short",
                "training.max_steps=3",
            )
        )
    assert run.train(small(*options, f"data.train={tmp_path}/one.parquet", f"training.out={tmp_path}/one")) == 0


@pytest.mark.slow
def test_a_bad_row_of_one_rank_loses_no_epoch(small, synthetic, tmp_path):
    bad = with_labels(synthetic / "valid.parquet", tmp_path / "bad.parquet", lambda i, y: None if i == 149 else y)
    overrides = ("data.test=null", "training.epochs=1")
    path = save_config(small, tmp_path, *overrides, f"data.valid={bad}")
    ended = command(2, "train", path)
    assert all(rank.code for rank in ended) and any("row 149 of the file" in rank.printed for rank in ended)
    assert (tmp_path / "run" / "checkpoints" / "step-00000006" / "manifest.json").exists()
    assert run.train(small(*overrides), resume=True) == 0
    assert [record["step"] for record in records(tmp_path / "run", "valid")] == [6]
