"""`interformer export`: the artefact scores as predict does, whatever its tables and runtime, or nothing is published."""

import copy
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.cli import main
from interformer_rec.errors import InputError
from interformer_rec.install import graphs
from interformer_rec.serving import artefact
from interformer_rec.serving.arguments import ExportOptions
from interformer_rec.serving.encode.encoder import Encoder
from interformer_rec.serving.export import export
from interformer_rec.serving.making import compare
from interformer_rec.serving.published import pointer
from interformer_rec.serving.scorer import probabilities
from interformer_rec.training import run
from interformer_rec.training.scoring.trained import predict
from tests.training.runs import settings


def test_the_artefact_is_whole_and_says_what_it_is(exported):
    _, out, said = exported
    version = artefact.open(str(out))
    files = {str(path.relative_to(version.folder)) for path in version.folder.rglob("*") if path.is_file()}
    tables = {table.file for table in version.contents.tables.values()}
    assert (
        tables
        | {
            "config.yaml",
            "dense.safetensors",
            "features/fitted.json",
            "golden.jsonl",
            "manifest.json",
            "model_card.md",
            "model.json",
            "signature.json",
        }
        <= files
    )
    assert not any(name.endswith((".pt", ".pkl", ".pickle")) for name in files)
    assert said["version"] == version.name
    assert said["eager: largest logit difference"] <= 1e-5
    assert abs(said["eager: change of AUC, label"]) < 1e-6
    parts = {one.name: one.part for one in version.signature.inputs}
    assert parts["item_id"] == parts["category"] == "candidate"
    assert parts["hist0_item_id"] == "user"
    assert [one.name for one in version.signature.outputs] == ["label", "again"]
    card = (version.folder / "model_card.md").read_text(encoding="utf-8")
    assert said["checkpoint"] in card and "largest logit difference" in card
    assert "multiplications" in said["model.split would save"]


def test_golden_requests_have_the_scores_of_predict(exported, tmp_path):
    folder, out, said = exported
    golden = artefact.open(str(out)).golden()
    predict(str(folder), said["data"], str(tmp_path / "scores.parquet"))
    scored = pq.read_table(tmp_path / "scores.parquet")
    rows = {
        json.dumps(row, default=str): at for at, row in enumerate(scored.select(list(golden[0]["row"])).to_pylist())
    }
    assert len(golden) == 32
    for one in golden:
        at = rows[json.dumps(one["row"], default=str)]
        for task, score in one["scores"].items():
            assert score == pytest.approx(scored[f"score_{task}"][at].as_py(), abs=2e-7)


@pytest.mark.parametrize("option", ["out", "data"])
def test_an_empty_option_is_refused_and_writes_nothing(began, tmp_path, monkeypatch, option):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"--{option} is empty"):
        export(str(began[1]), **{"out": "served", option: "", "options": ExportOptions(runtime="eager")})
    assert not list(tmp_path.iterdir())


def test_a_run_a_checkpoint_and_data_are_no_place_for_an_exported_model(began, synthetic, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(began[1], folder)
    (checkpoint,) = (folder / "checkpoints").glob("step-*")
    before = set(tmp_path.rglob("*"))
    for out, words in {
        folder: "is the folder of a run",
        checkpoint: "lies in a checkpoint",
        folder / "checkpoints" / "served": "run's own folder",
        synthetic: "holds data",
        synthetic / "train" / "served": "would be read as rows of data.train",
    }.items():
        assert main(["export", str(folder), "--out", str(out), "--runtime", "eager"]) == 2, out
        assert words in " ".join(capsys.readouterr().err.split()), out
    assert set(tmp_path.rglob("*")) == before


def test_a_second_version_stands_beside_the_first(began, tmp_path):
    place = tmp_path / "served"
    first = export(str(began[1]), str(place), ExportOptions(runtime="eager"))["version"]
    checkpoint = next((began[1] / "checkpoints").glob("step-*"))
    second = export(
        str(checkpoint), str(place), ExportOptions(tables="fp16", runtime="eager"), data=began[0]["data"]["valid"]
    )["version"]
    assert pointer.current(str(place)).version == second > first
    assert {path.name for path in (place / "versions").iterdir()} == {first, second}
    assert artefact.open(str(place), first).name == first
    forms = {table.form for table in artefact.open(str(place)).contents.tables.values()}
    assert forms == {"fp16"}


def test_a_model_that_does_not_score_as_predict_is_not_published(began, tmp_path, monkeypatch):
    place = tmp_path / "served"
    export(str(began[1]), str(place), ExportOptions(tables="int8", runtime="eager"))
    before = (place / "current.json").read_bytes()
    monkeypatch.setitem(compare.BOUNDS, "int8", 1e-7)
    with pytest.raises(
        InputError, match=r"\(eager, int8 tables\) differs from interformer predict by .* Nothing was published"
    ):
        export(str(began[1]), str(place), ExportOptions(tables="int8", runtime="eager"))
    assert (place / "current.json").read_bytes() == before
    assert len(list((place / "versions").iterdir())) == 1


def test_a_split_ensemble_of_which_one_member_is_trained(began, tmp_path):
    tree = copy.deepcopy(began[0])
    short = ("training.max_steps=4", "data.test=null")
    split = ("model.split=true", "model.ensemble_members=2", "optimizer.embedding.kind=adagrad")
    assert run.train(settings(tree, tmp_path / "run", *short, *split)) == 0
    said = export(str(tmp_path / "run"), str(tmp_path / "served"), ExportOptions(runtime="eager"))
    assert said["eager: largest logit difference"] <= 1e-5
    assert "model.split would save" not in said
    version = artefact.open(str(tmp_path / "served"))
    assert version.contents.split and version.contents.members == 1
    assert version.scorer().split


@pytest.mark.release
def test_compiled_graphs_score_as_predict(began, tmp_path):
    said = export(str(began[1]), str(tmp_path / "served"), ExportOptions(runtime="auto"))
    assert said["aoti: largest logit difference"] <= 1e-5
    assert artefact.open(str(tmp_path / "served")).preferred == "aoti"


def test_what_is_missing_here_is_named(began, tmp_path, monkeypatch):
    monkeypatch.setattr(graphs, "COMPILERS", ("no-such-compiler",))
    with pytest.raises(InputError, match=r"--runtime aoti needs a C\+\+ compiler \(no-such-compiler\)"):
        export(str(began[1]), str(tmp_path / "served"), ExportOptions(runtime="aoti"))
    monkeypatch.setattr(graphs, "ONNX", ("no_such_package", "onnx"))
    with pytest.raises(InputError, match="--runtime onnx needs the packages no_such_package, which"):
        export(str(began[1]), str(tmp_path / "served"), ExportOptions(runtime="onnx"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="one process"):
        export(str(began[1]), str(tmp_path / "served"))
    assert not (tmp_path / "served").exists()


def test_a_place_that_cannot_be_written_is_named(began, tmp_path):
    (tmp_path / "served").write_text("a file", encoding="utf-8")
    with pytest.raises(InputError, match="cannot write"):
        export(str(began[1]), str(tmp_path / "served"), ExportOptions(runtime="eager"))


@pytest.mark.parametrize("scheme", ["memory://export-uri", "file"])
def test_a_uri_is_a_place(began, tmp_path, scheme):
    """Two versions, the newer one current; tables of fewer bytes are read from a copy as from a folder."""
    place = f"file://{tmp_path}/served" if scheme == "file" else f"{scheme}/{tmp_path.name}"
    first = export(str(began[1]), place, ExportOptions(runtime="eager"))["version"]
    second = export(str(began[1]), place, ExportOptions(tables="int8", runtime="eager"))["version"]
    assert pointer.current(place).version == second > first
    for name in (first, second):
        version = artefact.open(place, name)
        golden, encoder = version.golden(), Encoder(version.config.features, version.fitted, version.signature)
        found = probabilities(version.scorer()(encoder.score([one["row"] for one in golden])))
        assert found[:, 0] == pytest.approx([one["scores"]["label"] for one in golden], abs=1e-6)
    assert (tmp_path / "served" / "current.json").exists() == (scheme == "file")


def test_every_trained_row_is_there(exported):
    _, out, _ = exported
    version = artefact.open(str(out))
    for name, rows in version.fitted.table_rows.items():
        assert version.contents.tables[name].rows == rows
    assert np.isfinite(version.golden()[0]["scores"]["label"])


def test_golden_requests_are_requests(tmp_path):
    """Of types that JSON has not, with a group that is no input, and with text that looks like a credential."""
    rows = 40
    table = pa.table(
        {
            "day": pa.array(np.arange(rows) % 5, pa.int32()).cast(pa.date32()),
            "seen": pa.array(np.arange(rows) * 10**9 + 1000, pa.timestamp("ns", "UTC")),
            "account": pa.array(np.arange(rows) % 7).cast(pa.decimal128(20, 0)),
            "place": [f"password=secret{i % 4}" for i in range(rows)],
            "open": [i % 3 == 0 for i in range(rows)],
            "price": pa.array(np.arange(rows) / 7, pa.float32()),
            "past": pa.array([[b"x", None, b"\xc3\xa9"][: i % 4] for i in range(rows)], pa.list_(pa.binary())),
            "user": [f"u{i % 3}" for i in range(rows)],
            "label": np.arange(rows) % 2,
        }
    )
    for name in ("train", "valid"):
        pq.write_table(table, tmp_path / f"{name}.parquet")
    tree = {
        "name": "types",
        "data": {name: str(tmp_path / f"{name}.parquet") for name in ("train", "valid")},
        "features": {
            "tables": {name: {} for name in ("day", "seen", "account", "place", "open", "event")},
            "ids": ["day", "seen", "account", "place", "open"],
            "dense": [{"name": "price", "standardise": True}],
            "sequences": [{"name": "past", "max_length": 2, "columns": [{"name": "event", "column": "past"}]}],
            "labels": ["label"],
            "group": "user",
        },
    }
    assert run.train(settings(tree, tmp_path / "run", "training.max_steps=2", "training.checkpoint.every_steps=2")) == 0
    said = export(str(tmp_path / "run"), str(tmp_path / "served"), ExportOptions(runtime="eager"))
    assert said["eager: largest logit difference"] <= 1e-5
    version = artefact.open(str(tmp_path / "served"))
    golden, encoder = version.golden(), Encoder(version.config.features, version.fitted, version.signature)
    assert golden[0]["row"].keys() == encoder.types.keys() and "user" not in encoder.types
    assert {one["row"]["place"] for one in golden} == {f"password=secret{i}" for i in range(4)}
    found = probabilities(version.scorer()(encoder.score([one["row"] for one in golden])))
    assert found[:, 0] == pytest.approx([one["scores"]["label"] for one in golden], abs=1e-6)
