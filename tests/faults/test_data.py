"""Files that go bad while a run reads them: the job ends soon, and its message says which rank could not read what."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq

from tests.faults.job import ONE_HOST, Job


def damage_row_group(file: Path, column: str) -> None:
    """Overwrite the pages of a column in the first row group, as a disk that fails does; the footer stays."""
    group = pq.read_metadata(file).row_group(0)
    chunk = next(found for i in range(group.num_columns) if (found := group.column(i)).path_in_schema == column)
    with file.open("r+b") as opened:
        opened.seek(chunk.dictionary_page_offset or chunk.data_page_offset)
        opened.write(bytes(chunk.total_compressed_size))


def test_a_row_group_that_goes_bad_ends_the_job_with_its_name(config, tmp_path):
    data = shutil.copytree(config.parent / "train", tmp_path / "train")
    with Job(tmp_path / "job", config, f"data.train={data}", "training.epochs=1000") as job:
        agent = job.start(*ONE_HOST, "--max-restarts=0")
        job.wait_for_step(5, agent)
        damage_row_group(data / "part-001.parquet", "price")
        assert job.finish(agent) == 1, job.logs()
        message = r"interformer train \(rank [01] of 2\): .*part-001.parquet'?, row group 0, column 'price'"
        assert re.search(message, job.logs()), job.logs()
        assert job.committed() and not job.damaged()
