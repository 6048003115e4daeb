"""One thread a process: two test workers on two cores, and their ranks, would otherwise wait for each other's threads."""

import atexit
import gc
import os
import signal

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded; the processes that tests start inherit it
gc.disable()  # until all tests are loaded: nothing of them is garbage
# nohup and a shell's background jobs ignore these, which runs respect and tests of signals would take for a fault
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)


# A worker gets a file at a time. Those that take long come first, lest one is left when the others have ended; every third
# of them waits for limits of time: side by side they would leave the cores idle.
LONG = (
    "watchdog/test_watchdog.py",
    "benchmarks/quality/test_command.py",
    "serving/test_without_torch.py",
    "training/windows/test_follow.py",
    "planning/cost/test_dense.py",
    "training/windows/test_growing_tables.py",
    "faults/test_processes.py",
    "training/start/warm/test_source.py",
    "training/windows/test_resume.py",
    "launch_/test_jobs.py",
    "install/test_fbgemm.py",
    "planning/score/test_score.py",
    "distributed/job/test_rendezvous.py",
    "install/",
    "planning/",
    "training/folder/test_lock.py",
    "faults/",
    "training/",
    "serving/",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files in the order of LONG, then the others; within a file nothing moves."""

    def place(item: pytest.Item) -> int:
        return next((number for number, path in enumerate(LONG) if f"tests/{path}" in item.nodeid), len(LONG))

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """Collect what tests leave, without a look at the million objects of torch and the tests themselves each time."""
    gc.freeze()
    gc.enable()


# The interpreter's last collection finds all again: some libraries complain of what is left of them. pytest's own last
# collection comes before, and need not look at it.
atexit.register(gc.unfreeze)
