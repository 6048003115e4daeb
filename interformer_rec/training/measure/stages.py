"""Where a step's time goes. In: a pipeline, for the few steps that are measured; out: milliseconds of each stage, step by step.

The main stream's time is cut at the stages' borders, so the stages of a step add up to the step: what hides behind something else is
in no stage. On a CPU a border is a look at the clock, on CUDA an event on the current stream, read when all is over. Borders are hooks
and wrapped methods that exist only while steps are measured; those of the backward pass are set on the graph of each step, which is
found by walking it (that time is left out).

    data          the next batch but one is fetched from the loader and copied
    ids           the all-to-all of the next batch's ids: begun before the forward pass, awaited after it
    lookup        rows are read from the tables
    vectors       looked-up vectors travel to the ranks that need them, as far as they are waited for
    dense_forward, dense_backward   InterFormer and the loss
    vectors_back  the vectors' gradients travel to the tables
    update        rows are updated
    all_reduce    from the last update to the end of the backward pass: gradients that are still on their way
    optimizer     gradients are cleared and clipped, dense parameters (and data-parallel tables) updated
    trainer       everything else: metrics, the log, the pipeline itself
"""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torchrec.distributed.embedding import ShardedEmbeddingCollection
from torchrec.distributed.embeddingbag import ShardedEmbeddingBagCollection
from torchrec.distributed.types import LazyAwaitable

from interformer_rec.model.embedding.lookup import Assemble
from interformer_rec.training.pipeline import Pipeline

STAGES = (
    "data", "ids", "lookup", "vectors", "dense_forward", "dense_backward", "vectors_back", "update", "all_reduce",
    "optimizer", "trainer",
)  # fmt: skip
# A part of a backward node's name -> its stage: TorchRec's exchanges of vectors, FBGEMM's lookups.
NODES = {"All2All": "vectors_back", "ReduceScatter": "vectors_back", "AllGather": "vectors_back", "Lookup": "update"}


class Stages:
    """Measures the steps between `start` and `stop`; `cut` after each. `at_backward` is called when a backward pass is to begin."""

    def __init__(self, pipeline: Pipeline, at_backward: Callable[[], None]) -> None:
        self._pipeline, self._at_backward = pipeline, at_backward
        self._on_gpu = pipeline.env.device.type == "cuda"
        self._borders: list[tuple[str | None, Any]] = []  # the stage that begins there, and when
        self._cuts: list[int] = []  # borders at which a step begins or ends
        self._stage: str | None = None  # None: nobody's time
        self._undo: list[Callable[[], None]] = []
        self._tables_left = 0

    def start(self) -> None:
        """Set the borders; the first step begins."""
        if self._on_gpu:
            torch.cuda.synchronize()
        stages = self._pipeline.pipeline
        self._wrap(stages, "enqueue_batch", "data")
        self._wrap(stages, "start_sparse_data_dist", "ids")
        self._wrap(stages, "wait_sparse_data_dist", "ids")
        self._wrap(stages, "_backward", "dense_backward")
        self._wrap(stages, "_optimizer_step", "optimizer")
        self._wrap(self._pipeline.optimizer, "zero_grad", "optimizer")
        self._wrap(stages, "_model_fwd", "dense_forward", then=self._watch_backward)
        for module in self._pipeline.model.modules():
            if isinstance(module, (ShardedEmbeddingBagCollection, ShardedEmbeddingCollection)):
                self._hook(module, "vectors")
                for lookup in module._lookups:
                    self._hook(lookup, "lookup")
            elif isinstance(module, Assemble):
                self._undo.append(module.register_forward_pre_hook(self._await_vectors).remove)
        self.cut()

    def cut(self) -> None:
        """A step ends and the next begins here."""
        self._enter("trainer")
        self._cuts.append(len(self._borders) - 1)

    def stop(self) -> dict[str, list[float]]:
        """Stage -> milliseconds of each step that was cut off; the pipeline is as it was. Nothing if never started."""
        while self._undo:
            self._undo.pop()()
        if self._on_gpu and self._borders:
            torch.cuda.synchronize()
        found: dict[str, list[float]] = {stage: [] for stage in STAGES}
        for first, last in itertools.pairwise(self._cuts):
            sums = dict.fromkeys(STAGES, 0.0)
            for (stage, begin), (_, end) in itertools.pairwise(self._borders[first : last + 1]):
                if stage is not None:
                    sums[stage] += begin.elapsed_time(end) if self._on_gpu else 1000 * (end - begin)
            for stage, value in sums.items():
                found[stage].append(value)
        return found

    def _enter(self, stage: str | None) -> None:
        if self._on_gpu:
            now: Any = torch.cuda.Event(enable_timing=True)
            now.record()
        else:
            now = time.perf_counter()
        self._stage = stage
        self._borders.append((stage, now))

    @contextmanager
    def _inside(self, stage: str) -> Iterator[None]:
        outer = self._stage
        self._enter(stage)
        try:
            yield
        finally:
            self._enter(outer)

    def _wrap(self, owner: Any, name: str, stage: str, then: Callable[[Any], None] | None = None) -> None:
        inner = getattr(owner, name)
        had = name in vars(owner)  # an attribute of the object itself, such as _model_fwd

        def timed(*args: Any, **options: Any) -> Any:
            with self._inside(stage):
                result = inner(*args, **options)
                if then is not None:
                    then(result)
                return result

        setattr(owner, name, timed)
        self._undo.append(lambda: setattr(owner, name, inner) if had else delattr(owner, name))

    def _hook(self, module: nn.Module, stage: str) -> None:
        outer: list[str | None] = []

        def before(*_: Any) -> None:
            outer.append(self._stage)
            self._enter(stage)

        def after(*_: Any) -> None:
            self._enter(outer.pop())

        self._undo.append(module.register_forward_pre_hook(before).remove)
        self._undo.append(module.register_forward_hook(after).remove)

    def _await_vectors(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """The model would wait a few lines later, when it first touches a vector."""
        with self._inside("vectors"):
            return tuple(LazyAwaitable._wait_async(value) for value in inputs)

    def _watch_backward(self, result: Any) -> None:
        """Set borders on the graph of this step's loss."""
        outer = self._stage
        self._enter(None)
        loss = result[0]
        waiting, seen = [loss.grad_fn], {loss.grad_fn}
        self._tables_left = 0
        while waiting:
            node = waiting.pop()
            stage = next((stage for part, stage in NODES.items() if part in node.name()), None)
            if stage is not None:
                self._tables_left += stage == "update"
                node.register_prehook(lambda _, stage=stage: self._enter(stage))
                node.register_hook(lambda *_, stage=stage: self._left(stage))
            for below, _ in node.next_functions:
                if below is not None and below not in seen:
                    seen.add(below)
                    waiting.append(below)
        self._at_backward()
        self._enter(outer)

    def _left(self, stage: str) -> None:
        self._tables_left -= stage == "update"
        self._enter("dense_backward" if self._tables_left else "all_reduce")
