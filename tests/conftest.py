"""One thread a process: two test workers on two cores, and their ranks, would otherwise wait for each other's threads."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded; the processes that tests start inherit it
