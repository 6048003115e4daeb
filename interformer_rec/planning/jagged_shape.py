"""How jagged a sequence is in a typical batch. In: event counts of some rows; out: tokens, padded slots and pairs of a batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from interformer_rec.ops.buckets import plan_buckets


@dataclass(frozen=True)
class Shape:
    """Jagged shape of one sequence in a batch of B rows."""

    events: int  # E
    tokens: int  # J
    slots: int  # N
    squares: int  # sum over buckets of samples x width^2: query-key pairs of attention
    groups: int  # groups of events in it
    buckets: int  # padded pieces it is computed in

    @classmethod
    def of(cls, widths: np.ndarray, cls_tokens: int, groups: int, scale: float) -> Shape:
        """From the event counts of some rows, which stand for `scale` times as many."""
        tokens = np.sort(np.rint(widths).astype(int)) + cls_tokens
        plan = plan_buckets(tokens.tolist())
        return cls(
            events=round(scale * (int(tokens.sum()) - cls_tokens * len(tokens))),
            tokens=round(scale * int(tokens.sum())),
            slots=round(scale * sum(rows * width for rows, width in plan)),
            squares=round(scale * sum(rows * width * width for rows, width in plan)),
            groups=groups,
            buckets=len(plan),
        )
