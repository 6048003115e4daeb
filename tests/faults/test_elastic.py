"""A job that loses a node and gets it back goes on with what it has, and reads every row of an epoch once."""

from __future__ import annotations

import socket

import pytest

from tests.faults.job import MEETING, OWN_STORE, Job


@pytest.mark.slow
def test_two_ranks_one_rank_two_ranks(config, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = (
        "--nnodes=1:2", "--nproc-per-node=1", "--max-restarts=3", "--rdzv-backend=c10d", "--rdzv-id=elastic",
        f"--rdzv-endpoint=localhost:{port}", f"--rdzv-conf={MEETING}",
    )  # fmt: skip
    with Job(tmp_path / "job", config, "training.epochs=1000", forked=False) as job:
        first = job.start(*options, env=OWN_STORE)
        job.wait_for("meeting point", lambda: listens(port))
        second = job.start(*options, env=OWN_STORE)
        job.wait_for_step(3, first, ranks=2)
        second.kill_host()
        job.wait_for_step(8, first, ranks=1)
        second = job.start(*options, env=OWN_STORE)  # the node is back
        job.wait_for_step(job.step() + 7, first, ranks=2)
        assert second.workers(), job.logs()
        job.wait_for_whole_epochs()


def listens(port: int) -> bool:
    """Whether a server is there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
