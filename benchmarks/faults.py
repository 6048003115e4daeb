"""What a job loses and how long it takes to come back: real torchrun jobs are killed, stopped, cut off and starved.

    python -m benchmarks.faults [--only NAME,NAME] [--kills 50] [--seed 0] [--json PATH]

For each fault: seconds until the job notices (a process that was not attacked ends), until the first new training step, and
the steps that had to be done over. Then kill -9 of a random rank, or of everything, at random moments in a row, a third of them
inside a save; whatever was committed must stay whole, the run must go on from it, and end with the weights of a run that was
left alone. Times contain the start of Python and torch. The two hosts are network namespaces: they need root and iproute2.
"""

import argparse
import os
import platform
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from benchmarks.harness.result_file import write_result
from interformer_rec.install import stack
from tests.faults import hosts
from tests.faults.job import MEETING, ONE_HOST, OWN_STORE, SETTINGS, Agent, Job, alive, prepare_data
from tests.faults.test_data import damage_row_group

LONG = "training.epochs=10000"
PATIENCE = 180  # seconds for anything to happen here
Row = dict[str, Any]


def suffer(
    job: Job, fault: Callable[[], object], witnesses: list[psutil.Process], again: Callable[[], object] = lambda: None
) -> Row:
    """Do `fault`, start the job `again` if that takes somebody, and measure; `witnesses` end when the fault is noticed."""
    saved = job.committed()
    began = time.monotonic()
    fault()
    job.wait_for("reaction", lambda: not all(map(alive, witnesses)), PATIENCE)
    noticed = time.monotonic() - began
    job.wait_for("end of the ranks", lambda: not any(map(alive, witnesses)), PATIENCE)
    before = job.log()
    again()
    first = job.wait_for("new step", lambda: job.log()[len(before) :], PATIENCE)[0]["step"]
    row = {
        "noticed_seconds": noticed,
        "training_again_seconds": time.monotonic() - began,
        "steps_lost": before[-1]["step"] + 1 - first,
    }
    assert first > max(saved, default=0) and not job.damaged(), job.logs()
    return row


def processes(folder: Path, config: Path) -> dict[str, Row]:
    """A rank or the agent is killed, asked to stop, or stops answering, on one host."""
    rows = {}
    with Job(folder, config, LONG) as job:
        agent = job.start(*ONE_HOST, "--max-restarts=9")

        def settle() -> list[psutil.Process]:
            job.wait_for_step(job.step() + 7, agent)
            return list(dict(sorted(agent.workers().items())).values())

        ranks = settle()
        rows["kill -9 of a rank"] = suffer(job, ranks[1].kill, [ranks[0]])
        ranks = settle()
        rows["SIGSTOP of a rank"] = suffer(job, ranks[1].suspend, [ranks[0]])
        ranks = settle()

        def start_again() -> None:
            nonlocal agent
            job.finish(agent)
            agent = job.start(*ONE_HOST, "--max-restarts=9")

        rows["kill -9 of the agent"] = suffer(job, agent.process.kill, ranks, start_again)
        ranks = settle()
        rows["SIGTERM to the agent"] = suffer(
            job, lambda: agent.process.send_signal(signal.SIGTERM), ranks, start_again
        )
    return rows


def data(folder: Path, config: Path) -> dict[str, Row]:
    """A row group that cannot be read any more: restarts do not help, and the job ends."""
    files = shutil.copytree(config.parent / "train", folder / "train")
    with Job(folder, config, LONG, f"data.train={files}") as job:
        agent = job.start(*ONE_HOST, "--max-restarts=1")
        job.wait_for_step(7, agent)
        ranks = list(agent.workers().values())
        damage_row_group(files / "part-001.parquet", "price")
        began = time.monotonic()
        job.wait_for("reaction", lambda: not all(map(alive, ranks)), PATIENCE)
        noticed = time.monotonic() - began
        assert job.finish(agent) == 1 and not job.damaged()
        return {"damaged row group": {"noticed_seconds": noticed, "job_ended_seconds": time.monotonic() - began}}


def nodes(folder: Path, config: Path) -> dict[str, Row]:
    """A node dies and returns, in one job of one to two nodes (both on this host)."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with Job(folder, config, LONG) as job:

        def start() -> Agent:
            where = ("--rdzv-backend=c10d", f"--rdzv-endpoint=localhost:{port}", f"--rdzv-conf={MEETING}")
            return job.start("--nnodes=1:2", "--nproc-per-node=1", "--max-restarts=9", *where, env=OWN_STORE)

        first = start()
        time.sleep(1)  # the first one is where they meet
        second = start()
        job.wait_for_step(7, first, ranks=2)
        rows = {"a node dies: 2 -> 1 ranks": suffer(job, second.kill_host, list(first.workers().values()))}
        job.wait_for_step(job.step() + 7, first, ranks=1)
        rows["a node returns: 1 -> 2 ranks"] = suffer(job, start, list(first.workers().values()))
        job.wait_for_step(job.step() + 7, first, ranks=2)
        job.wait_for_whole_epochs()
    return rows


def two_hosts(folder: Path, config: Path) -> dict[str, Row]:
    """The wire between two hosts is cut in mid-epoch, mended, cut again, and the host behind it dies."""
    with hosts.two_hosts() as pair, Job(folder, config, LONG) as job:

        def start(host: int) -> Agent:
            conf = f"--rdzv-conf={MEETING},is_host={int(host == 0)}"
            options = pair.torchrun(host, conf, "--max-restarts=9")
            return job.start(*options, inside=pair.inside(host), env={**OWN_STORE, "GLOO_SOCKET_IFNAME": hosts.WIRE})

        near = start(0)
        time.sleep(1)
        far = start(1)

        def ranks() -> list[psutil.Process]:
            return [*near.workers().values(), *far.workers().values()]

        job.wait_for_step(7, near, ranks=2)
        rows = {"a host is cut off: 2 -> 1 hosts": suffer(job, pair.cut, ranks())}
        job.wait_for_step(job.step() + 7, near, ranks=1)
        rows["the host can be reached again: 1 -> 2 hosts"] = suffer(job, pair.mend, list(near.workers().values()))
        job.wait_for_step(job.step() + 7, near, ranks=2)

        def power_off() -> None:
            pair.cut()
            far.kill_host()

        rows["a host loses power: 2 -> 1 hosts"] = suffer(job, power_off, list(near.workers().values()))
        job.wait_for_step(job.step() + 7, near, ranks=1)
        job.wait_for_whole_epochs()
    return rows


def kills(folder: Path, config: Path, count: int, seed: int) -> Row:
    """`count` times kill -9 in a row, then the rest of the run; raises AssertionError if anything committed is lost."""
    rng = random.Random(seed)
    epochs = f"training.epochs={2 * count}"  # 12 steps a kill: more than are done between two
    with Job(folder / "alone", config, epochs) as job:
        assert job.finish(job.start(), 10 * PATIENCE) == 0, job.logs()
        expected = job.weights()
    done: Row = {"kills": 0, "with_half_a_checkpoint": 0, "while_starting": 0, "steps_done_over": 0, "seed": seed}
    with Job(folder / "killed", config, epochs) as job:
        agent = job.start(*ONE_HOST, "--max-restarts=1000")
        seen = floor = 0
        while done["kills"] < count:
            wait_for_moment(job, rng)
            assert agent.process.poll() is None, f"the run ended after {done['kills']} kills\n{job.logs()}"
            done["while_starting"] += seen == len(job.log())
            floor = check_resumed(job, seen, floor, done)
            strike(job, agent, rng)
            seen, floor = len(job.log()), max([floor, *job.committed()])
            folders = {int(path.name.split("-")[1]) for path in (job.run / "checkpoints").glob("step-*")}
            done["with_half_a_checkpoint"] += bool(folders - set(job.committed()))
            done["kills"] += 1
            assert not job.damaged(), job.damaged()
            if agent.process.poll() is not None:
                agent = job.start(*ONE_HOST, "--max-restarts=1000")
        assert job.finish(agent, 10 * PATIENCE) == 0, job.logs()
        check_resumed(job, seen, floor, done)
        assert job.weights() == expected, "the weights differ from those of a run that was left alone"
        done["steps"] = job.step()
    return done


def strike(job: Job, agent: Agent, rng: random.Random) -> None:
    """kill -9 of one rank, whose agent then restarts both, or of everything; returns when all ranks are gone."""
    workers = agent.workers()
    if workers and rng.random() < 0.5:
        rng.choice(list(workers.values())).kill()
    else:
        agent.kill_host()
    job.wait_for("end of the ranks", lambda: not any(map(alive, workers.values())), PATIENCE)


def wait_for_moment(job: Job, rng: random.Random) -> None:
    """Any time, starting up included; or after some steps; or while a checkpoint is being written."""
    kind = rng.choice(("time", "steps", "save"))
    if kind == "time":
        time.sleep(rng.uniform(0, 8))
        return
    before, steps = len(job.log()), rng.randint(1, 12)
    job.wait_for("steps", lambda: len(job.log()) >= before + steps, PATIENCE)
    if kind == "save":
        folders = job.run / "checkpoints"

        def saving() -> bool:
            return any(not (folder / "manifest.json").exists() for folder in folders.glob("step-*"))

        job.wait_for("save", saving, PATIENCE, pause=0.0005)
        time.sleep(rng.uniform(0, 0.01))


def check_resumed(job: Job, seen: int, floor: int, done: Row) -> int:
    """The run went on from what was committed (`floor` steps) or later; counts the steps done over. Returns the new floor."""
    log = job.log()
    if len(log) > seen:
        first = log[seen]["step"]
        assert first > floor, f"went on at step {first}, although step {floor} was saved\n{job.logs()}"
        done["steps_done_over"] += (log[seen - 1]["step"] if seen else 0) + 1 - first
    return max([floor, *job.committed()])


def show(rows: dict[str, Row]) -> None:
    """One line a fault."""
    print(f"{'fault':46} {'noticed':>9} {'trains again':>13} {'steps lost':>11}")
    for name, row in rows.items():
        again, lost = row.get("training_again_seconds"), row.get("steps_lost", "-")
        last = f"{again:11.1f} s" if again is not None else f"{'ends':>6} {row['job_ended_seconds']:4.1f} s"
        print(f"{name:46} {row['noticed_seconds']:7.1f} s {last:>13} {lost:>11}")


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="processes,data,nodes,two_hosts,kills", help="of these, separated by commas")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="PATH")
    options = parser.parse_args()
    faults = {"processes": processes, "data": data, "nodes": nodes, "two_hosts": two_hosts}
    only = options.only.split(",")
    result: Row = {"settings": SETTINGS, "rendezvous": MEETING, "faults": {}}
    with tempfile.TemporaryDirectory() as scratch:
        config = prepare_data(Path(scratch) / "synthetic")
        for name in filter(faults.__contains__, only):
            if name == "two_hosts" and (reason := hosts.missing()):
                print(f"two_hosts is left out: {reason}")
                continue
            result["faults"] |= faults[name](Path(scratch) / name, config)
        if result["faults"]:
            show(result["faults"])
        if "kills" in only:
            began = time.monotonic()
            result["kills"] = kills(Path(scratch) / "kills", config, options.kills, options.seed)
            result["kills"]["seconds"] = time.monotonic() - began
            print("random kills:", ", ".join(f"{value:.4g} {name}" for name, value in result["kills"].items()))
    versions = stack.read()
    result["command"] = "python -m benchmarks.faults " + " ".join(sys.argv[1:])
    result["machine"] = (
        f"{os.cpu_count()} cores, {psutil.virtual_memory().total >> 30} GiB, {platform.machine()}, no GPU"
    )
    result["versions"] = {"python": platform.python_version(), "torch": versions.torch, "torchrec": versions.torchrec}
    result["date"] = time.strftime("%Y-%m-%d")
    write_result(options.json, result)


if __name__ == "__main__":
    main()
