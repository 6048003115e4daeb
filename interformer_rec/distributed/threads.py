"""CPU threads of a rank. In: how many ranks share this host; out: torch's thread count, set.

torchrun gives every rank of a host that runs several OMP_NUM_THREADS=1 unless the variable is set: on 64 cores two ranks would use
two of them. https://docs.pytorch.org/docs/stable/elastic/run.html
"""

import os

import torch

from interformer_rec.host import usable_cores


def share_cores(local_ranks: int) -> None:
    """An equal share of the cores for each rank, where torchrun has set one thread; any other number is somebody's choice."""
    if "TORCHELASTIC_RUN_ID" in os.environ and local_ranks > 1 and os.environ.get("OMP_NUM_THREADS") == "1":
        torch.set_num_threads(max(1, usable_cores() // local_ranks))
