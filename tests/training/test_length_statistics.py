"""Lengths of histories: what the report says, whatever max_length is."""

from __future__ import annotations

import pyarrow.parquet as pq

from interformer_rec.data.fit import fit
from interformer_rec.training.length_statistics import LengthStatistics
from tests.data.samples import every_kind_rows, loader_of, with_max_length


def test_nothing_is_as_long_as_max_length_but_the_data(tmp_path):
    pq.write_table(every_kind_rows(), tmp_path / "a.parquet")
    features = with_max_length(2**31 - 1)
    loader = loader_of(str(tmp_path), features, fit(features, str(tmp_path)), batch_size=3)
    counted = LengthStatistics(features)
    for batch, _ in loader.batches():
        counted.add(batch, 0)
    assert {name: histogram.tolist() for name, histogram in counted.histograms.items()} == {
        "watch": [1, 1, 1, 1],
        "buy": [2, 1, 1],
    }
    found = counted.to_dict()["watch"]
    assert found == {"mean": 1.5, "p50": 1, "p95": 3, "p99": 3, "max": 3, "empty": 0.25}
    again = LengthStatistics(features)
    again.load_state_dict(counted.state_dict())
    for batch, _ in loader.batches():
        again.add(batch, 0)
    assert again.histograms["watch"].tolist() == [2, 2, 2, 2] and again.to_dict()["watch"] == found
