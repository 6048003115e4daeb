"""Processes that are killed, asked to stop, or stop answering: the run comes back and ends with the same weights, bit for bit."""

from __future__ import annotations

import re
import signal
import time

import pytest

from tests.faults.conftest import EPOCHS
from tests.faults.job import HANG, LATE, ONE_HOST, STOP, Agent, Job, alive


def goes_on(job: Job, agent: Agent, at_least: int) -> None:
    """Wait for new steps, and check that they begin after what was saved (`at_least` steps) and not later than they may."""
    before = job.log()
    first = job.wait_for("new step", lambda: job.log()[len(before) :])[0]["step"]
    assert at_least < first <= before[-1]["step"] + 1, job.logs()
    job.wait_for_step(before[-1]["step"] + 5, agent)


@pytest.mark.slow
def test_kills_and_a_sigterm_in_a_row_lose_no_more_than_they_may(config, undisturbed, tmp_path):
    with Job(tmp_path / "job", config, EPOCHS, forked=False) as job:
        agent = job.start(*ONE_HOST, "--max-restarts=1")
        job.wait_for_step(7, agent)
        saved = max(job.committed())
        workers = agent.workers()
        workers[1].kill()  # torchrun notices, and starts both ranks again
        job.wait_for("end of the other rank", lambda: not alive(workers[0]))
        goes_on(job, agent, saved)

        workers = agent.workers()
        agent.kill()
        # Nobody is there to end them, and the next job would write into the same folder.
        job.wait_for("end of the ranks without an agent", lambda: not any(map(alive, workers.values())))
        saved = max(job.committed())
        agent = job.start()
        goes_on(job, agent, saved)

        agent.process.send_signal(signal.SIGTERM)
        told = time.monotonic()
        last = job.step()
        job.wait_for("checkpoint of the last step", lambda: max(job.committed()) >= last)
        assert time.monotonic() - told < STOP
        assert job.finish(agent) != 0  # a scheduler must not take it for the end of training
        assert job.committed()[-1] == job.step(), "nothing is lost"
        assert job.finish(job.start()) == 0, job.logs()
        assert job.weights() == undisturbed
        assert [record["step"] for record in job.records()] == list(range(1, 61))


def test_a_rank_that_stops_answering_is_named_and_the_run_goes_on(config, undisturbed, tmp_path):
    with Job(tmp_path / "job", config, EPOCHS) as job:
        agent = job.start(*ONE_HOST, "--max-restarts=1")
        job.wait_for_step(6, agent)
        workers = agent.workers()
        workers[1].send_signal(signal.SIGSTOP)
        job.wait_for("end of the rank that waits", lambda: not alive(workers[0]), HANG + LATE)
        assert re.search(rf"rank 1 \(.*{workers[1].pid}.*\).*step \d+", job.logs()), job.logs()
        workers[1].kill()  # as torchrun does after its 30 s of patience with a SIGTERM
        assert job.finish(agent) == 0, job.logs()
        assert job.weights() == undisturbed
