"""What tables and dense columns say becomes what field models read: one flat vector, or one vector of width d a field.

Models that know no events read a history as more fields: the mean of its events, one field a column, zeros if it is empty.
Nothing is normalised; the papers read raw vectors. Legend: B samples, M dense columns, n fields, F fields of width w, k columns.
"""

import torch
from torch import Tensor, nn

from interformer_rec.config.features import FeatureSchema
from interformer_rec.errors import InputError
from interformer_rec.model.embedding.embedded import Embedded, field_groups, table_dims
from interformer_rec.model.layers import fan_in_
from interformer_rec.ops.pooling import segment_pool


class FlatFields(nn.Module):
    """(B, M) and Embedded -> (B, width): dense columns and the fields' vectors side by side; `histories`: their means too."""

    def __init__(self, features: FeatureSchema, embedding_dim: int, *, histories: bool) -> None:
        super().__init__()
        dims = table_dims(features, embedding_dim)
        self.histories = tuple(group.name for group in features.sequences) if histories else ()
        means = [dims[column.table] for group in features.sequences for column in group.columns] if histories else []
        fields = [dim * len(group) for dim, group in field_groups(features, embedding_dim).items()]
        self.width = len(features.dense) + sum(fields) + sum(means)

    def forward(self, dense_BM: Tensor, embedded: Embedded) -> Tensor:
        """Put everything side by side."""
        parts = [dense_BM, *(fields.flatten(1) for fields in embedded.fields.values())]
        parts += [
            segment_pool(embedded.events[name].values, embedded.events[name].lengths, "mean") for name in self.histories
        ]
        return torch.cat(parts, dim=1)


class FieldVectors(nn.Module):
    """(B, M) and Embedded -> (B, n, d): one vector a field. Tables of another width than d have a linear map a field.

    `dense`: column m gives x_m v_m, v_m learned (Song et al. 2019, Eq. 4; the x_i v_i of Rendle 2010). Raises InputError
    where fewer than two fields are left: there is nothing to interact.
    """

    def __init__(self, features: FeatureSchema, embedding_dim: int, *, dense: bool = True, fewest: int = 2) -> None:
        super().__init__()
        d = self.d = embedding_dim
        counts = {dim: len(group) for dim, group in field_groups(features, embedding_dim).items()}
        dims = table_dims(features, embedding_dim)
        self.columns = {group.name: len(group.columns) for group in features.sequences}
        event_dims = {group.name: dims[group.columns[0].table] for group in features.sequences}
        self.dense = nn.Parameter(fan_in_(torch.empty(len(features.dense), d), d)) if dense and features.dense else None
        self.maps = nn.ParameterDict({str(dim): _maps(count, dim, d) for dim, count in counts.items() if dim != d})
        self.event_maps = nn.ParameterList(
            _maps(count, event_dims[name], d) for name, count in self.columns.items() if event_dims[name] != d
        )
        self.count = sum(counts.values()) + sum(self.columns.values())  # n
        self.count += len(features.dense) if self.dense is not None else 0
        if self.count < fewest:
            raise InputError(
                f"this model kind lets fields interact and needs at least {fewest}; features has {self.count} "
                "(ids, bags, dense columns and columns of sequences count): add features, or use another model.kind"
            )

    def forward(self, dense_BM: Tensor, embedded: Embedded) -> Tensor:
        """Make all vectors."""
        vectors = [] if self.dense is None else [dense_BM[:, :, None] * self.dense]
        vectors += [
            _apply(fields, self.maps[str(dim)]) if dim != self.d else fields for dim, fields in embedded.fields.items()
        ]
        for i, (name, count) in enumerate(self.columns.items()):
            events = embedded.events[name]
            mean = segment_pool(events.values, events.lengths, "mean").unflatten(1, (count, -1))
            vectors.append(_apply(mean, self.event_maps[i]) if len(self.event_maps) else mean)
        return torch.cat(vectors, dim=1)


def _maps(count: int, width: int, d: int) -> nn.Parameter:
    return nn.Parameter(fan_in_(torch.empty(count, width, d), width))


def _apply(fields_BFW: Tensor, maps_FWD: Tensor) -> Tensor:
    return torch.bmm(fields_BFW.transpose(0, 1), maps_FWD).transpose(0, 1)
