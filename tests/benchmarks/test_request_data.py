"""benchmarks.request_data: impressions that `data group` made requests of train to the same metrics in both forms, and others are seen."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from benchmarks import request_data
from interformer_rec.data.grouping.arguments import AskedColumns
from interformer_rec.data.grouping.command import group
from tests.data.request_samples import impressions, of_requests, requests


def written(folder: Path) -> Path:
    """Impressions of two files, the request rows made of them, and the config of these."""
    for seed, name in ((1, "train"), (2, "valid")):
        table = requests(np.random.default_rng(seed), 60)
        table = table.append_column("request", pa.array(np.arange(60)))
        (folder / "impressions").mkdir(exist_ok=True)
        pq.write_table(impressions(table, of_requests()), folder / f"impressions/{name}.parquet", row_group_size=17)
    columns = ",".join(of_requests().candidate_columns)
    group(str(folder / "impressions"), str(folder / "requests"), "request", AskedColumns(candidates=columns))
    features = of_requests().model_dump(exclude={"candidate"})
    tree = {
        "name": "both",
        "data": {"train": "a", "valid": "b", "batch_size": 13},
        "features": features,
        "model": {"split": True, "d": 8, "embedding_dim": 8, "layers": 1, "heads": 2, "dropout": 0.5},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(tree))), encoding="utf-8")
    return path


def run(folder: Path, config: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    folders = [part for form in request_data.FORMS for part in (f"--{form}", str(folder / form))]
    out = folder / "result.json"
    arguments = [str(config), *folders, "--train", "train.parquet", "--valid", "valid.parquet", "--turn", "2"]
    monkeypatch.setattr(sys, "argv", ["request_data", *arguments, "--json", str(out)])
    request_data.main()
    return json.loads(out.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_both_forms_train_to_the_same_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = written(tmp_path)
    found = run(tmp_path, config, monkeypatch)
    rows = pq.read_table(tmp_path / "impressions/train.parquet").num_rows
    assert found["requests"]["rows"] == found["impressions"]["rows"] == rows and found["steps"] == -(-rows // 13)
    assert found["largest_difference_of_a_metric"] < 1e-4 and found["largest_difference_of_a_loss"] < 1e-4
    assert found["requests"]["metrics"]["click/auc"] == found["impressions"]["metrics"]["click/auc"]

    path = tmp_path / "impressions/valid.parquet"
    table = pq.read_table(path)
    clicks = [not click for click in table["click"].to_pylist()]
    pq.write_table(table.set_column(table.schema.get_field_index("click"), "click", pa.array(clicks)), path)
    with pytest.raises(RuntimeError, match="the forms' metrics differ"):
        run(tmp_path, config, monkeypatch)
