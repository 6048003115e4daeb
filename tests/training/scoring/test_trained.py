"""A trained run reads files as it was trained to."""

from __future__ import annotations

import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.errors import InputError
from interformer_rec.training.scoring import trained


def recast(source, target, types: dict[str, pa.DataType]) -> str:
    table = pq.read_table(source)
    for name, type_ in types.items():
        table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(type_))
    pq.write_table(table, target)
    return str(target)


@pytest.mark.parametrize("command", ["evaluate", "predict"])
@pytest.mark.parametrize("place", ["run", "checkpoint"])
def test_another_kind_of_value_is_refused_before_the_weights_are_read(began, tmp_path, monkeypatch, command, place):
    tree, folder = began
    monkeypatch.setattr(trained, "build_parallel", None)  # a call would be a TypeError
    data = recast(tree["data"]["valid"], tmp_path / "strings.parquet", {"mode": pa.string()})
    path = folder if place == "run" else folder / "checkpoints" / "step-00000010"
    with pytest.raises(
        InputError, match=r"column 'mode' of '.*strings.parquet' holds string values.*on integer values"
    ):
        if command == "evaluate":
            trained.evaluate(str(path), data)
        else:
            trained.predict(str(path), data, str(tmp_path / "scores.parquet"))
    assert not (tmp_path / "scores.parquet").exists()


def test_widths_of_integers_give_the_same_scores(began, tmp_path):
    tree, folder = began
    narrow = recast(tree["data"]["valid"], tmp_path / "narrow.parquet", {"mode": pa.int8(), "user_id": pa.uint64()})
    timed = ("seconds", "data")
    found = [trained.evaluate(str(folder), data) for data in (tree["data"]["valid"], narrow)]
    one, other = ({name: value for name, value in metrics.items() if name not in timed} for metrics in found)
    assert one == other


def test_scores_among_the_rows_are_refused(began, tmp_path):
    tree, folder = began
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(tree["data"]["valid"], data / "rows.parquet")
    for read, out in (
        (data, data / "scores"),
        (data, data / "scores.parquet"),
        (data / "*.parquet", data / "new.parquet"),
    ):
        with pytest.raises(
            InputError, match=r"--out '.*' lies among the files of --data .*would be read as rows of --data"
        ):
            trained.predict(str(folder), str(read), str(out))
    assert [path.name for path in data.iterdir()] == ["rows.parquet"]
