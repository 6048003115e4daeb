"""Candidates of requests before the dense model: one user's inputs for several candidates. In: what a Batch and the lookup give.

Legend: R requests, C candidates, m dense columns, F fields, E events. The requests' own columns fill the first R of C rows
(interformer_rec/batch.py).
"""

import torch
from torch import Tensor, nn

from interformer_rec.config.features import FeatureSchema
from interformer_rec.model.embedding.embedded import Embedded, Events
from interformer_rec.model.sides import both_sides


def of_requests(dense_CM: Tensor, embedded: Embedded, requests: int) -> tuple[Tensor, Embedded]:
    """The first R rows: the requests' columns; the candidates' among them are of no use."""
    fields = {dim: values[:requests] for dim, values in embedded.fields.items()}
    events = {name: Events(one.values, one.lengths[:requests], one.ids) for name, one in embedded.events.items()}
    return dense_CM[:requests], Embedded(fields, events)


class Expand(nn.Module):
    """A row for each candidate with its request's columns, for a model that knows no requests: the lookup was done once for them."""

    def __init__(self, features: FeatureSchema, embedding_dim: int, members: int) -> None:
        super().__init__()
        _, candidates = both_sides(features, embedding_dim, True, members)
        self.shown = candidates

    def forward(self, dense_CM: Tensor, embedded: Embedded, request_of: Tensor) -> tuple[Tensor, Embedded]:
        """(C, m) dense columns and an Embedded of C rows."""
        fields = {dim: _expanded(values, self.shown.fields[dim], request_of) for dim, values in embedded.fields.items()}
        events = {name: _repeated(one, request_of) for name, one in embedded.events.items()}
        return _expanded(dense_CM, self.shown.dense, request_of), Embedded(fields, events)


def _expanded(values: Tensor, shown: tuple[bool, ...], request_of: Tensor) -> Tensor:
    """(C, F, ...): the candidates' columns as they are, the others from the request's row."""
    mask = torch.tensor(shown, device=values.device).view(1, -1, *[1] * (values.dim() - 2))
    return torch.where(mask, values, values.index_select(0, request_of))


def _repeated(events: Events, request_of: Tensor) -> Events:
    """The request's history for each candidate."""
    starts = events.lengths.cumsum(0) - events.lengths
    lengths = events.lengths.index_select(0, request_of)
    first = starts.index_select(0, request_of) - (lengths.cumsum(0) - lengths)
    places = torch.repeat_interleave(first, lengths) + torch.arange(int(lengths.sum()), device=lengths.device)
    ids = None if events.ids is None else events.ids.index_select(0, places)
    return Events(events.values.index_select(0, places), lengths, ids)
