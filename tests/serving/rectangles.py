"""Jagged inputs of the model tests as the rectangles that a graph takes, and the jagged model's answer to compare with."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from interformer_rec.config.baselines import AnyModelConfig
from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.model import ModelConfig
from interformer_rec.model.build import build_model
from interformer_rec.model.embedding.embedded import Embedded
from interformer_rec.model.sides import both_sides
from interformer_rec.ops.glue import union
from interformer_rec.serving.rectangle import FEWEST_PLACES, Reads, is_split, reads_of, slots
from tests.model.cases import embedded_inputs
from tests.model.golden_cases import SMALL, features_of


class Case:
    """A model of the golden cases with made-up rows."""

    def __init__(
        self,
        options: dict[str, Any],
        dtype=torch.float64,
        rows=6,
        longest=9,
        seed=0,
        features: FeatureSchema | None = None,
    ) -> None:
        self.features = features or features_of(options)
        small = SMALL if options.get("kind", "interformer") == "interformer" else {"embedding_dim": 8}
        self.config: AnyModelConfig = TypeAdapter(AnyModelConfig).validate_python({**small, **options})
        torch.manual_seed(seed)
        self.model = build_model(self.features, self.config).to(dtype).eval()
        self.sets = getattr(self.config, "ensemble_members", 1)
        stated = ModelConfig(embedding_dim=self.config.embedding_dim * self.sets, d=8)
        self.dense, self.embedded = embedded_inputs(self.features, stated, rows, longest, seed, dtype)
        self.reads = reads_of(self.features, self.config)

    def jagged(self) -> Tensor:
        """(rows, tasks) logits."""
        with torch.no_grad():
            return self.model(self.dense, self.embedded)

    def inputs(self, places: int | None = None, junk: float = 0.0) -> list[list[Tensor]]:
        """Of each graph; histories in `places` of them, `junk` at padding."""
        if not is_split(self.config):
            return [tensors(self.reads[0], self.dense, self.embedded, places, junk)]
        stripped = Embedded(
            {width // self.sets: values for width, values in self.embedded.fields.items()}, self.embedded.events
        )
        found = []
        for side, reads in zip(both_sides(self.features, self.config.embedding_dim, True), self.reads, strict=True):
            dense, embedded = side.take(self.dense, stripped)
            embedded.fields = {width * self.sets: values for width, values in embedded.fields.items()}
            found.append(tensors(reads, dense, embedded, places, junk))
        return found

    def ask(self, graphs: tuple[Any, ...], places: int | None = None, junk: float = 0.0) -> Tensor:
        """(rows, tasks) logits of graphs: one candidate a user."""
        inputs = self.inputs(places, junk)
        with torch.no_grad():
            if len(graphs) == 1:
                return graphs[0](*inputs[0])
            owners = torch.arange(len(self.dense))
            return graphs[1](graphs[0](*inputs[0]), owners, *(one[:, None] for one in inputs[1])).squeeze(1)


def tensors(reads: Reads, dense: Tensor, embedded: Embedded, places: int | None, junk: float) -> list[Tensor]:
    """In the order of `reads.names`."""
    found = [dense] if reads.dense else []
    found += [embedded.fields[width] for width in reads.fields]
    if not reads.groups:
        return found
    groups = [embedded.events[group.name] for group in reads.groups]
    counts = [group.lengths for group in groups]
    if reads.union:
        rows, lengths, marks = union([(group.ids, group.lengths) for group in groups])
        values = torch.cat([group.values for group in groups])[rows]
        counts.append(lengths)
        return [
            *found,
            rectangle(values, lengths, places, junk),
            torch.stack(counts, 1),
            rectangle(marks.to(values.dtype), lengths, places, 0.0),
        ]
    if reads.together:
        places = places or max(int(group.lengths.max()) for group in groups)
    return [*found, *(rectangle(g.values, g.lengths, places, junk) for g in groups), torch.stack(counts, 1)]


def rectangle(values: Tensor, lengths: Tensor, places: int | None, junk: float) -> Tensor:
    """(E, w) -> (B, T, w)."""
    places = max(FEWEST_PLACES, places or 0, int(lengths.max()))
    out = values.new_full((len(lengths) * places, *values.shape[1:]), junk)
    out[torch.from_numpy(slots(lengths.numpy(), places))] = values
    return out.view(len(lengths), places, -1)


def parameters_everywhere(model: nn.Module, scale: float = 0.3) -> None:
    """Weights that start at zero or one would hide what they weigh."""
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * scale)
