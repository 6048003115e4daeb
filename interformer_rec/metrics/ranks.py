"""NumPy arrays between ranks. In: this rank's array; out: every rank's, or the parts that the others sent here.

Without a process group there is one rank and nothing moves, so whatever is built on this is one path for every size.
"""

import numpy as np
import torch
import torch.distributed as dist


class Ranks:
    """The ranks of a job, seen by one of them. Every method is a collective: all ranks call it, in one order.

    `device`: where the backend wants its tensors.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        joined = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if joined else 0
        self.size = dist.get_world_size() if joined else 1
        self.device = torch.device(device)

    def gather(self, array: np.ndarray) -> np.ndarray:
        """(...) on every rank, of one shape and dtype -> (ranks, ...), the same bits everywhere."""
        if self.size == 1:
            return array[None]
        mine = torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
        # A list of outputs, not all_gather_into_tensor: gloo has had it for longer, and these arrays are small.
        theirs = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(theirs, mine)
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
        dist.all_to_all_single(target, source, receives.tolist(), sends.tolist())
        return target.cpu().numpy()
