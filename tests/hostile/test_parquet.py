"""Parquet files as data: what other tools write is read, and all else is refused in one sentence, by train, evaluate and predict alike."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from interformer_rec.batch import Batch
from interformer_rec.cli import main
from interformer_rec.config.features import FeatureSchema
from interformer_rec.data.fit import fit
from interformer_rec.data.loader import Loader
from interformer_rec.errors import InputError
from tests.data.samples import equal, loader_of
from tests.hostile.parquet_files import base_rows, build

CORPUS = yaml.safe_load(Path(__file__).with_name("parquet.yaml").read_text(encoding="utf-8"))
FEATURES = {
    "tables": {"user": {}, "city": {"ids": "hash", "num_embeddings": 50}, "seen": {}},
    "dense": [{"name": "price", "standardise": True}],
    "ids": ["user", "city"],
    "bags": [{"name": "tags", "table": "seen"}],
    "sequences": [{"name": "past", "max_length": 2, "timestamp": "when", "columns": [{"name": "seen"}]}],
    "labels": ["click"],
    "group": "user",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A run on the base rows."""
    folder = tmp_path_factory.mktemp("hostile")
    pq.write_table(base_rows(), folder / "base.parquet")
    config = {
        "name": "base",
        "data": {"train": str(folder / "base.parquet"), "batch_size": 4},
        "features": FEATURES,
        "model": {"kind": "din", "embedding_dim": 4, "hidden": [4]},
        "training": {"out": str(folder / "run"), "device": "cpu"},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    assert main(["train", str(folder / "run.yaml")]) == 0
    return folder


def batches(path: Path, copies: int = 1, skip: bool = False) -> tuple[list[Batch], Loader]:
    features = FeatureSchema.model_validate(FEATURES)
    fitted = fit(features, str(path))
    loader = loader_of(str(path), features, fitted, batch_size=8 * copies, on_bad_row="skip" if skip else "error")
    return [batch for batch, _ in loader.batches()], loader


@pytest.mark.parametrize("case", CORPUS, ids=[case["name"] for case in CORPUS])
def test_training_data(case, tmp_path):
    """What training reads: fitted and decoded."""
    path = build(case, tmp_path / "data")
    if "error" not in case:
        found, loader = batches(path, case.get("same", 1))
        assert loader.rows == case.get("rows", 8 * case.get("same", 1))
        if "same" in case:
            plain = build({"files": [{}] * case["same"]}, tmp_path / "plain")
            assert all(equal(*pair) for pair in zip(found, batches(plain, case["same"])[0], strict=True))
        return
    with pytest.raises(InputError, match=re.compile(case["error"], re.DOTALL)) as caught:
        batches(path)
    assert len(str(caught.value)) < 2000
    if "skip" in case:
        _, loader = batches(path, skip=True)
        assert sum(loader.bad_rows.values()) == case["skip"]


@pytest.mark.parametrize("case", CORPUS, ids=[case["name"] for case in CORPUS])
def test_evaluate_and_predict(case, tmp_path, trained, capsys):
    """What a trained run scores: exit code 0 with every row, or 2 with the message."""
    path = build(case, tmp_path / "data")
    out = tmp_path / "scores.parquet"
    commands = (
        ["evaluate", str(trained / "run"), "--data", str(path), "--json"],
        ["predict", str(trained / "run"), "--data", str(path), "--out", str(out)],
    )
    for command in commands:
        capsys.readouterr()
        code = main(command)
        text = capsys.readouterr()
        if "error" in case:
            if "skip" in case and command[0] == "predict":
                assert main([*command, "--set", "data.on_bad_row=skip"]) == 0
                scores = pq.read_table(out)
                assert (scores.num_rows, scores["score_click"].null_count) == (8, case["skip"])
                out.unlink()
            assert code == 2 and re.search(case["error"], text.err, re.DOTALL) and not out.exists(), text.err
            assert "Traceback" not in text.err
            continue
        assert code == 0, text.err
        rows = case.get("rows", 8 * case.get("same", 1))
        if command[0] == "evaluate":
            assert json.loads(text.out)["rows"] == rows
            continue
        scores = pq.read_table(out)
        assert scores.num_rows == rows and scores["score_click"].null_count == 0
        if "same" in case:
            expected = pa.concat_tables([base_rows().select(["tags", "seen"])] * case["same"])
            assert scores.select(["tags", "seen"]).to_pylist() == expected.to_pylist()


TRAINED = (
    "not null beside nullable",
    "layouts of strings",
    "folders that are columns",
    "an id that is not UTF-8",
    "a list bomb",
    "list and scalar",
)


@pytest.mark.parametrize("case", [c for c in CORPUS if c["name"] in TRAINED], ids=lambda c: c["name"])
def test_train(case, tmp_path, trained, capsys):
    """A whole run on such files."""
    path = build(case, tmp_path / "data")
    settings = [f"data.train={path}", f"training.out={tmp_path}/run"]
    code = main(["train", str(trained / "run.yaml"), *(part for one in settings for part in ("--set", one))])
    text = capsys.readouterr().err
    assert code == (2 if "error" in case else 0) and re.search(case.get("error", ""), text, re.DOTALL), text
    assert (tmp_path / "run" / "checkpoints").exists() is (code == 0)
