"""Rows that are skipped: the limit, over all ranks, while a run trains and evaluates."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.errors import InputError
from interformer_rec.training import run
from tests.forked import command
from tests.training.runs import records, save_config


def without_labels(source: Path, target: Path, bad: range) -> str:
    """The same rows in one file; those of `bad` have no label."""
    table = pq.read_table(source)
    labels = [None if row in bad else label for row, label in enumerate(table["label"].to_pylist())]
    pq.write_table(
        table.set_column(table.schema.get_field_index("label"), "label", pa.array(labels, pa.int8())), target
    )
    return str(target)


SKIP = ("data.test=null", "data.on_bad_row=skip", "training.epochs=1", "data.shuffle_rows=0")


def test_half_the_rows_may_be_skipped_and_no_more(small, synthetic, tmp_path):
    half = without_labels(synthetic / "train", tmp_path / "half.parquet", range(750))
    assert run.train(small(*SKIP, f"data.train={half}")) == 0
    assert sum(record["rows"] for record in records(tmp_path / "run", "train")) == 751
    most = without_labels(synthetic / "train", tmp_path / "most.parquet", range(752))
    with pytest.raises(
        InputError,
        match=r"752 of the 1,501 rows of data.train .*a share of 0.5: 752 x label: a label .*\(such as .*row 0 of",
    ):
        run.train(small(*SKIP, f"data.train={most}", f"training.out={tmp_path}/most"))
    assert run.train(small(*SKIP, f"data.train={most}", f"training.out={tmp_path}/more", "data.max_bad_rows=752")) == 0


def test_a_run_stops_as_soon_as_there_are_too_many(small, synthetic, tmp_path):
    bad = without_labels(synthetic / "train", tmp_path / "bad.parquet", range(100, 400))
    with pytest.raises(InputError, match=r"after step 4: 300 of the 1,501 rows of data.train"):
        run.train(small(*SKIP, f"data.train={bad}", "data.max_bad_rows=0.1"))
    assert [record["step"] for record in records(tmp_path / "run", "train")] == [4]
    assert [path.name for path in (tmp_path / "run" / "checkpoints").glob("step-*")] == [
        "step-00000004"
    ]  # nothing lost
    with pytest.raises(InputError, match=r"after step 8: 300 of the 1,501 rows of data.train .*such as .*bad.parquet"):
        run.train(small(*SKIP, f"data.train={bad}", "data.max_bad_rows=0.1"), resume=True)  # rows of before count
    assert run.train(small(*SKIP, f"data.train={bad}", "data.max_bad_rows=0.3"), resume=True) == 0
    assert '"label: a label that is not between 0 and 1": 300' in (tmp_path / "run" / "data.json").read_text()


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_a_split_of_bad_rows_only_is_no_result(small, synthetic, tmp_path, split):
    source = synthetic / ("train" if split == "train" else f"{split}.parquet")
    bad = without_labels(source, tmp_path / "bad.parquet", range(1501))
    with pytest.raises(InputError, match=rf"all 1?,?50.? rows of data\.{split} .* nothing is left of them"):
        run.train(small(*SKIP, "training.max_steps=12", "data.max_bad_rows=1.0", f"data.{split}={bad}"))


@pytest.mark.slow
def test_ranks_count_together(small, synthetic, tmp_path):
    bad = without_labels(synthetic / "train", tmp_path / "bad.parquet", range(600))  # all of them of rank 0
    path = save_config(small, tmp_path, *SKIP, f"data.train={bad}", "data.max_bad_rows=0.3")
    ended = command(2, "train", path)
    assert all(rank.code for rank in ended)
    assert any("of the 1,501 rows of data.train" in rank.printed for rank in ended)
