"""A moving average of the dense weights. In: the parameters, after every step; out: the average, lent to the model to be evaluated.

Weights that are averaged over the last 1 / (1 - decay) steps or so move less than the raw ones, and often score better (Polyak and
Juditsky 1992). Tables are not averaged: a step changes few of their rows, inside the backward kernels, and a second copy of them
would double a job's memory. Buffers are not averaged either; no model here has running statistics.
"""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


class DenseAverage:
    """Follows `parameters`, which keep their memory and their dtype; it is the same on every rank as they are.

    After step t = 0, 1, ... since the start: average = d * average + (1 - d) * weight with d = min(decay, (1 + t) / (10 + t)), so
    that a short run is not held to its first weights (the warm start of TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.steps = 0  # that are in the average; saved with it
        self.tensors = {parameter: parameter.detach().clone() for parameter in parameters}

    @torch.no_grad()
    def update(self, frozen: Collection[nn.Parameter] = ()) -> None:
        """Take in the weights of a step that was just made, but for those that it left alone; nothing waits for the device."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        pairs = [(average, weight) for weight, average in self.tensors.items() if weight not in frozen]
        averages, weights = map(list, zip(*pairs, strict=True))
        torch._foreach_lerp_(averages, weights, 1 - decay)
        self.steps += 1

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Inside, the parameters hold the average; afterwards, whatever happened, what they held before, bit for bit."""
        parameters: list[torch.Tensor] = list(self.tensors)
        raw = [parameter.detach().clone() for parameter in parameters]
        try:
            _copy(parameters, list(self.tensors.values()))
            yield
        finally:
            _copy(parameters, raw)


@torch.no_grad()
def _copy(to: list[torch.Tensor], values: list[torch.Tensor]) -> None:
    torch._foreach_copy_(to, values)
