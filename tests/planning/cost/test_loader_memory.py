"""The loader's memory against what a real loader takes while it draws the events of history pre-training."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.config.run import load
from interformer_rec.data.fit import fit
from interformer_rec.data.loader import DECODE_ROWS, Loader
from interformer_rec.planning.cost.lengths import Lengths
from interformer_rec.planning.cost.loader_memory import loader_bytes
from interformer_rec.planning.cost.sizes import Sizes

ROWS, MEAN = 3 * DECODE_ROWS, 30  # several portions, as large files have
CONFIG = """
name: loaded
training: {epochs: 2}
data:
  batch_size: 64
  shuffle_rows: 1000000
  history_pretraining: {epochs: 1, history: seen, labels: {like: liked}}
features:
  tables: {user: {ids: hash, num_embeddings: 5000}, item: {ids: hash, num_embeddings: 90000}}
  ids: [user, item]
  group: user
  candidate: [item]
  sequences:
    - {name: seen, max_length: 60, columns: [{name: item, column: seen, table: item}]}
    - {name: liked, max_length: 60, columns: [{name: item, column: liked, table: item}]}
  labels: [like]
"""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Histories of 0 to twice the mean; half of what is seen is liked."""
    path, draw = tmp_path_factory.mktemp("rows") / "rows.parquet", np.random.default_rng(0)
    lengths = draw.integers(0, 2 * MEAN + 1, ROWS)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    half = pa.array(np.concatenate([[0], np.cumsum(lengths // 2)]).astype(np.int32))
    events = draw.integers(0, 90_000, lengths.sum())
    columns = {
        "user": draw.integers(0, 5000, ROWS),
        "item": draw.integers(0, 90_000, ROWS),
        "like": draw.integers(0, 2, ROWS),
        "seen": pa.ListArray.from_arrays(offsets, pa.array(events)),
        "liked": pa.ListArray.from_arrays(half, pa.array(events[: (lengths // 2).sum()])),
    }
    pq.write_table(pa.table(columns), path, row_group_size=DECODE_ROWS)
    return path


def test_drawing_events_takes_what_is_counted(rows: Path):
    path = rows.with_name("loaded.yaml")
    path.write_text(CONFIG, encoding="utf-8")
    config = load(path, [f"data.train={rows}"])
    fitted = fit(config.features, str(rows))
    loader = Loader(str(rows), config.features, fitted, config.data, seed=0)
    plan = loader._plan(0)
    (buffer,) = plan.rank_buffers(0)
    tracemalloc.start()
    try:
        loader._decode(plan, buffer, None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    lengths = {"seen": Lengths.constant(MEAN), "liked": Lengths.constant(MEAN / 2)}
    counted = loader_bytes(config, Sizes(fitted.table_rows, lengths), 1, ROWS)
    assert counted.decoded + counted.decoding == pytest.approx(peak, rel=0.25)
    rows_alone = config.model_copy(update={"data": config.data.model_copy(update={"history_pretraining": None})})
    assert loader_bytes(rows_alone, Sizes(fitted.table_rows, lengths), 1, ROWS).decoding < 0.5 * counted.decoding
