"""`data group` holds a bounded part of its rows: its memory against the size of what it reads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[3]
EVENTS, ROWS = 100, 50_000  # of a history; of a file
GROUP = """
import sys
from pathlib import Path
from interformer_rec.cli import main
code = main(sys.argv[1:])
# not ru_maxrss: that of the process that started this one counts there
status = Path("/proc/self/status").read_text(encoding="utf-8")
print(int(status.split("VmHWM:")[1].split()[0]) * 1024, file=sys.stderr)
sys.exit(code)
"""


def write(folder: Path, files: int) -> int:
    """Rows whose requests reach over all files; their bytes when they are read."""
    folder.mkdir()
    random, total = np.random.default_rng(0), 0
    offsets = pa.array(np.arange(0, ROWS * EVENTS + 1, EVENTS, dtype=np.int32))
    for file in range(files):
        request = random.integers(0, files * ROWS // 8, ROWS)
        history = (request[:, None] * 2_654_435_761 + np.arange(EVENTS) * 97) % 1_000_003
        rows = pa.table(
            {
                "request": request,
                "history": pa.ListArray.from_arrays(offsets, pa.array(history.reshape(-1))),
                "item": random.integers(0, 10**6, ROWS),
            }
        )
        pq.write_table(rows, folder / f"part-{file:03}.parquet", row_group_size=10_000)
        total += rows.nbytes
    return total


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    peaks, sizes = [], []
    for files in (8, 32):
        folder = tmp_path / f"rows{files}"
        sizes.append(write(folder, files))
        options = ["--by", "request", "--candidates", "item", "--memory", "0.1", "--out", str(tmp_path / f"out{files}")]
        done = subprocess.run(
            [sys.executable, "-c", GROUP, "data", "group", str(folder), *options],
            capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True,
        )  # fmt: skip
        peaks.append(int(done.stderr.split()[-1]))
    assert sizes[1] > 4 * sizes[0] - 1e6 and sizes[1] > 1.2e9
    assert peaks[1] - peaks[0] < 0.1 * (sizes[1] - sizes[0]), (peaks, sizes)
    assert peaks[1] < sizes[1] / 2, (peaks, sizes)
