"""What happened since the last exchange between ranks. In: steps; out: a record for the log, the same on every rank."""

import math
import time
from typing import Any

import torch
import torch.distributed as dist

from interformer_rec.distributed.optimizer import RunOptimizer
from interformer_rec.errors import DamagedError, InputError
from interformer_rec.metrics.evaluation import IntervalMetrics
from interformer_rec.training.epoch_phase import epoch_line
from interformer_rec.training.loop import Hook, Run, StepInfo
from interformer_rec.training.skipped import SkippedRows


class LogInterval:
    """Sums of the steps; tensors stay on the device until the exchange."""

    def __init__(self, tasks: list[str], device: torch.device) -> None:
        self.metrics = IntervalMetrics(tasks, device)
        self.device = device
        self.weight = 0.0  # of the rows of all ranks since the epoch began; NaN: of a part of it
        self.steps = 0
        self.wait = 0.0
        self.before = 0.0  # seconds of the interval before a restart
        self.paused = 0.0  # seconds spent on something else, such as saving
        self.start = time.perf_counter()

    def add(self, info: StepInfo) -> None:
        """Count one step."""
        batch = info.batch
        self.metrics.update(info.loss, info.logits, batch.labels, batch.weights, batch.rows)
        self.steps += 1
        self.wait += info.wait_seconds

    @property
    def seconds(self) -> float:
        """Time that training has had in this interval."""
        return self.before + time.perf_counter() - self.start - self.paused

    def exchange(self, events: bool = False) -> dict[str, float]:
        """Sum over ranks (waits for the device); the interval is empty afterwards. `events`: of an epoch of history pre-training, whose
        samples are events: rows that are left over when those have run out are none."""
        waited = torch.tensor(self.wait, dtype=torch.float64, device=self.device)
        dist.all_reduce(waited)
        record = self.metrics.compute()
        weighing = self.metrics.weighing
        self.weight += self.metrics.weight
        seconds = self.seconds
        self.steps, self.wait, self.before, self.paused, self.start = 0, 0.0, 0.0, 0.0, time.perf_counter()
        return {
            **record,
            **({"events": weighing} if events else {}),
            "seconds": seconds,
            "samples_per_second": (weighing if events else record["rows"]) / seconds,
            "data_wait_share": float(waited) / dist.get_world_size() / seconds,
        }

    def state(self) -> dict[str, Any]:
        """Of all ranks, for a checkpoint in the middle of an interval (collective); JSON-able."""
        gathered: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(gathered, self.metrics.state())
        return {"steps": self.steps, "seconds": self.seconds, "ranks": gathered}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state()`: every rank its own sums; where the ranks are others, rank 0 has them all.

        Raises DamagedError for one of other labels.
        """
        size = len(self.metrics.state())
        if any(len(sums) != size for sums in state["ranks"]):
            raise DamagedError("the state of the log interval in a checkpoint is of other labels than the run's")
        ranks = [[math.nan if value is None else value for value in sums] for sums in state["ranks"]]
        self.steps, self.before = state["steps"], state["seconds"]
        if len(ranks) == dist.get_world_size():
            self.metrics.load_state(ranks[dist.get_rank()])
        elif dist.get_rank() == 0:
            self.metrics.load_state([sum(values) for values in zip(*ranks, strict=True)])

    def restart_clock(self) -> None:
        """Time before now is nobody's: an evaluation, the start."""
        self.start = time.perf_counter()


class IntervalLog(Hook):
    """Writes a record to the log every `log_every_steps` steps and at the end of a segment, and a line where an epoch begins."""

    def __init__(self, run: Run, optimizer: RunOptimizer, skipped: SkippedRows) -> None:
        """`skipped`: knows the rows that are read."""
        self._run, self._optimizer, self._skipped = run, optimizer, skipped
        self.interval = LogInterval([label.name for label in run.config.features.labels], run.env.device)

    def begin_epoch(self, continued: bool) -> None:
        """Weights are added up, of a whole epoch only."""
        self.interval.weight = math.nan if continued else 0.0
        if self._run.config.data.windows is None:
            epoch, rows = self._run.position.epoch, self._skipped.loader.rows
            self._run.log.message(epoch_line(self._run.config, epoch, rows, continued))

    def begin(self, steps: int) -> None:
        """The clock starts."""
        self.interval.restart_clock()

    def step(self, info: StepInfo) -> None:
        """Exchange where it is due."""
        self.interval.add(info)
        if info.step % self._run.config.training.log_every_steps == 0:
            self._exchange()

    def end(self, stopped: bool) -> None:
        """Exchange what is left; after a signal it goes into the checkpoint."""
        if self.interval.steps and not stopped:
            self._exchange()

    def end_epoch(self) -> None:
        """Raises InputError on all ranks where every row had weight 0, or no event was left: nothing was learned."""
        config, epoch = self._run.config, self._run.position.epoch
        column = config.features.weight
        if self.interval.weight == 0 and self._of_events:
            raise InputError(
                f"no event of the histories was left for epoch {epoch}, of history pre-training: set data.history_pretraining.epochs to "
                f"{epoch} or less, and training.epochs to as many less"
            )
        if self.interval.weight == 0 and column:
            raise InputError(
                f"all rows of {self._skipped.name} that were read in this epoch have weight 0, so nothing is learned from them: correct "
                f"column {column!r} (features.weight), or leave features.weight out"
            )

    @property
    def _of_events(self) -> bool:
        return self._run.position.epoch < self._run.config.data.pretraining_epochs

    def _exchange(self) -> None:
        self._run.at("exchanging metrics")
        by = self._optimizer
        rates = {"lr_dense": by.lr_dense * by.factor, "lr_embedding": by.lr_embedding * by.factor}
        self._run.log.train({**self._run.position.place, **self.interval.exchange(self._of_events), **rates})
