"""NumPy arrays between ranks. In: this rank's array; out: every rank's, or the parts that the others sent here.

Without a process group there is one rank and nothing moves, so whatever is built on this is one path for every size.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.distributed as dist


class Ranks:
    """The ranks of a process group, seen by one of them. Every method is a collective: all ranks call it, in one order.

    `device`: where the group's backend wants its tensors; None takes the current GPU for NCCL and the CPU otherwise.
    """

    def __init__(self, process_group: dist.ProcessGroup | None = None, device: torch.device | None = None) -> None:
        self.group = process_group
        joined = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank(process_group) if joined else 0
        self.size = dist.get_world_size(process_group) if joined else 1
        if device is None:
            on_gpu = joined and dist.get_backend(process_group) == "nccl"
            device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
        self.device = device

    def gather(self, array: np.ndarray) -> np.ndarray:
        """(...) on every rank, of one shape and dtype -> (ranks, ...), the same bits everywhere."""
        if self.size == 1:
            return array[None]
        mine = torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
        # A list of outputs, not all_gather_into_tensor: gloo has had it for longer, and these arrays are small.
        theirs = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(theirs, mine, group=self.group)
        return torch.stack(theirs).cpu().numpy()

    def sum(self, array: np.ndarray) -> np.ndarray:
        """(...) on every rank -> (...), added up in rank order, so that all ranks hold the same bits."""
        return self.gather(array).sum(axis=0)

    def exchange(self, column: np.ndarray, sends: np.ndarray) -> np.ndarray:
        """(n,) here, its first sends[0] elements for rank 0 and so on -> (m,), what all ranks sent here, in rank order.

        sends: (ranks,) int64 that adds up to n.
        """
        if self.size == 1:
            return column
        receives = self.gather(sends)[:, self.rank]
        source = torch.from_numpy(np.ascontiguousarray(column)).to(self.device)
        target = torch.empty(int(receives.sum()), dtype=source.dtype, device=self.device)
        dist.all_to_all_single(target, source, receives.tolist(), sends.tolist(), group=self.group)
        return target.cpu().numpy()
