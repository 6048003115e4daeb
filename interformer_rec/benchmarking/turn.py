"""One turn: a point's training steps, on this rank. In: its config, what was fitted, limits; out: what the steps took, of every rank.

The loader, the model, the trainer and its hooks are those of `interformer train`, and the recorder that writes measured.json times the
steps. A turn trains a few steps that warm up, looks how long they take, and then as many as its limits allow; nothing is saved.
"""

import gc
import itertools
import pickle
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from interformer_rec.benchmarking.parts import measure_part
from interformer_rec.config import run as run_config
from interformer_rec.config.run import RunConfig
from interformer_rec.data.fit import Fitted
from interformer_rec.distributed.environment import Environment
from interformer_rec.planning.score.measured_file import Measured
from interformer_rec.training.build import build_parallel, train_loader
from interformer_rec.training.folder.run_folder import RunFolder
from interformer_rec.training.folder.run_log import RunLog
from interformer_rec.training.hooks import Hooks
from interformer_rec.training.loop import Hook, Run, StepInfo
from interformer_rec.training.measure.heap import give_back
from interformer_rec.training.measure.memory import held
from interformer_rec.training.measure.recorder import DRAIN, FILLING, LEAST, MOST, WARM_UP, Recorder
from interformer_rec.training.pipeline import Pipeline
from interformer_rec.training.skipped import SkippedRows
from interformer_rec.training.timeline import Position
from interformer_rec.training.trainer import Trainer
from interformer_rec.training.validation import Validation
from interformer_rec.watchdog.watchdog import Watchdog

COUNTED = 2  # steps after the measured ones whose bytes between ranks are counted


NAMESPACE = "c10d"


class Sent(TorchDispatchMode):
    """What this rank sends to others: a context manager; `bytes` afterwards, by the collective's name.

    An all-reduce counts as a ring does it, 2 (n - 1) / n of its bytes from each rank; of what is gathered or scattered a rank's part goes
    to each of the others. TorchRec's exchanges and DDP's all-reduce both pass here, in backward passes too.
    """

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


@dataclass(frozen=True)
class Turn:
    """What a turn measures, as it travels to the processes that do it. Paths are this host's."""

    config: str  # a YAML file
    fitted: str
    what: str
    steps: int  # measured ones at most
    seconds: float  # for them, but for LEAST

    def load(self) -> tuple[RunConfig, Fitted]:
        """Config and what was fitted."""
        return run_config.load(self.config), pickle.loads(Path(self.fitted).read_bytes())


def take_turn(turn: Turn, env: Environment) -> dict[str, Any]:
    """Measure (collective). On every rank: milliseconds of each step, its rows and events, bytes by rank. Raises InputError."""
    config, fitted = turn.load()
    gc.collect()
    try:
        if turn.what == "step":
            return _steps(turn, config, fitted, env)
        return measure_part(turn.what, config, fitted, env, turn.steps, turn.seconds)
    finally:
        gc.collect()
        if env.device.type == "cuda":
            torch.cuda.empty_cache()


class _Counted(Hook):
    """What the recorder leaves out, of every step: when it was done by the clock and by this process's CPU time, waiting, requests."""

    def __init__(self) -> None:
        self.done: list[float] = []
        self.cpu: list[float] = []
        self.waits: list[float] = []
        self.requests: list[int] = []

    def step(self, info: StepInfo) -> None:
        """Of a batch whose rows are no requests, each row is one."""
        self.done.append(time.perf_counter())
        self.cpu.append(time.process_time())
        self.waits.append(info.wait_seconds)
        self.requests.append(info.batch.requests if info.batch.request_of is not None else info.batch.rows)


def _steps(turn: Turn, config: RunConfig, fitted: Fitted, env: Environment) -> dict[str, Any]:
    """Of whole steps."""
    loader = train_loader(config, env, fitted)
    data = SkippedRows(loader, config.data.max_bad_rows, "data.train", env)
    position = Position(config.training, loader)
    folder = RunFolder(config)
    log = RunLog(folder.path, enabled=False, total_steps=lambda: position.total_steps)
    give_back()
    before = held(env.device)
    parallel = build_parallel(config, env, fitted, lambda: position.total_steps, loader.source)
    pipeline = Pipeline(parallel, env, config.training.precision, config.seed, config.data.on_bad_row == "skip")
    run = Run(config, env, folder, log, position, Watchdog(env, config.training.hang_seconds))
    recorder, counted = Recorder(env, pipeline, before), _Counted()
    validation = Validation(run, parallel.optimizer.rate, None)
    hooks = Hooks(run, parallel, data, validation, recorder, more=[counted])
    segments = Trainer(run, parallel, pipeline, hooks).segments()
    next(segments)
    segments.send(WARM_UP)
    measured = _allowed(turn, (counted.done[-1] - counted.done[0]) / (WARM_UP - 1), env)
    segments.send(FILLING + measured + DRAIN)
    sent: dict[str, float] = {}
    if env.world_size > 1:
        with Sent() as counter:  # every operator passes it: not while steps are timed
            segments.send(COUNTED)
        sent = {name: count / COUNTED for name, count in counter.bytes.items()}
    segments.close()
    found = Measured.model_validate(recorder.gather(parallel))
    first, count = found.by_rank[0].time.first_step - 1, measured  # type: ignore[union-attr]  # the segment has so many steps
    beside: list[Any] = [None] * env.world_size
    mine = {
        "waits": counted.waits[first : first + count],
        "requests": counted.requests[first : first + count],
        "cpu": [after - before for before, after in itertools.pairwise(counted.cpu[first - 1 : first + count])],
        "sent": sum(sent.values()),
    }
    dist.all_gather_object(beside, mine)
    return _answer(found, beside)


def _allowed(turn: Turn, seconds: float, env: Environment) -> int:
    """Measured steps, the same on all ranks, from the seconds of a step that warmed up."""
    slowest = torch.tensor(seconds, dtype=torch.float64, device=env.device)
    dist.all_reduce(slowest, dist.ReduceOp.MAX)
    return max(LEAST, min(turn.steps, MOST, int(turn.seconds / max(1e-9, float(slowest)))))


def _answer(found: Measured, beside: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the ranks of a step's time, sums of what was in it."""

    def of_steps(name: str) -> list[tuple[float, ...]]:
        return list(zip(*(rank[name] for rank in beside), strict=True))

    ranks = found.by_rank
    times = [rank.time for rank in ranks if rank.time is not None]
    steps = list(zip(*(time.step for time in times), strict=True))
    stages = {
        name: sum(sum(time.stages[name]) for time in times) / (len(times) * len(steps)) for name in times[0].stages
    }
    return {
        "step_ms": [sum(step) / len(step) for step in steps],
        "rows": [sum(step) for step in zip(*(rank.rows for rank in ranks), strict=True)],
        "requests": [sum(step) for step in of_steps("requests")],
        "elements": found.elements,
        "cpu_ms": [1e3 * sum(step) for step in of_steps("cpu")],
        "wait_ms": [1e3 * sum(step) / len(step) for step in of_steps("waits")],
        "stages_ms": stages,
        "sent_bytes": sum(rank["sent"] for rank in beside),
        "peak_bytes": [rank.memory.peak for rank in ranks],
        "peak_of": ranks[0].peak_of,
        "table_bytes": [rank.memory.tables + rank.memory.table_state for rank in ranks],
    }
