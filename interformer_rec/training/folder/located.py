"""Which checkpoint a command uses. In: a run folder or a checkpoint, as the user names it; out: the best one that is whole.

A checkpoint that the user names is used, or is an error. Of a run folder the best is used; where that is damaged, the next, and the user
reads which one it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from interformer_rec.checkpoint.read import load, read_state
from interformer_rec.checkpoint.retention import Checkpoints
from interformer_rec.distributed.environment import Environment
from interformer_rec.distributed.parallelize import Parallel
from interformer_rec.errors import DamagedError, InputError, say
from interformer_rec.storage import Storage
from interformer_rec.training.start.saved_state import checked_state

T = TypeVar("T")


@dataclass
class Located:
    """`candidates`: the one to use first; those before `at` are damaged, which `damaged` says in a sentence each."""

    candidates: list[Storage]
    damaged: list[str] = field(default_factory=list)
    at: int = 0

    @classmethod
    def among(cls, checkpoints: Checkpoints) -> Located:
        """The best of a run; without candidates where the run has none that can be read. Raises OSError."""
        ranked = checkpoints.ranked()
        return cls([checkpoints.storage.folder(name) for name in ranked.names], ranked.damaged)

    @property
    def checkpoint(self) -> Storage:
        """The one in use."""
        return self.candidates[self.at]

    def read(self, what: Callable[[Storage], T]) -> T:
        """`what` of the first candidate that is whole as far as that needs. Raises DamagedError if all are damaged."""
        while True:
            try:
                return what(self.checkpoint)
            except DamagedError as error:
                self.damaged.append(str(error))
                if self.at + 1 == len(self.candidates):
                    raise DamagedError("; ".join(self.damaged)) from None
                self.at += 1

    def agree(self, env: Environment) -> None:
        """Every rank goes on from the candidate of rank 0 (collective)."""
        self.at, self.damaged = env.on_main(lambda: (self.at, self.damaged))

    def load(self, parallel: Parallel, env: Environment) -> dict[str, Any]:
        """Fill the model with the weights of a candidate; its state (collective). Raises DamagedError if all are damaged."""

        def both(checkpoint: Storage) -> dict[str, Any]:
            state = env.on_main(lambda: checked_state(read_state(checkpoint), checkpoint.location))
            load(checkpoint, parallel, env, weights_only=True)
            return state

        return self.read(both)

    def warning(self) -> str | None:
        """What is damaged, and what is used instead; None where nothing is."""
        if not self.damaged:
            return None
        return (
            f"damaged: {'; '.join(self.damaged)}. Used instead, the best of what is whole: {self.checkpoint.location}"
        )

    def warn(self, env: Environment) -> None:
        """Write the warning, once a job."""
        if env.is_main and (warning := self.warning()) is not None:
            say(f"warning: {warning}")


def require_one(located: Located, run: str) -> Located:
    """Raises InputError if there is no candidate."""
    if not located.candidates and located.damaged:
        raise DamagedError(f"run {run!r} has no checkpoint that is whole: {'; '.join(located.damaged)}")
    if not located.candidates:
        raise InputError(f"run {run!r} has no checkpoint yet: train it first")
    return located
