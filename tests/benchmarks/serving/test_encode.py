"""The measurement of encoding runs; its bound holds."""

from __future__ import annotations

import pytest

from benchmarks.data import write_synthetic
from benchmarks.serving.encode import SIZES, TARGET, measure


@pytest.mark.release
def test_one_row_takes_a_tenth_of_the_decoder(tmp_path):
    write_synthetic(tmp_path / "a.parquet", rows=2_000)
    result = measure(str(tmp_path / "a.parquet"), repeats=5)
    assert result["ratio_one_row"] <= TARGET
    micros = {(case["form"], case["rows"]): case["cpu_microseconds"] for case in result["cases"]}
    assert len(micros) == 6 * len(SIZES)
    for form in ("user, candidates as objects", "user, candidates as lists", "user, candidates as an Arrow table"):
        assert micros[form, 500] < 50 * micros[form, 1]  # columns at once, not a row at a time
