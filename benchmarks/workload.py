"""Models and inputs of the throughput suite. In: a shape by name; out: features, model options, and random inputs of given lengths.

Inputs start after the lookup (Embedded), so a host with torch alone can run them. Legend: B rows, F fields, k columns of a
group, w floats of a table row, E events.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.model import ModelConfig
from interformer_rec.model.embedding.embedded import Embedded, Events, field_groups

TABLE_ROWS = 100_000


@dataclass(frozen=True)
class Workload:
    """A model's size, in the config's terms."""

    name: str
    fields: int  # id fields beside the candidate's
    dense: int
    groups: int  # histories
    columns: int  # of a history
    embedding_dim: int
    d: int
    layers: int
    heads: int
    preset: str = "default"
    merge: str = "concat"
    window: int = 0  # of attention, events to each side; 0: none
    attention_every: int = 1

    def features(self, longest: int) -> FeatureSchema:
        """The schema: every column of every history shares a table with a field of the candidate."""
        tables: dict[str, Any] = {
            name: {"ids": "identity", "num_embeddings": TABLE_ROWS} for name in [*self._shared(), *self._own()]
        }
        return FeatureSchema.model_validate(
            {
                "tables": tables,
                "dense": [f"number{i}" for i in range(self.dense)],
                "ids": [
                    *({"name": f"candidate_{name}", "table": name} for name in self._shared()),
                    *self._own(),
                ],
                "sequences": [
                    {
                        "name": f"history{group}",
                        "max_length": longest,
                        "columns": [
                            {"name": name, "column": f"history{group}_{name}", "table": name} for name in self._shared()
                        ],
                    }
                    for group in range(self.groups)
                ],
                "labels": ["label"],
            }
        )

    def model(self, **changes: Any) -> ModelConfig:
        """Options of the model; `changes` by their names in the config."""
        sizes = {"d": self.d, "layers": self.layers, "heads": self.heads, "embedding_dim": self.embedding_dim}
        tree: dict[str, Any] = {"preset": self.preset, **sizes, **changes}
        if self.preset == "default":
            tree.setdefault("sequence", {}).setdefault("merge", self.merge)
        if self.window or self.attention_every > 1:
            tree["sequence"] = tree.get("sequence", {}) | {
                "window": self.window or None,
                "attention_every": self.attention_every,
            }
        return ModelConfig.model_validate(tree)

    def with_(self, **changes: Any) -> Workload:
        """A changed copy."""
        return dataclasses.replace(self, **changes)

    def _shared(self) -> list[str]:
        return [f"column{i}" for i in range(self.columns)]

    def _own(self) -> list[str]:
        return [f"field{i}" for i in range(self.fields)]


WORKLOADS = {
    shape.name: shape
    for shape in (
        # configs/kuairand_pure.yaml
        Workload("kuairand", fields=34, dense=8, groups=3, columns=3, embedding_dim=16, d=32, layers=1, heads=2),
        # the paper's production setting: hundreds of fields, 10 sequences, 3 layers
        Workload(
            "industrial",
            fields=296,
            dense=64,
            groups=10,
            columns=4,
            embedding_dim=32,
            d=64,
            layers=3,
            heads=2,
            merge="separate",
        ),
        # issue-size layers of a GPU: one long history, wide tokens
        Workload("wide", fields=60, dense=16, groups=1, columns=4, embedding_dim=64, d=256, layers=3, heads=4),
        # seconds on one core: tests
        Workload("tiny", fields=4, dense=2, groups=2, columns=2, embedding_dim=8, d=16, layers=1, heads=2),
    )
}


@dataclass
class Inputs:
    """One batch after the lookup; leaves that want gradients, as the tables do."""

    dense: torch.Tensor  # (B, m)
    embedded: Embedded
    labels: torch.Tensor  # (B,)
    lengths: Mapping[str, np.ndarray]  # by group

    @property
    def rows(self) -> int:
        """B."""
        return self.labels.numel()

    @property
    def events(self) -> int:
        """Of all groups."""
        return int(sum(lengths.sum() for lengths in self.lengths.values()))


def inputs(
    features: FeatureSchema,
    model: ModelConfig,
    lengths: Mapping[str, np.ndarray],
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> Inputs:
    """Random vectors for rows of these lengths (a group's name -> (B,))."""
    generator = torch.Generator().manual_seed(0)
    rows = len(next(iter(lengths.values())))

    def normal(*shape: int) -> torch.Tensor:
        drawn = torch.randn(*shape, generator=generator) * model.embedding_dim**-0.5
        return drawn.to(device, dtype).requires_grad_()

    fields = {dim: normal(rows, len(group), dim) for dim, group in field_groups(features, model.embedding_dim).items()}
    events = {
        group.name: Events(
            normal(int(lengths[group.name].sum()), len(group.columns) * model.embedding_dim),
            torch.from_numpy(lengths[group.name]).to(device),
        )
        for group in features.sequences
    }
    labels = torch.randint(0, 2, (rows,), generator=generator).to(device, dtype)
    dense = torch.randn(rows, len(features.dense), generator=generator).to(device, dtype)
    return Inputs(dense, Embedded(fields, events), labels, dict(lengths))
