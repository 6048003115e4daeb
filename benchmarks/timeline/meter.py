"""What the windows of a run cost and how its rows scored. In: a run that is ready to start; out: a WindowCost and Scored rows a window.

CPU seconds are those of the process, so that a busy machine changes them little.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.quality.statistics import Scored
from interformer_rec.batch import Batch
from interformer_rec.distributed.parallelize import Parallel
from interformer_rec.distributed.state import local_state
from interformer_rec.training.loop import Hook
from interformer_rec.training.start.prepare import Start
from interformer_rec.training.windows.order import Present


@dataclass
class WindowCost:
    """Of one window."""

    admission_cpu_seconds: float
    train_cpu_seconds: float  # with its checkpoint
    train_seconds: float
    table_bytes: int  # weights and optimizer state, at the window's end


class ScoredRows:
    """Scores of the rows that a model evaluates, in their order."""

    def __init__(self, parallel: Parallel) -> None:
        self._parts: list[tuple[np.ndarray, ...]] = []
        parallel.model.register_forward_hook(self._keep)

    def _keep(self, model: torch.nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        """After a forward pass."""
        if model.training:
            return
        batch: Batch = arguments[0]
        logits = output[1][:, 0].detach()
        parts = (batch.labels[:, 0], torch.sigmoid(logits.double()), batch.groups)
        self._parts.append(tuple(part.cpu().numpy().copy() for part in parts))

    def take(self) -> Scored:
        """Those since the last call."""
        labels, scores, users = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        self._parts.clear()
        return Scored(labels, scores, users)


class Meter(Hook):
    """The first hook of a run over windows; `admitted` is the one after the growing tables."""

    def __init__(self, start: Start, decay: float) -> None:
        """`decay`: what the optimizer state of the tables is multiplied by when a window begins."""
        self.costs: dict[str, WindowCost] = {}
        self.scored: dict[str, Scored] = {}
        self.rows = ScoredRows(start.parallel)
        self._parallel, self._decay = start.parallel, decay
        self._began = self._trains = self._wall = 0.0
        hooks = start.trainer.hooks
        place = hooks.all.index(hooks.growing) + 1 if hooks.growing is not None else 0
        hooks.all.insert(place, Admitted(self))
        hooks.all.insert(0, self)

    def begin_window(self, window: Present, continued: bool) -> None:
        """Its evaluation is over."""
        self.scored[window.name] = self.rows.take()
        self._began = time.process_time()

    def admitted(self) -> None:
        """The growing tables have the window's ids."""
        if self._decay != 1:
            decay_state(self._parallel, self._decay)
        self._trains, self._wall = time.process_time(), time.perf_counter()

    def end_window(self, window: Present) -> None:
        """It was trained on."""
        if window.name not in self.costs and window.name in self.scored:  # a resumed run ends its last window again
            cpu, wall = time.process_time() - self._trains, time.perf_counter() - self._wall
            self.costs[window.name] = WindowCost(self._trains - self._began, cpu, wall, table_bytes(self._parallel))


class Admitted(Hook):
    """Reports to the meter that the hooks before it are done."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def begin_window(self, window: Present, continued: bool) -> None:
        """Training comes next."""
        self._meter.admitted()


def table_bytes(parallel: Parallel) -> int:
    """Of all tables: weights and optimizer state."""
    return sum(tensor.nbytes for _, parts in local_state(parallel) for tensor in parts.values())


@torch.no_grad()
def decay_state(parallel: Parallel, factor: float) -> None:
    """Multiply the optimizer state of all tables: old gradients count less, so steps grow."""
    for _, parts in local_state(parallel):
        for name, tensor in parts.items():
            if name != "weight":
                tensor.mul_(factor)
