"""predict and evaluate of a trained run: options, outputs, and rows that cannot be scored."""

from __future__ import annotations

import json
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.cli import main
from interformer_rec.config import run as config
from interformer_rec.errors import InputError
from interformer_rec.training import run
from interformer_rec.training.scoring import trained
from interformer_rec.training.scoring.prediction import score_columns
from tests.forked import command
from tests.training.conftest import SMALL

BAD = (3, 64, 65, 140)  # of the 150 rows of test.parquet, in batches of 64


@pytest.fixture(scope="module")
def trained_run(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "run"
    overrides = [*SMALL, f"training.out={out}", "training.epochs=1", "training.max_steps=3", "data.test=null"]
    assert run.train(config.load(synthetic / "config.yaml", overrides)) == 0
    return out


@pytest.fixture
def test_rows(synthetic: Path) -> pa.Table:
    return pq.read_table(synthetic / "test.parquet")


def with_bad_rows(table: pa.Table, path: Path, bad: tuple[int, ...] = BAD) -> str:
    """NaN in a dense column, and a null label, which predict does not read."""
    name = next(name for name in table.column_names if pa.types.is_floating(table.schema.field(name).type))
    values = table[name].to_numpy(zero_copy_only=False).copy()
    values[list(bad)] = np.nan
    table = table.set_column(table.schema.get_field_index(name), name, pa.array(values, from_pandas=False))
    pq.write_table(table, path, row_group_size=50)
    return str(path)


def test_a_bad_row_is_written_in_its_place_without_a_score(trained_run, synthetic, test_rows, tmp_path):
    bad = with_bad_rows(test_rows, tmp_path / "bad.parquet")
    good = trained.predict(str(trained_run), str(synthetic / "test.parquet"), str(tmp_path / "good-scores.parquet"))
    assert (good["rows"], good["scored"]) == (150, 150) and "bad_rows" not in good
    with pytest.raises(InputError, match=r"row 3 of the file.*data.on_bad_row: skip"):
        trained.predict(str(trained_run), bad, str(tmp_path / "scores.parquet"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.parquet", "good-scores.parquet"]
    done = trained.predict(str(trained_run), bad, str(tmp_path / "scores.parquet"), ["data.on_bad_row=skip"])
    assert (done["rows"], done["scored"]) == (150, 146) and sum(done["bad_rows"].values()) == 4
    table, source = pq.read_table(tmp_path / "scores.parquet"), pq.read_table(bad)
    assert repr(table.drop_columns("score_label").to_pydict()) == repr(source.to_pydict())  # NaN equals NaN
    scores = table["score_label"].to_pylist()
    assert [i for i, score in enumerate(scores) if score is None] == list(BAD)
    expected = pq.read_table(tmp_path / "good-scores.parquet")["score_label"].to_pylist()
    assert all(a is None or abs(a - b) < 1e-6 for a, b in zip(scores, expected, strict=True))


def test_evaluate_leaves_bad_rows_out_and_says_so(trained_run, test_rows, tmp_path, capsys):
    bad = with_bad_rows(test_rows, tmp_path / "bad.parquet")
    assert main(["evaluate", str(trained_run), "--data", bad]) == 2
    assert "data.on_bad_row: skip" in capsys.readouterr().err
    command = ["evaluate", str(trained_run), "--data", bad, "--set", "data.on_bad_row=skip", "--json"]
    assert main([*command, "--set", "data.eval_batch_size=7"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] == 146 and sum(found["bad_rows"].values()) == 4
    assert main([*command, "--set", "data.max_bad_rows=3"]) == 2
    assert "4 of the 150 rows" in (said := capsys.readouterr().err) and "data.max_bad_rows allows 3: 4 x" in said


@pytest.mark.parametrize("command", ["evaluate", "predict"])
@pytest.mark.parametrize(
    "pair", ["model.d=16", "features.labels=[x]", "data.test=x", "data.batch_size=3", "seed=1", "data"]
)
def test_settings_of_the_model_are_refused_by_name(trained_run, synthetic, tmp_path, command, pair):
    with pytest.raises(
        InputError, match=rf"{command} --set '{pair.partition('=')[0]}.*data.on_bad_row, data.max_bad_rows"
    ):
        if command == "evaluate":
            trained.evaluate(str(trained_run), None, [pair])
        else:
            trained.predict(str(trained_run), str(synthetic / "test.parquet"), str(tmp_path / "x"), [pair])


def test_an_empty_path_is_no_default(trained_run, synthetic):
    """A shell variable that is not set: the run's own test files are not meant, nor is the working folder."""
    with pytest.raises(InputError, match="--data is empty"):
        trained.evaluate(str(trained_run), "")
    with pytest.raises(InputError, match="the data path is empty"):
        trained.predict(str(trained_run), "", "x.parquet")
    with pytest.raises(InputError, match="--out is empty"):
        trained.predict(str(trained_run), str(synthetic / "test.parquet"), "")


def test_a_setting_with_a_wrong_value_names_the_key(trained_run):
    with pytest.raises(InputError, match=r"data\.on_bad_row"):
        trained.evaluate(str(trained_run), None, ["data.on_bad_row=drop"])


def test_rows_that_are_all_bad_are_no_result(trained_run, test_rows, tmp_path):
    bad = with_bad_rows(test_rows, tmp_path / "bad.parquet", tuple(range(150)))
    settings = ["data.on_bad_row=skip", "data.max_bad_rows=1.0"]
    with pytest.raises(InputError, match=r"all 150 rows of --data .*150 x .*such as .*row 0 of the file"):
        trained.predict(str(trained_run), bad, str(tmp_path / "scores.parquet"), settings)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.parquet"]
    with pytest.raises(InputError, match=r"all 150 rows of the files to evaluate on"):
        trained.evaluate(str(trained_run), bad, settings)


def test_a_column_is_never_written_twice(trained_run, synthetic, tmp_path, capsys):
    first, second = tmp_path / "first.parquet", tmp_path / "second.parquet"
    assert (
        main(["predict", str(trained_run), "--data", str(synthetic / "test.parquet"), "--out", str(first), "--json"])
        == 0
    )
    assert json.loads(capsys.readouterr().out)["scored"] == 150
    again = ["predict", str(trained_run), "--data", str(first), "--out", str(second)]
    assert main(again) == 2
    assert "column 'score_label'" in (said := capsys.readouterr().err) and "--score-column" in said
    assert not second.exists()
    assert main([*again, "--score-column", "new_{label}"]) == 0
    table = pq.read_table(second)
    assert table["new_label"].equals(table["score_label"])


def test_names_of_score_columns():
    assert score_columns(["a", "b"], "score_{label}", ["x"]) == ["score_a", "score_b"]
    assert score_columns(["a"], "score", ["x"]) == ["score"]
    with pytest.raises(InputError, match="a score column each"):
        score_columns(["a", "b"], "score", [])
    for template in ("x", ""):
        with pytest.raises(InputError, match="score-column"):
            score_columns(["a"], template, ["x"])


def test_scores_go_to_every_uri(trained_run, synthetic, tmp_path, monkeypatch):
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    data = str(synthetic / "test.parquet")
    memory = fsspec.filesystem("memory")
    for out, file in (
        (f"file://{tmp_path}/uri/x.parquet", None),
        ("memory://scores/x.parquet", "/scores/x.parquet"),
        ("memory://scores/parts", "/scores/parts/part-00000.parquet"),
        (f"{tmp_path}/a b/ünï/c.pq", None),
    ):
        assert trained.predict(str(trained_run), data, out)["rows"] == 150
        place = pa.BufferReader(memory.cat_file(file)) if file else str(out).removeprefix("file://")
        assert pq.read_table(place).num_rows == 150
        with pytest.raises(InputError, match="exists already, and predict writes over nothing"):
            trained.predict(str(trained_run), data, out)
    assert sorted(memory.find("/scores")) == ["/scores/parts/part-00000.parquet", "/scores/x.parquet"]
    memory.rm("/scores", recursive=True)
    for out, match in (
        (f"{tmp_path}/scores.csv", "written as Parquet"),
        ("nonsense://bucket/x.parquet", "nonsense"),
        (f"{data}/x", "cannot|is a file"),
        (f"{synthetic}/valid.parquet/x", "cannot|is a file"),
        (data, "exists already"),
        (str(synthetic), "exists already"),
    ):
        with pytest.raises(InputError, match=match):
            trained.predict(str(trained_run), data, out)
    assert list((tmp_path / "cwd").iterdir()) == []


def test_two_ranks_write_parts_and_count_together(trained_run, test_rows, tmp_path):
    bad = with_bad_rows(test_rows, tmp_path / "bad.parquet", tuple(range(64, 150)))  # rank 1 has no good row at all
    settings = ["--set", "data.on_bad_row=skip", "--set", "data.max_bad_rows=90"]
    ended = command(2, "predict", trained_run, "--data", bad, "--out", tmp_path / "scores", "--json", *settings)
    assert [rank.code for rank in ended] == [0, 0], ended
    found = json.loads(ended[0].printed.strip().splitlines()[-1])
    assert (found["rows"], found["scored"], sum(found["bad_rows"].values())) == (150, 64, 86)
    scores = pq.read_table(tmp_path / "scores")["score_label"].to_pylist()
    assert [score is None for score in scores] == [row >= 64 for row in range(150)]
