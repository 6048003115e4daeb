"""How weights move. In: the sharded model and the optimizer options; out: RunOptimizer, which steps everything at once.

Three groups: tables with a fused optimizer (updated inside the backward kernels; only their learning rate is set here),
data-parallel tables (the same optimizer as a torch.optim class, on gradients that DDP has averaged), and the dense part
(Adam, AdamW with weight decay on matrices only; on request with a moving average, average.py).
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from fbgemm_gpu.split_embedding_configs import EmbOptimType
from torch import nn
from torchrec.distributed.model_parallel import DistributedModelParallel
from torchrec.optim.rowwise_adagrad import RowWiseAdagrad

from interformer_rec.config.optimizer import DenseOptimizer, EmbeddingOptimizer, Schedule
from interformer_rec.distributed.average import DenseAverage
from interformer_rec.distributed.best_so_far import BestSoFar
from interformer_rec.errors import InputError

FUSED = {
    "rowwise_adagrad": EmbOptimType.EXACT_ROWWISE_ADAGRAD,
    "adagrad": EmbOptimType.EXACT_ADAGRAD,
    "sgd": EmbOptimType.EXACT_SGD,
    "adam": EmbOptimType.ADAM,
}


def fused_params(options: EmbeddingOptimizer, device: torch.device) -> dict[str, Any]:
    """Arguments of the fused optimizer for TorchRec's sharders. Raises InputError where the device lacks the kernel."""
    if options.kind == "adam" and device.type == "cpu":
        raise InputError(
            "optimizer.embedding.kind is adam, which FBGEMM has for CUDA only: use rowwise_adagrad, adagrad or sgd on CPU"
        )
    return {"optimizer": FUSED[options.kind], "learning_rate": options.lr, "eps": options.eps}


class LearningRate:
    """Factor on both learning rates by step: warm-up, then constant, cosine or plateau."""

    def __init__(self, options: Schedule, total_steps: Callable[[], int], higher_is_better: bool) -> None:
        """`total_steps`: of the run, as far as is known now; a cosine ends there."""
        self.options = options
        self.total_steps = total_steps
        self.plateau = 1.0
        self.best = BestSoFar(higher_is_better)

    def factor(self, step: int) -> float:
        """Factor for the 0-based step."""
        warmup = self.options.warmup_steps
        ramp = min(1.0, (step + 1) / warmup) if warmup else 1.0
        if self.options.kind == "cosine":
            done = min(1.0, max(0, step - warmup) / max(1, self.total_steps() - 1 - warmup))
            low = self.options.min_factor
            return ramp * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * done)))
        return ramp * self.plateau

    def observe(self, metric: float) -> None:
        """Move the plateau schedule by a new value of the monitored metric."""
        if self.options.kind != "plateau" or math.isnan(metric):
            return
        self.best.observe(metric)
        if self.best.stalled > self.options.patience:
            self.plateau = max(self.options.min_factor, self.plateau * self.options.factor)
            self.best.stalled = 0

    def state_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"plateau": self.plateau, "best": self.best.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self.plateau = state["plateau"]
        self.best.load_state_dict(state["best"])


class RunOptimizer:
    """zero_grad and step over all groups, with clipping and the schedule; TrainPipelineSparseDist calls both.

    The rates are set in zero_grad, which the pipeline calls before the forward pass: the fused update runs in backward.
    """

    def __init__(
        self, model: DistributedModelParallel, dense: DenseOptimizer, embedding: EmbeddingOptimizer, rate: LearningRate
    ) -> None:
        self.fused = model.fused_optimizer
        self.rate = rate
        self.step_count = 0
        self.frozen: set[nn.Parameter] = set()  # dense weights that stay as they are, moments and average too
        self.empty = False  # every row of this step was skipped, on all ranks: momentum and weight decay wait, too
        self.lr_dense, self.lr_embedding = dense.lr, embedding.lr
        self.clip_norm = dense.clip_norm
        tables, matrices, vectors = _split_parameters(model)
        self.dense_parameters = [*matrices, *vectors]
        self.dense = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": dense.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
            lr=dense.lr,
            betas=dense.betas,
            eps=dense.eps,
            fused=True,  # one pass over each tensor instead of a dozen: on a CPU 4.5 ms a step instead of 19 (1.6 million weights)
        )
        self.replicated = _replicated_optimizer(tables, embedding) if tables else None
        self.average = DenseAverage(self.dense_parameters, dense.ema) if dense.ema is not None else None

    def set_step(self, count: int) -> None:
        """Continue after `count` steps: the schedule's place, and Adam's bias correction of tables (TorchRec saves neither)."""
        self.step_count = count
        self.fused.set_optimizer_step(count)
        if self.replicated is not None:
            for state in self.replicated.state.values():
                if "step" in state:
                    state["step"].fill_(count)

    @property
    def factor(self) -> float:
        """The schedule's factor for the step to come."""
        return self.rate.factor(self.step_count)

    def zero_grad(self) -> None:
        """Set this step's learning rates and clear gradients."""
        for group in self.dense.param_groups:
            group["lr"] = self.lr_dense * self.factor
        for group in self.fused.param_groups:
            group["lr"] = self.lr_embedding * self.factor
        self.fused.zero_grad()  # hands the rate to the kernels
        self.dense.zero_grad(set_to_none=True)
        if self.replicated is not None:
            for group in self.replicated.param_groups:
                group["lr"] = self.lr_embedding * self.factor
            self.replicated.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Update what backward has not updated already."""
        if self.empty:
            self.step_count += 1
            return
        for parameter in self.frozen:
            parameter.grad = None
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.dense_parameters, self.clip_norm)
        self.dense.step()
        if self.replicated is not None:
            self.replicated.step()
        if self.average is not None:
            self.average.update(self.frozen)
        self.step_count += 1

    def averaged(self) -> AbstractContextManager[None]:
        """Inside, the dense weights are their moving average; the raw ones where none is kept."""
        return nullcontext() if self.average is None else self.average.lent()


def _split_parameters(model: DistributedModelParallel) -> tuple[list[nn.Parameter], ...]:
    """Data-parallel tables, matrices, and vectors; parameters of fused tables are in none of them."""
    fused = set(model.fused_optimizer.params)
    tables, matrices, vectors = [], [], []
    for name, parameter in model.named_parameters():
        if name in fused or parameter.numel() == 0:  # TorchRec leaves an empty parameter where a table lives elsewhere
            continue
        if ".embedding_bags." in name or ".embeddings." in name:
            tables.append(parameter)
        elif parameter.ndim >= 2:
            matrices.append(parameter)
        else:
            vectors.append(parameter)
    return tables, matrices, vectors


def _replicated_optimizer(tables: list[nn.Parameter], options: EmbeddingOptimizer) -> torch.optim.Optimizer:
    """The torch.optim twin of the fused optimizer."""
    if options.kind == "rowwise_adagrad":
        return RowWiseAdagrad(tables, lr=options.lr, eps=options.eps)
    if options.kind == "adagrad":
        return torch.optim.Adagrad(tables, lr=options.lr, eps=options.eps)
    if options.kind == "adam":
        adam = torch.optim.Adam(tables, lr=options.lr, eps=options.eps)
        for table in tables:  # Adam makes its state at the first step; a checkpoint is loaded into it before that
            moments = {"exp_avg": torch.zeros_like(table), "exp_avg_sq": torch.zeros_like(table)}
            adam.state[table] = {"step": torch.zeros((), dtype=torch.float32), **moments}
        return adam
    return torch.optim.SGD(tables, lr=options.lr)
