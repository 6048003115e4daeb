"""Embedded: what the lookup (embeddings.py) gives and every dense model takes. A schema comes in, widths and the fields' order go out.

Imports neither torch nor TorchRec: dense models run without TorchRec, and an exported model is read without either.
Legend: B samples, F fields, E events, k columns of a group.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from interformer_rec.config.features import FeatureSchema, Lookup

if TYPE_CHECKING:
    from torch import Tensor


def row_init_scale(dim: int) -> float:
    """Standard deviation of the normal distribution that fills new table rows of `dim` floats: rows of length about 1."""
    return 1.0 / math.sqrt(dim)


@dataclass
class Events:
    """One group's events of all samples, oldest first, aligned columns side by side.

    Jagged, or the rectangle (B, T, k * dim) of ops/rectangle.py, padded at the old end: the number of axes says which.
    """

    values: Tensor  # (E, k * dim) or (B, T, k * dim)
    lengths: Tensor  # (B,) int64
    # (E,) int64, the first column's table rows: equal ids are the same event (merge: union needs them)
    ids: Tensor | None = None


@dataclass
class United:
    """Events of several groups as one history, each once (ops/glue.union)."""

    values: Tensor  # (E, k * dim) or (B, T, k * dim)
    lengths: Tensor  # (B,) int64
    marks: Tensor  # (E, G) or (B, T, G): 1 where the event stands in the group


@dataclass
class Embedded:
    """What the tables say about a batch."""

    fields: dict[int, Tensor]  # embedding dim -> (B, F, dim), fields in the order of `field_groups`
    events: dict[str, Events]  # by sequence group
    # for merge: union in the rectangle, made from ids before the model; of `events` the lengths alone are read then
    united: United | None = None


def table_dims(features: FeatureSchema, embedding_dim: int, members: int = 1) -> dict[str, int]:
    """Floats a row of each table; a row holds `members` vectors of the table's embedding_dim (model.ensemble_members)."""
    return {name: (table.embedding_dim or embedding_dim) * members for name, table in features.tables.items()}


def field_groups(features: FeatureSchema, embedding_dim: int, members: int = 1) -> dict[int, tuple[Lookup, ...]]:
    """Ids and bags by the width of their rows: the order of the fields' tokens."""
    dims = table_dims(features, embedding_dim, members)
    fields = [*features.pooled_lookups, *(lookup for lookup in features.jagged_lookups if lookup.pooling)]
    return {
        dim: tuple(lookup for lookup in fields if dims[lookup.table] == dim)
        for dim in sorted({dims[lookup.table] for lookup in fields})
    }
