"""Histories padded to one length, as padded frameworks hold them: the alternative that jagged layouts are measured against.

In: jagged histories; out: the same as rectangles (B, T, w), padded at the old end. The model takes either (ops/rectangle.py), so what is
measured is the model itself with the same weights. Legend: B rows, T events of the padded history, k columns of width w.
"""

from collections.abc import Mapping

import numpy as np
import torch

from interformer_rec.model.embedding.embedded import Embedded, Events


def pad_events(embedded: Embedded, longest: int) -> Embedded:
    """The same fields; each group's events as (B, longest, k * w) leaves of their own, newest at the end, zeros before the oldest."""
    padded = {}
    for name, group in embedded.events.items():
        lengths = group.lengths
        rows = torch.arange(lengths.numel(), device=lengths.device).repeat_interleave(lengths)
        place = torch.arange(rows.numel(), device=lengths.device) - lengths.cumsum(0)[rows] + longest
        values = group.values.detach().new_zeros(lengths.numel(), longest, group.values.shape[1])
        values[rows, place] = group.values.detach()
        padded[name] = Events(values.requires_grad_(), lengths)
    return Embedded(embedded.fields, padded)


def padded_events(lengths: Mapping[str, np.ndarray], longest: int) -> int:
    """Places for events, padding included."""
    return sum(len(rows) * longest for rows in lengths.values())
