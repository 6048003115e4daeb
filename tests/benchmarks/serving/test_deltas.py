"""The benchmark of deltas on a tiny model: rows and weights change under load, and no request fails."""

from __future__ import annotations

import pytest

from benchmarks.serving import deltas, models


@pytest.mark.release
def test_deltas_are_measured_and_no_request_fails(tmp_path):
    result = deltas.measure(tmp_path, models.TINY, quick=True)
    alone, both, load = result["cases"]
    assert 0 < alone["changed_rows"] < alone["of_rows"] and alone["rows_ms"] > 0
    assert both["bytes"] > alone["bytes"]
    assert load["deltas"] >= 1 and set(load["statuses"]) == {"200"}
    assert [target["what"] for target in result["targets"]] == [
        "10% of the rows, ms CPU",
        "failed requests while deltas come",
    ]
