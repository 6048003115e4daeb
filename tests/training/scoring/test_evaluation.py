"""Evaluation of real runs: which weights it reads, and that training does not notice."""

import json

import pyarrow.parquet as pq
from sklearn.metrics import log_loss

from interformer_rec.training import run
from interformer_rec.training.scoring import trained
from tests.training.runs import records


def test_evaluation_reads_the_averaged_weights_and_training_the_raw_ones(small, tmp_path, synthetic):
    overrides = ("training.epochs=1", "training.eval_every_steps=5", "training.checkpoint.keep=9")
    assert run.train(small(*overrides, f"training.out={tmp_path}/plain")) == 0
    assert run.train(small(*overrides, "optimizer.dense.ema=0.8")) == 0
    plain, averaged = tmp_path / "plain", tmp_path / "run"
    losses = [[record["loss"] for record in records(folder, "train")] for folder in (plain, averaged)]
    assert losses[0] == losses[1] != []  # evaluations in between left the weights alone
    scores = [[record["label/logloss"] for record in records(folder, "valid")] for folder in (plain, averaged)]
    assert len(scores[1]) == 3 and all(a != b for a, b in zip(*scores, strict=True))
    valid, test = (str(synthetic / f"{split}.parquet") for split in ("valid", "test"))
    for step, logloss in zip((5, 10, 12), scores[1], strict=True):  # what was measured in the run is what is loaded
        found = trained.evaluate(str(averaged / "checkpoints" / f"step-{step:08d}"), valid)
        assert found["label/logloss"] == logloss
    expected = json.loads((averaged / "evaluation.json").read_text())["test"]["label/logloss"]
    assert trained.evaluate(str(averaged), test)["label/logloss"] == expected
    trained.predict(str(averaged), test, str(tmp_path / "scores.parquet"))
    table = pq.read_table(tmp_path / "scores.parquet")
    assert abs(log_loss(table["label"], table["score_label"]) - expected) < 1e-5
