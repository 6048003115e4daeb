"""What this rank sends to others. In: collectives of torch.distributed, as they are dispatched; out: bytes, by the collective's name.

An all-reduce counts as a ring does it, 2 (n - 1) / n of its bytes from each rank; of what is gathered or scattered a rank's part goes to
each of the others. TorchRec's exchanges and DDP's all-reduce both pass here, in backward passes too.
"""

from collections import Counter
from typing import Any

import torch
import torch.distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

NAMESPACE = "c10d"


class Sent(TorchDispatchMode):
    """A context manager; `bytes` afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: Counter[str] = Counter()
        self._ranks, self._rank = dist.get_world_size(), dist.get_rank()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count a collective, and run whatever it is."""
        kwargs = kwargs or {}
        if function.namespace == NAMESPACE:
            name = function._overloadpacket.__name__
            self.bytes[name] += round(self._of(name, args))
        return function(*args, **kwargs)

    def _of(self, name: str, args: Any) -> float:
        others = self._ranks - 1
        if name == "alltoall_base_":
            source, splits = args[1], args[4]
            own = splits[self._rank] / max(1, source.shape[0]) if splits else 1 / self._ranks
            return _bytes(source) * (1 - own)
        if name == "alltoall_":
            return _bytes(args[1]) - _bytes(args[1][self._rank])
        if name.startswith(("allreduce_", "allreduce_coalesced_")):
            return 2 * others / self._ranks * _bytes(args[0])
        if "reduce_scatter" in name:
            return others / self._ranks * _bytes(args[1])
        if "allgather" in name:
            return others * _bytes(args[1])
        return 0.0


def _bytes(tensors: Any) -> int:
    found = [leaf for leaf in tree_leaves(tensors) if isinstance(leaf, torch.Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in found)
