"""What happened since the last exchange between ranks. In: steps; out: one record for the log, the same on every rank."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
import torch.distributed as dist

from interformer_rec.config.run import RunConfig
from interformer_rec.data.epoch_plan import Cursor
from interformer_rec.errors import DamagedError, InputError
from interformer_rec.metrics.evaluation import WindowMetrics
from interformer_rec.training.pipeline import Step


class Window:
    """Sums of the steps; tensors stay on the device until the exchange."""

    def __init__(self, tasks: list[str], device: torch.device) -> None:
        self.metrics = WindowMetrics(tasks, device)
        self.device = device
        self.weight = 0.0  # of the rows of all ranks since the epoch began; NaN: not to be judged
        self.steps = 0
        self.wait = 0.0
        self.before = 0.0  # seconds of the window before a restart
        self.paused = 0.0  # seconds spent on something else, such as saving
        self.start = time.perf_counter()

    def add(self, step: Step[Cursor]) -> None:
        """Count one step."""
        batch = step.batch
        self.metrics.update(step.loss, step.logits, batch.labels, batch.weights, batch.rows)
        self.steps += 1
        self.wait += step.wait_seconds

    @property
    def seconds(self) -> float:
        """Time that training has had in this window."""
        return self.before + time.perf_counter() - self.start - self.paused

    def exchange(self, skipped: int = 0) -> tuple[dict[str, float], int]:
        """Sum over ranks (waits for the device), and of the rows that each has `skipped`; the window is empty afterwards."""
        sums = torch.tensor([self.wait, skipped], dtype=torch.float64, device=self.device)
        dist.all_reduce(sums)
        waited, all_skipped = sums.tolist()
        record = self.metrics.compute()
        self.weight += self.metrics.weight
        seconds = self.seconds
        self.steps, self.wait, self.before, self.paused, self.start = 0, 0.0, 0.0, 0.0, time.perf_counter()
        record |= {
            "seconds": seconds,
            "samples_per_second": record["rows"] / seconds,
            "data_wait_share": waited / dist.get_world_size() / seconds,
        }
        return record, int(all_skipped)

    def begin_epoch(self, whole: bool) -> None:
        """From here on weights are added up, of a `whole` epoch only."""
        self.weight = 0.0 if whole else math.nan

    def require_weight(self, config: RunConfig, epoch: int) -> None:
        """After an epoch's rows. Raises InputError on all ranks where every one of them had weight 0: nothing was learned from them."""
        column = config.features.weight
        if self.weight == 0 and column and epoch >= config.data.pretraining_epochs:
            raise InputError(
                f"all rows of data.train that were read in this epoch have weight 0, so nothing is learned from them: correct column "
                f"{column!r} (features.weight), or leave features.weight out"
            )

    def state(self) -> dict[str, Any]:
        """Of all ranks, for a checkpoint in the middle of a window (collective); JSON-able."""
        gathered: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(gathered, self.metrics.state())
        return {"steps": self.steps, "seconds": self.seconds, "ranks": gathered}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state()`: every rank its own sums; where the ranks are others, rank 0 has them all.

        Raises DamagedError for one of other labels.
        """
        size = len(self.metrics.state())
        if any(len(sums) != size for sums in state["ranks"]):
            raise DamagedError("the state of the log window in a checkpoint is of other labels than the run's")
        ranks = [[math.nan if value is None else value for value in sums] for sums in state["ranks"]]
        self.steps, self.before = state["steps"], state["seconds"]
        if len(ranks) == dist.get_world_size():
            self.metrics.load_state(ranks[dist.get_rank()])
        elif dist.get_rank() == 0:
            self.metrics.load_state([sum(values) for values in zip(*ranks, strict=True)])

    def restart_clock(self) -> None:
        """Time before now is nobody's: an evaluation, the start."""
        self.start = time.perf_counter()
