"""FLOPs of real events against counts that are known otherwise."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from benchmarks.model_flops import FlopCount
from interformer_rec.benchmarking.flops import flops_a_row
from interformer_rec.benchmarking.rows import made_up, own
from interformer_rec.config import run as run_config
from interformer_rec.config.request import candidate_columns
from interformer_rec.config.run import RunConfig
from interformer_rec.data.decode.arrays import lists
from interformer_rec.model.build import build_model

ROWS = {"item": 52, "user": 22}
CANDIDATES = 6


def config_of(path: Path, **more: object) -> RunConfig:
    model = {"embedding_dim": 8, "d": 8, "layers": 1, "head": [16], **more}
    candidate = {"request": {"candidates": ["item"]}} if more.get("split") else {"candidate": ["item"]}
    groups = [
        {"name": name, "max_length": 30, "columns": [{"name": "item", "column": f"{name}_item", "table": "item"}]}
        for name in ("seen", "liked")
    ]
    features = {
        "tables": {"item": {}, "user": {}},
        "ids": ["user", "item"],
        "sequences": groups,
        "labels": ["label"],
        **candidate,
    }
    return run_config.parse({"name": "counted", "data": {"train": str(path)}, "features": features, "model": model}, "")


@pytest.mark.parametrize("merge", ["concat", "separate", "masknet"])
def test_interformers_flops_are_those_of_the_formula_in_lengths(merge: str, tmp_path: Path):
    """a + b n + c (n + CLS)^2 of benchmarks/model_flops.py, exact for any lengths: rows of all sizes are counted, others lie in between."""
    config = config_of(tmp_path / "rows.parquet", sequence={"merge": merge})
    table = made_up.rows_of(config.features, ROWS, 12, 30, "zipf", 0.4)
    pq.write_table(table, tmp_path / "rows.parquet")
    found = flops_a_row(config, made_up.fitted_of(config.features, ROWS), tmp_path)
    counts = {group.name: lists(table[group.columns[0].column]).lengths for group in config.features.sequences}
    model = build_model(config.features, config.model)
    expected = FlopCount(config.features, config.model, model).of(counts).total / 12  # type: ignore[arg-type]
    assert found == pytest.approx(expected, rel=0.02)


def test_a_requests_history_counts_once_for_all_its_candidates(tmp_path: Path):
    """With model.split; and as often as there are candidates where they are rows."""
    path = tmp_path / "rows.parquet"
    alone, split = config_of(path), config_of(path, split=True)
    table = made_up.rows_of(alone.features, ROWS, CANDIDATES, 30, "fixed", 0.25)
    fitted = made_up.fitted_of(alone.features, ROWS)
    pq.write_table(table, path)
    rows = flops_a_row(alone, fitted, tmp_path)
    requests = own.requests_of(table, candidate_columns(split.features), CANDIDATES)
    pq.write_table(requests, path)
    shared = flops_a_row(split, fitted, tmp_path)
    assert rows / CANDIDATES < shared < rows / 3


def test_kinds_without_attention_cost_as_many_flops_an_event_at_any_length(tmp_path: Path):
    path = tmp_path / "rows.parquet"
    tree = config_of(path).model_dump(mode="json")
    din = run_config.parse({**tree, "model": {"kind": "din", "embedding_dim": 8}}, "")
    fitted, found = made_up.fitted_of(din.features, ROWS), []
    with torch.random.fork_rng():
        for longest in (10, 20, 30):
            pq.write_table(made_up.rows_of(din.features, ROWS, 4, longest, "fixed", 0.25), path)
            found.append(flops_a_row(din, fitted, tmp_path))
    assert found[1] - found[0] == pytest.approx(found[2] - found[1]) and found[1] > found[0]
