"""A run whose validation rows have drifted: what it warns of, and with training.recalibrate what every command makes of its scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from interformer_rec.config.run import RunConfig, parse
from interformer_rec.errors import InputError
from interformer_rec.serving import artefact
from interformer_rec.serving.arguments import ExportOptions
from interformer_rec.serving.export import export
from interformer_rec.training import run
from interformer_rec.training.scoring.trained import evaluate, predict

SCORE = "score_click"


def rows(seed: int, shift: float) -> pa.Table:
    """An item's click rate is its own; `shift` moves all of them, in logits."""
    random = np.random.default_rng(seed)
    item, page = random.integers(0, 20, 2000), random.integers(0, 3, 2000)
    rate = 1 / (1 + np.exp(-((item - 10) / 3 + shift)))
    return pa.table({"item": item, "page": page, "click": (random.random(2000) < rate).astype(np.int8)})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drifting")
    for name, seed, shift in (("train", 1, 2.0), ("valid", 2, -3.0), ("test", 3, -3.0)):
        pq.write_table(rows(seed, shift), folder / f"{name}.parquet")
    return folder


def config_of(data: Path, out: Path, **training: Any) -> RunConfig:
    tree = {
        "name": "drift",
        "data": {name: f"{data}/{name}.parquet" for name in ("train", "valid", "test")} | {"batch_size": 100},
        "features": {
            "tables": {"item": {}, "page": {}},
            "ids": [{"name": "item"}, {"name": "page"}],
            "labels": [{"name": "click"}],
        },
        "model": {"kind": "dcnv2", "embedding_dim": 4, "hidden": [8]},
        "optimizer": {"embedding": {"lr": 0.3}, "dense": {"lr": 0.02}},
        "training": {"out": str(out), "epochs": 2, "device": "cpu", **training},
    }
    return parse(tree, "test")


@pytest.fixture(scope="module")
def plain(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("plain") / "run"
    assert run.train(config_of(data, out)) == 0
    return out


@pytest.fixture(scope="module")
def fitted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fitted") / "run"
    assert run.train(config_of(data, out, recalibrate=True)) == 0
    return out


def evaluation(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "evaluation.json").read_text())


def scores(folder: Path, data: Path, out: Path) -> np.ndarray:
    predict(str(folder), f"{data}/test.parquet", str(out))
    return pq.read_table(out)[SCORE].to_numpy()


def test_a_run_that_is_worse_than_a_constant_says_so(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run.train(config_of(data, tmp_path / "run", epochs=1)) == 0
    said = capfd.readouterr().err
    assert "of data.valid is worse than" in said and "training.recalibrate: true" in said
    evaluate(str(tmp_path / "run"))
    assert "warning: click: logloss" in capfd.readouterr().err
    evaluate(str(tmp_path / "run"), f"{data}/train.parquet")
    assert "worse than" not in capfd.readouterr().err


def test_recalibration_keeps_the_order_and_mends_the_probabilities(plain: Path, fitted: Path) -> None:
    before, after = evaluation(plain), evaluation(fitted)
    for split in ("valid", "test"):
        assert after[split]["click/auc"] == pytest.approx(before[split]["click/auc"], abs=1e-6)
        assert before[split]["click/ne"] > 1 > after[split]["click/ne"]
        assert after[split]["click/calibration"] == pytest.approx(1, abs=0.2) != before[split]["click/calibration"]


def test_evaluate_and_predict_score_as_the_run_did(plain: Path, fitted: Path, data: Path, tmp_path: Path) -> None:
    found = evaluate(str(fitted))
    tested = evaluation(fitted)["test"]
    for name in ("click/auc", "click/logloss", "click/ne", "click/calibration"):
        assert found[name] == pytest.approx(tested[name], rel=1e-6)
    raw, mended = scores(plain, data, tmp_path / "raw.parquet"), scores(fitted, data, tmp_path / "mended.parquet")
    scale, shift = np.polyfit(np.log(raw / (1 - raw)), np.log(mended / (1 - mended)), 1)
    assert scale > 0 and shift < -1
    expected = torch.sigmoid(torch.from_numpy(np.log(raw / (1 - raw)) * scale + shift)).numpy()
    np.testing.assert_allclose(mended, expected, atol=1e-4)


def test_what_is_exported_scores_as_predict(fitted: Path, data: Path, tmp_path: Path) -> None:
    said = export(
        str(fitted), str(tmp_path / "served"), ExportOptions(runtime="eager")
    )  # compares with predict's scores, or raises
    version = artefact.open(str(tmp_path / "served"))
    assert version.contents.recalibration is not None and said["eager: largest logit difference"] < 1e-5
    scale, shift = version.contents.recalibration["click"]
    text = f"click: logit x {scale:.4g} {shift:+.4g}"
    assert said["recalibrated on data.valid"] == text and text in version.card()
    predicted = scores(fitted, data, tmp_path / "scores.parquet")
    items = pq.read_table(tmp_path / "scores.parquet", columns=["item", "page"]).to_pylist()
    for one in version.golden():
        assert one["scores"]["click"] == pytest.approx(predicted[items.index(one["row"])], abs=1e-6)


def test_a_delta_to_other_lines_is_a_version(plain: Path, fitted: Path, tmp_path: Path) -> None:
    export(str(plain), str(tmp_path / "served"), ExportOptions(runtime="eager"))
    said = export(str(fitted), str(tmp_path / "served"), ExportOptions(delta=True))
    assert said["a full version, because"] == "its scores are recalibrated otherwise"
    again = export(str(fitted), str(tmp_path / "served"), ExportOptions(delta=True))
    assert again["delta"] is None


def test_scores_of_a_checkpoint_that_was_not_evaluated(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = {"recalibrate": True, "checkpoint": {"every_steps": 5, "keep": 9}, "epochs": 1}
    assert run.train(config_of(data, tmp_path / "run", **options)) == 0
    capfd.readouterr()
    evaluate(str(tmp_path / "run/checkpoints/step-00000005"), f"{data}/test.parquet")
    assert "was not evaluated, so its scores are not recalibrated" in capfd.readouterr().err


def test_a_label_that_cannot_be_recalibrated_is_named(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    table = pq.read_table(data / "valid.parquet")
    flipped = table.set_column(2, "click", pa.array(1 - table["click"].to_numpy()))
    pq.write_table(flipped, tmp_path / "flipped.parquet")
    config = config_of(data, tmp_path / "run", recalibrate=True, epochs=1)
    config = config.model_copy(update={"data": config.data.model_copy(update={"valid": f"{tmp_path}/flipped.parquet"})})
    assert run.train(config) == 0
    assert "training.recalibrate: click stays as it is" in capfd.readouterr().err


def test_what_it_needs(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"training.recalibrate needs data.valid"):
        tree = config_of(data, tmp_path, recalibrate=True).model_dump(mode="json")
        parse({**tree, "data": {**tree["data"], "valid": None}}, "test")
