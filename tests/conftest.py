"""One thread a process: two test workers on two cores, and their ranks, would otherwise wait for each other's threads."""

import gc
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded; the processes that tests start inherit it
gc.disable()  # until all tests are loaded: nothing of them is garbage


def pytest_collection_finish() -> None:
    """Collect what tests leave, without a look at the million objects of torch and the tests themselves each time."""
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    """The interpreter's last collection finds all again: some libraries complain of what is left of them."""
    gc.unfreeze()
