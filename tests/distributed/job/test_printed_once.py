"""A job's error: printed once, by the rank that has it; every rank ends with its exit code."""

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from interformer_rec import cli
from tests import torchrun
from tests.forked import environment, free_port, run

CONFIG = {
    "name": "job",
    "features": {"tables": {"item": {}}, "ids": [{"name": "item"}], "dense": [{"name": "price"}], "labels": ["click"]},
    "model": {"kind": "dcnv2", "embedding_dim": 4, "hidden": [8]},
}

AFTER = "watchdog: no progress for 60 s (after the failure of a rank)"


@pytest.fixture
def job(tmp_path):
    """Writes a config of 64 rows, one of them as the test wants it; returns its path."""

    def write(price=1.0, row=0, **training):
        prices = [1.0] * 64
        prices[row] = price
        columns = {"item": list(range(64)), "price": prices, "click": [0, 1] * 32}
        pq.write_table(pa.table(columns), tmp_path / "train.parquet", row_group_size=8)
        data = {"train": str(tmp_path / "train.parquet"), "batch_size": 4, "shuffle_rows": 0}
        training = {"out": str(tmp_path / "run"), "device": "cpu", "start_seconds": 900, **training}
        (tmp_path / "job.yaml").write_text(yaml.safe_dump({**CONFIG, "data": data, "training": training}))
        return str(tmp_path / "job.yaml")

    return write


def train(paths, *more):
    """`interformer train` with a config for each rank; the last one is for the rest."""
    rank = int(os.environ["RANK"])
    return cli.main(["train", paths[min(rank, len(paths) - 1)], *more])


def ranks(size, paths, *more, **variables):
    port = free_port()
    return run(
        [environment(rank, size, port, **variables) for rank in range(size)], train, paths, *more, limit=300
    )  # a rank that waits for one that failed is killed, and has another exit code


def lines(ended):
    """What ranks printed that is no progress of the run: (rank, line)."""
    return [
        (rank, line) for rank, one in enumerate(ended) for line in one.printed.splitlines() if "interformer" in line
    ]


@pytest.mark.parametrize("size", [2, 4])
def test_an_error_of_every_rank(job, tmp_path, size):
    (tmp_path / "bad.yaml").write_text("name: [")
    ended = ranks(size, [str(tmp_path / "bad.yaml")])
    assert [one.code for one in ended] == [2] * size
    assert len(lines(ended)) == 1 and "is not valid YAML" in lines(ended)[0][1]


@pytest.mark.parametrize("size, failing", [(2, 1), (4, 0), (4, 3)])
def test_an_error_of_one_rank_before_it_joins(job, tmp_path, size, failing):
    paths = [job()] * size
    paths[failing] = str(tmp_path / "not on this host.yaml")
    ended = ranks(size, paths)
    assert [one.code for one in ended] == [2] * size
    assert [(rank, "not on this host.yaml" in line) for rank, line in lines(ended)] == [(failing, True)]


@pytest.mark.parametrize("size", [2, 4])
def test_an_error_that_rank_0_finds_for_all(job, size, tmp_path):
    job()
    ended = ranks(size, [job()], f"--set=data.train={tmp_path}/none.parquet")
    assert [one.code for one in ended] == [2] * size
    assert [(rank, "none.parquet" in line) for rank, line in lines(ended)] == [(0, True)], ended


# Where a rank leaves while others connect to it, gloo may never end another one's collective. The watchdog ends that rank, with 1.
@pytest.mark.parametrize("size, row", [(2, 0), (2, 63), (4, 45)])
def test_a_bad_row_of_one_rank(job, size, row):
    ended = ranks(size, [job(price=None, row=row)])
    assert all(one.code == 2 or (one.code == 1 and AFTER in one.printed) for one in ended), ended
    ((rank, line),) = [(rank, line) for rank, line in lines(ended) if "interformer train (" in line]
    assert f"interformer train (rank {rank} of {size}): " in line and "price" in line and ended[rank].code == 2


def test_an_error_of_the_run_that_all_ranks_have(job):
    ended = ranks(2, [job(price=3e38)], "--set=optimizer.dense.lr=1e30", "--set=training.epochs=20")
    assert [one.code for one in ended] == [1, 1], ended
    assert len(lines(ended)) == 1 and "NonFiniteLoss" in lines(ended)[0][1]


def test_torchruns_summary_has_the_message_of_every_rank(job, tmp_path):
    files = [tmp_path / f"error-{rank}.json" for rank in range(2)]
    port = free_port()
    variables = [environment(rank, 2, port, TORCHELASTIC_ERROR_FILE=str(files[rank])) for rank in range(2)]
    run(variables, train, [job(), str(tmp_path / "gone.yaml")])
    assert all("gone.yaml" in file.read_text() for file in files)


def test_commands_of_one_process_do_not_wait_for_ranks(tmp_path):
    """WORLD_SIZE may be set where one process checks a config."""
    command = ["config", str(tmp_path / "none.yaml")]
    (ended,) = run([environment(0, 4, free_port())], cli.main, command)  # which kills a process that waits
    assert ended.code == 2 and ended.printed.count("none.yaml") == 1


@pytest.mark.parametrize("size", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_under_torchrun(job, tmp_path, size):
    path = job(price=None, row=63)
    code, printed = torchrun.finished(tmp_path, "-m", "interformer_rec.cli", "train", path, ranks=size)
    said = [line for line in printed.splitlines() if line.startswith(("interformer train", "interformer:"))]
    assert code == 1 and len(said) == 1 and "price" in said[0], printed
    assert printed.count(said[0]) >= 2, "torchrun's summary has it too"
