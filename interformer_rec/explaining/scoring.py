"""Decoded rows become logits. In: Columns that every rank has alike, and the pipeline of an evaluation; out: all logits, on every rank.

Each rank scores its share of the rows, in evaluation batches, and the ranks exchange what they found: the result does not depend on how
many there are. With one rank this is an evaluation.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from interformer_rec.batch import Batch
from interformer_rec.config.features import FeatureSchema
from interformer_rec.data.collate import collate, empty_batch
from interformer_rec.data.decode.columns import Columns
from interformer_rec.data.decode.layout import Layout
from interformer_rec.distributed.environment import Environment
from interformer_rec.metrics.ranks import Ranks
from interformer_rec.training.pipeline import Pipeline


@dataclass(frozen=True, eq=False)
class RowScorer:
    """Of one model."""

    pipeline: Pipeline
    features: FeatureSchema
    batch_size: int  # rows a rank and step
    env: Environment

    def share(self, rows: int) -> slice:
        """Which of so many rows this rank scores."""
        rank, ranks = self.env.rank, self.env.world_size
        return slice(rows * rank // ranks, rows * (rank + 1) // ranks)

    def __call__(self, columns: Columns) -> np.ndarray:
        """(rows, tasks) float32 logits, by the averaged dense weights where the optimizer keeps them (collective)."""
        rows, tasks = columns.labels.shape
        mine = np.zeros((-(-rows // self.env.world_size), tasks), np.float32)
        at = 0
        with self.pipeline.optimizer.averaged():
            for step in self.pipeline.run(self._batches(columns), train=False):
                scored = step.logits[: step.batch.rows].float().cpu().numpy()
                mine[at : at + len(scored)] = scored
                at += len(scored)
        every = Ranks(self.env.device).gather(mine)
        bounds = np.arange(self.env.world_size + 1) * rows // self.env.world_size
        return np.concatenate([part[:count] for part, count in zip(every, np.diff(bounds), strict=True)])

    def _batches(self, columns: Columns) -> Iterator[tuple[Batch, None]]:
        """As many on every rank; a rank without rows brings fillers."""
        rows, tasks = columns.labels.shape
        layout, share = Layout(self.features), self.share(rows)
        most = -(-rows // self.env.world_size)
        for start in range(0, most, self.batch_size):
            piece = slice(share.start + start, min(share.start + start + self.batch_size, share.stop))
            if piece.start < piece.stop:
                yield collate(layout, self.features, [(columns, piece)], float(piece.stop - piece.start)), None
            else:
                yield empty_batch(self.features, tasks, 1.0), None
