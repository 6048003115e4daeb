"""A loss that is not finite ends the run. In: a finished step; out: nothing, or an error that names the saved batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from interformer_rec.batch import Batch
from interformer_rec.distributed.environment import Environment
from interformer_rec.training.pipeline import Step


class NonFiniteLoss(RuntimeError):
    """The loss became NaN or infinite; the message says where and which file holds the batch."""


def check_finite(step: Step[Any] | None, number: int, env: Environment, folder: Path) -> None:
    """Raise NonFiniteLoss if the step's loss on this rank is not finite; the batch is saved first."""
    if step is None or bool(step.loss.isfinite()):
        return
    path = folder / f"non_finite_step_{number}_rank_{env.rank}.safetensors"
    save_batch(step.batch, path)
    raise NonFiniteLoss(
        f"loss is {step.loss.item()} at step {number} on rank {env.rank}; its batch of {step.batch.rows} rows is saved in "
        f"{str(path)!r}. Lower optimizer.dense.lr or optimizer.embedding.lr, set optimizer.dense.clip_norm, or look for "
        f"extreme values in the dense features of that batch (clip, log1p, standardise). The last checkpoint is intact."
    )


def save_batch(batch: Batch, path: Path) -> None:
    """All tensors of a batch under their names, keys of the jagged parts in the header."""
    tensors = {
        "dense": batch.dense,
        "sparse.lengths": batch.sparse.lengths(),
        "sparse.values": batch.sparse.values(),
        "sequences.lengths": batch.sequences.lengths(),
        "sequences.values": batch.sequences.values(),
        "labels": batch.labels,
        "weights": batch.weights,
        "groups": batch.groups,
    }
    keys = {"sparse.keys": ",".join(batch.sparse.keys()), "sequences.keys": ",".join(batch.sequences.keys())}
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, path, keys)
