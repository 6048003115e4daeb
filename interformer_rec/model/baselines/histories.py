"""What the candidate-aware systems share: fields and histories come in, one vector a sample for the final MLP goes out.

They differ in how one history is read: a reader, a module (events, candidate (B, W)) -> ((B, its `width`), loss (B,) or None).
Histories do not see each other. Legend: B samples, W channels of an event.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from interformer_rec.config.features import FeatureSchema
from interformer_rec.model.baselines.auxiliary import Supervised
from interformer_rec.model.baselines.candidate import CandidateEvent
from interformer_rec.model.baselines.fields import FlatFields
from interformer_rec.model.baselines.tower import Tower
from interformer_rec.model.embedding.embedded import Embedded


class Histories(nn.Module):
    """(B, M) and Embedded -> [dense columns ; fields ; what each history's reader says] (B, width), and the readers' losses.

    `reader(W, longest)` makes a history's reader; `longest` is its max_length.
    """

    def __init__(
        self, features: FeatureSchema, embedding_dim: int, kind: str, reader: Callable[[int, int], nn.Module]
    ) -> None:
        super().__init__()
        self.fields = FlatFields(features, embedding_dim, histories=False)
        self.candidate = CandidateEvent(features, embedding_dim, kind)
        self.names = tuple(group.name for group in features.sequences)
        self.readers = nn.ModuleList(
            reader(self.candidate.widths[group.name], group.max_length) for group in features.sequences
        )
        self.width = self.fields.width + sum(int(reader.width) for reader in self.readers)

    def forward(self, dense_BM: Tensor, embedded: Embedded) -> tuple[Tensor, Tensor | None]:
        """Read all histories; losses of several add up."""
        parts, losses = [self.fields(dense_BM, embedded)], []
        for name, reader in zip(self.names, self.readers, strict=True):
            part, loss = reader(embedded.events[name], self.candidate(embedded, name))
            parts.append(part)
            losses += [] if loss is None else [loss]
        return torch.cat(parts, dim=1), torch.stack(losses).sum(0) if losses else None


def mlp(width: int, tasks: int, options: Any) -> nn.Module:
    """The head of most of them."""
    return Tower(width, options.hidden, tasks, options.activation, options.dropout)


class HistoryModel(nn.Module):
    """Histories, then a head (B, width) -> (B, tasks).

    `options`: the kind's; `reader(W, longest)` makes a history's reader, `head(width, tasks, options)` the head.
    """

    def __init__(
        self,
        features: FeatureSchema,
        options: Any,
        reader: Callable[[int, int], nn.Module],
        head: Callable[[int, int, Any], nn.Module] = mlp,
    ) -> None:
        super().__init__()
        self.inputs = Histories(features, options.embedding_dim, options.kind, reader)
        self.head = head(self.inputs.width, len(features.labels), options)

    def forward(self, dense_BM: Tensor, embedded: Embedded) -> Tensor | Supervised:
        """(B, M) and Embedded -> (B, tasks) logits, with what the readers add to the loss."""
        x, auxiliary_B = self.inputs(dense_BM, embedded)
        logits = self.head(x)
        return logits if auxiliary_B is None else Supervised(logits, auxiliary_B)
