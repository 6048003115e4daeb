"""A loss that is not finite ends the run. In: a finished step; out: nothing, or an error that names the saved batch."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file

from interformer_rec.batch import Batch
from interformer_rec.checkpoint.retention import Checkpoints
from interformer_rec.training.loop import Hook, Run, StepInfo


class NonFiniteLoss(RuntimeError):
    """The loss became NaN or infinite; the message says where, which file holds the batch, and what to go back to."""

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step

    def with_checkpoints(self, checkpoints: Checkpoints) -> NonFiniteLoss:
        """The same, with what is left to resume from; to be asked when no checkpoint is being written any more."""
        return NonFiniteLoss(f"{self} {what_is_left(checkpoints, self.step)}", self.step)


def what_is_left(checkpoints: Checkpoints, step: int) -> str:
    """A sentence on the checkpoints from before `step`, whose loss was not finite.

    A checkpoint of step n has the weights that step n+1 computes its loss with. So the one just before `step` may be broken already;
    those before that were followed by a finite loss.
    """
    try:
        earlier = [name for name in checkpoints.newest_first() if name < checkpoints.folder(step).name]
    except OSError as error:
        return f"Which checkpoints there are cannot be seen: {error}."
    if not earlier:
        return "There is no checkpoint from before: `--resume` begins again at step 0."
    last = checkpoints.folder(step - 1).name
    if earlier[0] != last:
        return f"The newest checkpoint, {earlier[0]}, is from before, and a finite loss came after it: `--resume` goes on from there."
    back = f"delete it to go on from {earlier[1]}" if earlier[1:] else "there is none before it"
    return f"The newest checkpoint, {last}, has the weights of this very step: if `--resume` ends here again, {back}."


class FiniteLoss(Hook):
    """Checks the loss of every step. Raises NonFiniteLoss."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._previous: StepInfo | None = None

    def step(self, info: StepInfo) -> None:
        """A step late: it is done by now. This is a step's one device sync, and it waits for nothing."""
        self.end(False)
        self._previous = info

    def end(self, stopped: bool) -> None:
        """The last one."""
        if self._previous is not None:
            check_finite(self._previous, self._run)
        self._previous = None


def check_finite(info: StepInfo, run: Run) -> None:
    """Raise NonFiniteLoss if the step's loss on this rank is not finite; the batch is saved first."""
    if bool(info.loss.isfinite()):
        return
    name = f"non_finite_step_{info.step}_rank_{run.env.rank}.safetensors"
    try:
        save_batch(info.batch, run.folder.path / name)
        kept = f"is saved in {run.folder.shown(name)!r}"
    except (OSError, SafetensorError) as error:
        kept = f"could not be saved in {run.folder.shown(name)!r} ({error})"
    raise NonFiniteLoss(
        f"loss is {info.loss.item()} at step {info.step} on rank {run.env.rank}; its batch of {info.batch.rows} rows {kept}. Lower "
        f"optimizer.dense.lr or optimizer.embedding.lr, set optimizer.dense.clip_norm, or look for extreme values in the dense features "
        f"of that batch (clip, log1p, standardise).",
        info.step,
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
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, path, keys)
