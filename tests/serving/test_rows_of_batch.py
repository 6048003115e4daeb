"""The rows that an export is compared on: of a batch of requests the same as of its candidates as impressions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from interformer_rec.data.fit import fit
from interformer_rec.serving.rows_of_batch import inputs_of, part_of
from tests.data.request_samples import impressions, of_impressions, of_requests, requests
from tests.data.samples import loader_of


def arrays(rows) -> list[np.ndarray]:
    found = [rows.dense, rows.ids]
    for part in (*rows.bags, *rows.histories):
        found += [part.rows, part.lengths]
    return found


def test_requests_are_compared_as_impressions_are(tmp_path: Path) -> None:
    table = requests(np.random.default_rng(3), 40)
    pq.write_table(table, tmp_path / "requests.parquet", row_group_size=9)
    pq.write_table(impressions(table, of_requests()), tmp_path / "impressions.parquet", row_group_size=17)
    fitted, found = None, []
    for name, features in (("requests", of_requests()), ("impressions", of_impressions())):
        path = str(tmp_path / f"{name}.parquet")
        mine = fit(features, path)
        fitted = fitted or mine
        loader = loader_of(path, features, replace(mine, moments=fitted.moments), batch_size=23)
        found.append([inputs_of(batch, features) for batch, _ in loader.batches()])
    assert len(found[0]) == len(found[1]) > 3
    for ours, theirs in zip(*found, strict=True):
        for one, other in ((ours, theirs), (part_of(ours, 2, 9), part_of(theirs, 2, 9))):
            for mine, wanted in zip(
                [*arrays(one.users), *arrays(one.candidates)],
                [*arrays(other.users), *arrays(other.candidates)],
                strict=True,
            ):
                np.testing.assert_array_equal(mine, wanted)
