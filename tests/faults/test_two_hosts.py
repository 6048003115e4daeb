"""A host that is cut off in mid-epoch: both sides notice, the job goes on without it, and with it when it is back."""

from __future__ import annotations

import re

import pytest

from tests.faults import hosts
from tests.faults.job import HANG, LATE, MEETING, OWN_STORE, Agent, Job, alive


@pytest.mark.slow
def test_a_host_is_cut_off_and_comes_back(config, tmp_path):
    if reason := hosts.missing():
        pytest.skip(reason)
    with hosts.two_hosts() as pair, Job(tmp_path / "job", config, "training.epochs=1000", forked=False) as job:

        def start(host: int) -> Agent:
            conf = f"--rdzv-conf={MEETING},is_host={int(host == 0)}"
            options = pair.torchrun(host, conf, "--max-restarts=3")
            return job.start(*options, inside=pair.inside(host), env={**OWN_STORE, "GLOO_SOCKET_IFNAME": hosts.WIRE})

        near, far = start(0), start(1)
        job.wait_for_step(5, near, ranks=2)
        workers = [near.workers()[0], far.workers()[1]]
        pair.cut()
        job.wait_for("end of both ranks", lambda: not any(map(alive, workers)), HANG + LATE)
        assert re.search(r"rank 1 \(.*\).*step \d+", job.logs()), job.logs()
        job.wait_for_step(8, near, ranks=1)
        assert far.process.poll() is None, "its agent waits for the wire"
        pair.mend()
        job.wait_for_step(12, near, ranks=2)
        job.wait_for_whole_epochs()
        assert not job.damaged()
