"""Two pieces of work that do not wait for each other come in; both results go out, on CUDA from two streams side by side.

The paper overlaps Interaction and Sequence Arch for 20% more samples/s. Never run on a GPU yet.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import torch

A = TypeVar("A")
B = TypeVar("B")


@lru_cache
def _second(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def side_by_side(
    first: Callable[[], A], second: Callable[[], B], device: torch.device, tensors: Callable[[B], list[torch.Tensor]]
) -> tuple[A, B]:
    """Results of both; `tensors` lists those in the second's. A CPU runs one after the other.

    The backward pass runs each piece on its own stream again (PyTorch, "Stream semantics of backward passes"). The inputs have
    to outlive the call, so that their memory is not given away while the second stream still reads it.
    """
    if device.type != "cuda":
        return first(), second()
    current, side = torch.cuda.current_stream(device), _second(device)
    side.wait_stream(current)
    with torch.cuda.stream(side):
        other = second()
    mine = first()
    current.wait_stream(side)
    for x in tensors(other):
        x.record_stream(current)
    return mine, other
