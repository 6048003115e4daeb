"""Runs on rows that are requests, lists side by side or a list of structs: evaluated and scored alike; exported, such a run answers one
user's candidates over HTTP with the scores that predict gives them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from interformer_rec.cli import main
from tests.data.request_samples import impressions, of_impressions, of_requests, requests, structs
from tests.metrics.test_evaluation import slow_gauc

CANDIDATE = ("price", "candidate", "city", "tags", "topics")
SHOWN = (*CANDIDATE, "click", "rating", "weight")


def trained(folder: Path, form: str) -> Path:
    folder.mkdir()
    for seed, (split, rows) in enumerate({"train": 120, "test": 30}.items()):
        table = requests(np.random.default_rng(seed), rows)
        pq.write_table(structs(table, SHOWN) if form == "structs" else table, folder / f"{split}.parquet")
    features = of_requests().model_dump(mode="json", exclude_defaults=True)
    if form == "structs":
        features["request"]["column"] = "shown"
    config = {
        "name": "shown",
        "data": {"train": str(folder / "train.parquet"), "test": str(folder / "test.parquet"), "batch_size": 64},
        "features": features,
        "model": {"d": 8, "embedding_dim": 8, "split": True},
        "training": {"epochs": 1, "out": str(folder / "run"), "device": "cpu"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    assert main(["train", str(folder / "config.yaml")]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return {form: trained(folder / form, form) for form in ("lists", "structs")}


def scored(run: Path, out: Path) -> Path:
    assert main(["predict", str(run), "--data", str(run.parent / "test.parquet"), "--out", str(out)]) == 0
    return out


def test_a_list_of_structs_gives_what_lists_side_by_side_give(runs, tmp_path, capsys):
    tables, metrics = {}, {}
    for form, run in runs.items():
        tables[form] = pq.read_table(scored(run, tmp_path / form))
        capsys.readouterr()
        assert main(["evaluate", str(run), "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        metrics[form] = {name: value for name, value in said.items() if name.startswith(("click/", "rating/", "rows"))}
    assert tables["structs"].select(tables["lists"].column_names).equals(tables["lists"])
    assert set(tables["structs"].column_names) == set(tables["lists"].column_names)
    assert metrics["structs"] == metrics["lists"] and "click/logloss" in metrics["lists"]
    rows, counts = (
        tables["lists"],
        [len(one) for one in pq.read_table(run.parent / "test.parquet")["shown"].to_pylist()],
    )
    request_of = np.repeat(np.arange(len(counts)), counts).astype(float)
    labels, scores = rows["click"].to_numpy().astype(float), rows["score_click"].to_numpy().astype(float)
    expected = slow_gauc(scores, labels, rows["weight"].to_numpy().astype(float), request_of)
    assert metrics["lists"]["click/gauc_request"] == pytest.approx(expected, abs=1e-9)
    assert metrics["lists"]["click/gauc_request"] != pytest.approx(metrics["lists"]["click/gauc"], abs=1e-4)


def test_a_list_of_structs_becomes_impressions_by_the_config(runs, tmp_path):
    folder = runs["structs"].parent
    back = ["data", "ungroup", str(folder / "test.parquet"), "--config", str(folder / "config.yaml")]
    assert main([*back, "--out", str(tmp_path / "back")]) == 0
    plain = impressions(pq.read_table(runs["lists"].parent / "test.parquet"), of_requests())
    found = pq.read_table(tmp_path / "back" / "test.parquet")
    assert set(of_impressions().columns()) == set(found.column_names)
    assert found.select(plain.column_names).to_pylist() == plain.to_pylist()


@pytest.mark.parametrize("form", ["lists", "structs"])
def test_candidates_of_a_request_get_the_scores_of_predict(runs, form, tmp_path, start):
    run = runs[form]
    assert main(["export", str(run), "--out", str(tmp_path / "served"), "--runtime", "eager"]) == 0
    rows_scored = pq.read_table(scored(run, tmp_path / "scores")).to_pylist()
    rows = pq.read_table(runs["lists"].parent / "test.parquet").to_pylist()
    server, at = start(tmp_path / "served"), 0
    for row in rows:
        shown = {name: row.pop(name) for name in CANDIDATE}
        count = len(row.pop("click"))
        del row["rating"], row["weight"]
        candidates = [{name: values[place] for name, values in shown.items()} for place in range(count)]
        expected = rows_scored[at : at + count]
        at += count
        if not candidates:
            continue
        answer = server.post("/v1/rank", {"user": row, "candidates": candidates})
        for task in ("click", "rating"):
            assert answer["scores"][task] == pytest.approx([one[f"score_{task}"] for one in expected], abs=1e-6)
    assert at == len(rows_scored) > len(rows)
