"""Sides: which dense columns and fields of a batch belong to the request and which to the candidate (model.split).

In: a schema, later a batch's inputs; out: one side's part of them. Legend: B rows, m dense columns, F fields.
"""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from interformer_rec.config.features import FeatureSchema
from interformer_rec.model.embedding.embedded import Embedded, field_groups


@dataclass(frozen=True)
class Side:
    """True where a column is this side's."""

    dense: tuple[bool, ...]
    fields: dict[int, tuple[bool, ...]]  # embedding dim -> in the order of field_groups

    @property
    def numbers(self) -> int:
        """Its dense columns."""
        return sum(self.dense)

    @property
    def counts(self) -> dict[int, int]:
        """Its fields of each embedding dim that it has."""
        return {dim: sum(mine) for dim, mine in self.fields.items() if any(mine)}

    def take(self, dense_BM: Tensor, embedded: Embedded) -> tuple[Tensor, Embedded]:
        """This side's columns and fields; events are passed on."""
        fields = {
            dim: _columns(values, self.fields[dim]) for dim, values in embedded.fields.items() if any(self.fields[dim])
        }
        return _columns(dense_BM, self.dense), Embedded(fields, embedded.events, embedded.united)


def _columns(values: Tensor, mine: tuple[bool, ...]) -> Tensor:
    """(B, F, ...) -> (B, those that are mine, ...): cut into runs, so that the gradient is a copy too, not a scatter."""
    if all(mine):
        return values
    runs = [(kept, len(list(run))) for kept, run in itertools.groupby(mine)]
    parts = values.split([size for _, size in runs], dim=1)
    return torch.cat([values[:, :0], *(part for part, (kept, _) in zip(parts, runs, strict=True) if kept)], dim=1)


def both_sides(features: FeatureSchema, embedding_dim: int, split: bool, members: int = 1) -> tuple[Side, Side]:
    """The user's side and the candidate's; without a split everything is the first one's."""
    names = set(features.candidate) if split else set()
    dense = tuple(feature.name in names for feature in features.dense)
    groups = field_groups(features, embedding_dim, members)
    fields = {dim: tuple(lookup.key in names for lookup in lookups) for dim, lookups in groups.items()}
    others = {dim: tuple(not shown for shown in mine) for dim, mine in fields.items()}
    return Side(tuple(not shown for shown in dense), others), Side(dense, fields)
