"""The only lookup: a Batch's table rows come in, embedded fields and events go out; the all-to-all of sharded tables is here.

Tables that a history reads live in one EmbeddingCollection with every field that shares them, the others in one
EmbeddingBagCollection: the two never share weights. Legend: B samples, F fields, E events, k columns of a group.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchrec import EmbeddingBagCollection, EmbeddingCollection, JaggedTensor, KeyedJaggedTensor, KeyedTensor
from torchrec.modules.embedding_configs import EmbeddingBagConfig, EmbeddingConfig, PoolingType

from interformer_rec.batch import Batch
from interformer_rec.config.features import FeatureSchema
from interformer_rec.errors import InputError
from interformer_rec.model.embedding.embedded import Embedded, Events, field_groups, row_init_scale, table_dims
from interformer_rec.ops.pooling import segment_pool


class _RowL2(torch.autograd.Function):
    """Identity; the gradient gains scale * e, that of scale / 2 * |e|^2 summed over the looked-up vectors.

    `weights`: what a float's square counts, to be broadcast; default 1.
    """

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, scale: float, weights: Tensor | None) -> Tensor:
        ctx.save_for_backward(vectors, weights)
        ctx.scale = scale
        return vectors.view_as(vectors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        vectors, weights = ctx.saved_tensors
        if weights is None:
            return torch.add(grad, vectors, alpha=ctx.scale), None, None
        return torch.addcmul(grad, vectors, weights, value=ctx.scale), None, None


class Embeddings(nn.Module):
    """Batch -> Embedded. `table_rows` counts a table's rows, special rows included; tables are made on `device`.

    `l2`: l2 / 2 * |e|^2 for every vector that a sample looks up (a bag's: its pooled vector) joins the objective, divided by
    the step's rows like the loss. It is an objective, not an optimizer's weight decay, because FBGEMM's CPU kernels ignore
    theirs; so it does not depend on device, sharding or world size. The reported loss is without it. `members`: a row holds so many
    vectors of its table's embedding_dim.
    """

    def __init__(
        self,
        features: FeatureSchema,
        table_rows: Mapping[str, int],
        embedding_dim: int,
        l2: float = 0.0,
        device: torch.device | None = None,
        members: int = 1,
    ) -> None:
        super().__init__()
        missing = [name for name in features.tables if table_rows.get(name, 0) < 1]
        if missing:
            raise InputError(
                f"table {missing[0]!r} has no rows: table_rows needs a count >= 1 for it; it names {sorted(table_rows)}"
            )
        reserved = next((name for name in features.tables if hasattr(nn.ModuleDict(), name)), None)
        if reserved is not None:
            raise InputError(
                f"a table cannot be named {reserved!r}: torch's modules have something of that name. Choose another one under "
                "features.tables, and name it as `table` of the features that read it"
            )
        dims = table_dims(features, embedding_dim, members)
        bags, sequences = [], []
        for name in features.tables:
            base: dict[str, Any] = {
                "name": name,
                "num_embeddings": table_rows[name],
                "embedding_dim": dims[name],
                "init_fn": partial(nn.init.normal_, std=row_init_scale(dims[name] // members)),
            }
            pooled = [lookup for lookup in features.pooled_lookups if lookup.table == name]
            jagged = [lookup for lookup in features.jagged_lookups if lookup.table == name]
            if pooled:
                # of an id's one row, sum and mean are the same
                mean = any(lookup.pooling == "mean" for lookup in pooled)
                pooling = PoolingType.MEAN if mean else PoolingType.SUM
                bags.append(
                    EmbeddingBagConfig(**base, feature_names=[lookup.key for lookup in pooled], pooling=pooling)
                )
            if jagged:
                sequences.append(EmbeddingConfig(**base, feature_names=[lookup.key for lookup in jagged]))
        self.ebc = EmbeddingBagCollection(tables=bags, device=device) if bags else None
        self.ec = EmbeddingCollection(tables=sequences, device=device) if sequences else None
        self.assemble = Assemble(features, embedding_dim, l2, members)

    def forward(self, batch: Batch) -> Embedded:
        """Look everything up. Nothing else: TorchRec's sparse pipeline traces this method to start the all-to-all early."""
        pooled = self.ebc(batch.sparse) if self.ebc is not None else None
        jagged = self.ec(batch.sequences) if self.ec is not None else None
        return self.assemble(batch.sequences, pooled, jagged, batch.loss_rows, batch.request_of)


class Assemble(nn.Module):
    """Looked-up vectors -> Embedded: L2 hook, pooling of fields that share a history's table, columns side by side."""

    def __init__(self, features: FeatureSchema, embedding_dim: int, l2: float, members: int = 1) -> None:
        super().__init__()
        self.l2, self.members, self.turn = l2, members, 0
        self.trained: dict[tuple[int, ...], Tensor] = {}  # widths of rows -> 1 at the columns this epoch trains
        self.groups = field_groups(features, embedding_dim, members)
        self.dims = {lookup.key: dim for dim, lookups in self.groups.items() for lookup in lookups}
        # keys of candidates; the others are requests'
        self.shown = set(features.candidate) if features.request else None
        self.events = {
            group.name: [f"{group.name}.{column.name}" for column in group.columns] for group in features.sequences
        }

    def begin_epoch(self, epoch: int) -> None:
        """L2 is on the vectors that this epoch trains (EmbeddingEnsemble)."""
        self.turn = epoch % self.members
        self.trained.clear()

    def forward(
        self,
        sequences: KeyedJaggedTensor,
        pooled: KeyedTensor | None,
        jagged: dict[str, JaggedTensor] | None,
        loss_rows: float,
        request_of: Tensor | None = None,
    ) -> Embedded:
        """Collect the vectors of both collections. `request_of`: see Batch."""
        scale = self.l2 / loss_rows if self.l2 and torch.is_grad_enabled() else 0.0
        times_B = None if request_of is None or not scale else torch.bincount(request_of, minlength=sequences.stride())
        keys = sequences.keys()
        lengths = dict(zip(keys, sequences.lengths().view(len(keys), sequences.stride()), strict=True))
        ids = dict(zip(keys, sequences.values().split(sequences.length_per_key()), strict=True))
        vectors = {}
        if jagged is not None:
            vectors = {
                key: self._events_with_l2(key, jagged[key].values(), lengths[key], scale, times_B) for key in lengths
            }
        bags: dict[str, Tensor] = {}
        if pooled is not None:
            values = self._with_l2(pooled.values(), scale, pooled.length_per_key(), self._times(pooled, times_B))
            # one split, not a slice a key: a slice's gradient is a whole tensor of zeros
            bags = dict(zip(pooled.keys(), values.split(pooled.length_per_key(), dim=1), strict=True))
        fields = {}
        for dim, lookups in self.groups.items():
            columns = [
                bags[f.key] if f.key in bags else segment_pool(vectors[f.key], lengths[f.key], f.pooling or "sum")
                for f in lookups
            ]
            fields[dim] = torch.cat(columns, dim=1).unflatten(1, (len(lookups), dim))
        events = {
            name: Events(
                torch.cat([vectors[key] for key in keys], dim=1), lengths[keys[0]].to(torch.int64), ids[keys[0]]
            )
            for name, keys in self.events.items()
        }
        return Embedded(fields, events)

    def _events_with_l2(
        self, key: str, vectors: Tensor, lengths_B: Tensor, scale: float, times_B: Tensor | None
    ) -> Tensor:
        """What a request looks up counts for each of its candidates, who would look it up as rows of their own."""
        if times_B is None or self.shown is None or key in self.shown:
            return self._with_l2(vectors, scale)
        return self._with_l2(vectors, scale, times=torch.repeat_interleave(times_B, lengths_B)[:, None])

    def _times(self, pooled: KeyedTensor, times_B: Tensor | None) -> Tensor | None:
        """(B, floats of all keys): how often each pooled vector counts."""
        if times_B is None or self.shown is None:
            return None
        of_requests = torch.tensor(
            [not in_shown for in_shown in map(self.shown.__contains__, pooled.keys())], device=times_B.device
        )
        widths = torch.tensor(pooled.length_per_key(), device=times_B.device)
        return torch.where(of_requests.repeat_interleave(widths), times_B[:, None], 1)

    def _with_l2(
        self, vectors: Tensor, scale: float, widths: Sequence[int] = (), times: Tensor | None = None
    ) -> Tensor:
        """`widths` of the rows side by side in `vectors` (default: one row); `times`: how often each counts, to be broadcast."""
        if not scale:
            return vectors
        key = tuple(widths) or (vectors.shape[1],)
        if self.members > 1 and key not in self.trained:
            turn = torch.arange(self.members, device=vectors.device) == self.turn
            rows = [turn.repeat_interleave(width // self.members) for width in key]
            self.trained[key] = torch.cat(rows).to(vectors.dtype)
        weights = self.trained.get(key)
        if times is not None:
            weights = times.to(vectors.dtype) if weights is None else weights * times
        return _RowL2.apply(vectors, scale, weights)
