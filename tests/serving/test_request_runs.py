"""A run on rows that are requests: exported, it answers one user's candidates over HTTP with the scores that predict gives them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from interformer_rec.cli import main
from tests.data.request_samples import of_requests, requests

CANDIDATE = ("price", "candidate", "city", "tags", "topics")


def trained(folder: Path) -> Path:
    for seed, (split, rows) in enumerate({"train": 120, "test": 30}.items()):
        pq.write_table(requests(np.random.default_rng(seed), rows), folder / f"{split}.parquet")
    config = {
        "name": "shown",
        "data": {"train": str(folder / "train.parquet"), "test": str(folder / "test.parquet"), "batch_size": 64},
        "features": of_requests().model_dump(mode="json", exclude_defaults=True),
        "model": {"d": 8, "embedding_dim": 8, "split": True},
        "training": {"epochs": 1, "out": str(folder / "run"), "device": "cpu"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    assert main(["train", str(folder / "config.yaml")]) == 0
    return folder / "run"


def test_candidates_of_a_request_get_the_scores_of_predict(tmp_path, start):
    run = trained(tmp_path)
    assert main(["export", str(run), "--out", str(tmp_path / "served"), "--runtime", "eager"]) == 0
    assert main(["predict", str(run), "--data", str(tmp_path / "test.parquet"), "--out", str(tmp_path / "scores")]) == 0
    scored = pq.read_table(tmp_path / "scores").to_pylist()
    rows = pq.read_table(tmp_path / "test.parquet").to_pylist()
    server, at = start(tmp_path / "served"), 0
    for row in rows:
        shown = {name: row.pop(name) for name in CANDIDATE}
        count = len(row.pop("click"))
        del row["rating"], row["weight"]
        candidates = [{name: values[place] for name, values in shown.items()} for place in range(count)]
        expected = scored[at : at + count]
        at += count
        if not candidates:
            continue
        answer = server.post("/v1/rank", {"user": row, "candidates": candidates})
        for task in ("click", "rating"):
            assert answer["scores"][task] == pytest.approx([one[f"score_{task}"] for one in expected], abs=1e-6)
    assert at == len(scored) > len(rows)
