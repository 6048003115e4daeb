"""The scorer: users and their candidates come in as table rows and numbers, logits of every task go out.

What an artefact has on this machine: its mapped tables and its graphs. Where the model is split, a user's state can be kept and passed
again: `states` for the users of a request, `logits` for candidates of any of them. Legend: R users, C candidates, W floats of a state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from interformer_rec.config.features import FeatureSchema
from interformer_rec.errors import InputError
from interformer_rec.metrics.recalibration import recalibrated
from interformer_rec.ops.padding.candidate_blocks import CandidateBlocks
from interformer_rec.serving.lookup import GraphLookup, Tables, lookups_of
from interformer_rec.serving.rectangle import Reads
from interformer_rec.serving.request import Inputs, Rows, Side, check_rows

# of a runtime (runtimes.py): its inputs in order -> its one output
Graph = Callable[[Sequence[np.ndarray]], np.ndarray]


class Scorer:
    """Safe to use from several threads: nothing in it changes."""

    def __init__(
        self,
        features: FeatureSchema,
        reads: tuple[Reads, ...],
        tables: Tables,
        graphs: Sequence[Graph],
        recalibration: np.ndarray | None = None,
    ) -> None:
        """`recalibration`: (2, tasks) float32, scale and shift of what the graphs give; None: as they give it."""
        self.tasks = tuple(label.name for label in features.labels)
        self.sides = Side.both(features)
        self.tables, self.graphs = tables, tuple(graphs)
        self._features, self._reads, self._recalibration = features, reads, recalibration
        self._groups = {group.name: group for group in features.sequences}
        self._lookups: tuple[GraphLookup, ...] = lookups_of(features, reads, tables)

    def renewed(self, tables: Tables, graphs: Sequence[Graph]) -> Scorer:
        """The same model with these tables in place of those of their names, and these graphs."""
        return Scorer(self._features, self._reads, {**self.tables, **tables}, graphs, self._recalibration)

    @property
    def split(self) -> bool:
        """Whether one user's work is shared by all of its candidates."""
        return len(self.graphs) == 2

    def states(self, users: Rows) -> np.ndarray:
        """(R, W) float32, everything a candidate reads of its user. Raises InputError for a model without split, and as `check_rows`."""
        if not self.split:
            raise InputError("this model has no user states: train with model.split: true to share a user's work")
        check_rows(users, self.sides[0], self._groups, "the users")
        return self.graphs[0](self._lookups[0](users, None, None))

    def logits(self, candidates: Rows, owners: np.ndarray, *, states: np.ndarray) -> np.ndarray:
        """(C, tasks) float32 of candidates whose users have these states."""
        check_rows(candidates, self.sides[1], self._groups, "the candidates")
        owners = _owners(owners, candidates.count, len(states))
        blocks = CandidateBlocks.of(owners, len(states))
        arrays = [blocks.cut(array) for array in self._lookups[1](None, candidates, None)]
        return recalibrated(blocks.joined(self.graphs[1]([states, blocks.owners, *arrays])), self._recalibration)

    def __call__(self, inputs: Inputs) -> np.ndarray:
        """(C, tasks) float32 logits. Raises InputError where parts do not fit, IndexError for a row that a table does not have."""
        if self.split:
            return self.logits(inputs.candidates, inputs.owners, states=self.states(inputs.users))
        check_rows(inputs.users, self.sides[0], self._groups, "the users")
        check_rows(inputs.candidates, self.sides[1], self._groups, "the candidates")
        owners = _owners(inputs.owners, inputs.candidates.count, inputs.users.count)
        logits = self.graphs[0](self._lookups[0](inputs.users, inputs.candidates, owners))
        return recalibrated(logits, self._recalibration)


def probabilities(logits: np.ndarray) -> np.ndarray:
    """sigmoid, in float32 as `interformer predict` writes it."""
    return (1.0 / (1.0 + np.exp(-logits.astype(np.float64)))).astype(np.float32)


def _owners(owners: np.ndarray, candidates: int, users: int) -> np.ndarray:
    if owners.shape != (candidates,) or (candidates and not 0 <= int(owners.min()) <= int(owners.max()) < users):
        raise InputError(f"owners must name one of {users} users for each of {candidates} candidates")
    return owners.astype(np.int64, copy=False)
