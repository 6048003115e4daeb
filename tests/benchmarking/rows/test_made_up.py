"""Rows made up from a schema: the loader takes them, and lengths are as asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from interformer_rec.benchmarking.rows import lengths, made_up
from interformer_rec.config.data import DataConfig
from interformer_rec.config.features import FeatureSchema
from interformer_rec.data.loader import Loader

FEATURES = FeatureSchema.model_validate(
    {
        "tables": {
            "item": {},
            "user": {"ids": "hash", "num_embeddings": 50},
            "mode": {"ids": "identity", "num_embeddings": 1},
            "tag": {"ids": "vocab", "num_embeddings": 9},
        },
        "ids": ["user", "item", "mode"],
        "bags": [{"name": "tags", "table": "tag"}],
        "dense": [{"name": "price", "log1p": True, "standardise": True}],
        "sequences": [
            {
                "name": "seen",
                "max_length": 20,
                "timestamp": "time",
                "columns": [{"name": "item", "column": "seen_item"}],
            }
        ],
        "labels": ["label"],
        "weight": "weight",
        "group": "user",
    }
)
ROWS = {"item": 1002, "user": 51, "mode": 2, "tag": 11}


@pytest.mark.parametrize("distribution", ["zipf", "fixed"])
def test_the_loader_reads_every_row_with_ids_of_its_tables(distribution: str, tmp_path: Path):
    table = made_up.rows_of(FEATURES, ROWS, 64, 20, distribution, 0.25)
    pq.write_table(table, tmp_path / "rows.parquet")
    fitted = made_up.fitted_of(FEATURES, ROWS)
    data = DataConfig(batch_size=64, id_dropout=0.0)
    (batch, _), *rest = Loader(str(tmp_path / "rows.parquet"), FEATURES, fitted, data, seed=0).batches()
    assert not rest and batch.rows == 64
    events = batch.sequences["seen.item"]
    assert events.lengths().max() <= 20 and (distribution == "zipf" or events.lengths().min() == 20)
    for ids, table_name in ((events, "item"), (batch.sparse["user"], "user"), (batch.sparse["tags"], "tag")):
        special = FEATURES.tables[table_name].special_rows
        assert special <= int(ids.values().min()) and int(ids.values().max()) < ROWS[table_name]
    assert len(events.values().unique()) > 50  # not all the same
    assert batch.labels.unique().tolist() == [0.0, 1.0]


@pytest.mark.parametrize("fill", [0.05, 0.25, 0.5])
def test_zipf_lengths_have_the_mean_that_is_asked_for(fill: float):
    shares = lengths.zipf(200, fill)
    assert shares.sum() == pytest.approx(1) and shares @ np.arange(201) == pytest.approx(fill * 200, rel=1e-6)
    with pytest.raises(ValueError, match="fill"):
        lengths.zipf(200, 0.6)
