"""The field models written a second time: one sample at a time, loops, no shared code but the interactions' own reference.

A model reads the weights of a built one by name (its state dict). A sample: {"dense": (m,), "fields": {w: (F, w)},
"events": {group: (T, k * w)}}.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.model import ModelConfig
from tests.model.reference import Reference as InterFormerReference

PLAIN = {"relu": F.relu, "leaky_relu": F.leaky_relu, "silu": F.silu, "gelu": F.gelu}


class Reference:
    """`logits(sample)` -> (tasks,); a subclass a kind."""

    def __init__(self, features: FeatureSchema, options: Any, weights: dict[str, Tensor]) -> None:
        self.features, self.options = features, options
        self.weights = {name: weight.detach().double() for name, weight in weights.items()}

    def w(self, name: str) -> Tensor | None:
        return self.weights.get(name)

    def linear(self, name: str, x: Tensor) -> Tensor:
        y = self.w(f"{name}.weight") @ x
        return y if self.w(f"{name}.bias") is None else y + self.w(f"{name}.bias")

    def tower(self, name: str, x: Tensor, hidden: int, activation: str, out: bool = True) -> Tensor:
        """`hidden` layers with activation, then the output map; modules stand in a row: map, activation, map, ..."""
        for i in range(hidden):
            x = self.activation(f"{name}.{2 * i + 1}", self.linear(f"{name}.{2 * i}", x), activation)
        return self.linear(f"{name}.{2 * hidden}", x) if out else x

    def activation(self, name: str, x: Tensor, kind: str) -> Tensor:
        if kind != "prelu":
            return PLAIN[kind](x)
        slope = self.w(f"{name}.weight")
        return torch.stack([x[i] if x[i] > 0 else slope[i] * x[i] for i in range(len(x))])

    def last_tower(self, name: str, x: Tensor) -> Tensor:
        return self.tower(name, x, len(self.options.hidden), self.options.activation)

    def columns(self, sample: dict) -> dict[str, list[Tensor]]:
        """Each history's columns: (T, w) each."""
        return {g.name: list(sample["events"][g.name].chunk(len(g.columns), dim=1)) for g in self.features.sequences}

    @staticmethod
    def mean(column: Tensor) -> Tensor:
        return sum(column) / len(column) if len(column) else torch.zeros(column.shape[1], dtype=column.dtype)

    def flat(self, sample: dict, histories: bool) -> Tensor:
        parts = [sample["dense"]] + [field for fields in sample["fields"].values() for field in fields]
        if histories:
            parts += [self.mean(column) for columns in self.columns(sample).values() for column in columns]
        return torch.cat(parts)

    def vectors(self, name: str, sample: dict, dense: bool = True) -> list[Tensor]:
        d, found = self.options.embedding_dim, []
        if dense:
            found += [value * self.w(f"{name}.dense")[m] for m, value in enumerate(sample["dense"])]
        for width, fields in sample["fields"].items():
            for i, field in enumerate(fields):
                found.append(field if width == d else field @ self.w(f"{name}.maps.{width}")[i])
        for g, columns in enumerate(self.columns(sample).values()):
            for i, column in enumerate(columns):
                mean = self.mean(column)
                found.append(mean if len(mean) == d else mean @ self.w(f"{name}.event_maps.{g}")[i])
        return found

    def first_order(self, vectors: list[Tensor]) -> Tensor:
        weight = self.w("first_order.linear.weight")
        rows = weight.view(len(weight), len(vectors), -1)
        return self.w("first_order.linear.bias") + torch.stack(
            [sum(v @ row[f] for f, v in enumerate(vectors)) for row in rows]
        )

    def cross(self, name: str, first: Tensor, layers: int) -> Tensor:
        x = first
        for i in range(layers):
            layer = f"{name}.layers.{i}"
            full = self.options.cross_rank is None
            inner = self.linear(layer, x) if full else self.linear(f"{layer}.1", self.linear(f"{layer}.0", x))
            x = first * inner + x
        return x

    def parallel(self, name: str, x: Tensor) -> Tensor:
        deep = self.tower(f"{name}.deep", x, len(self.options.hidden), self.options.activation, out=False)
        return self.linear(f"{name}.out", torch.cat([self.cross(f"{name}.cross", x, self.options.cross_layers), deep]))


class FM(Reference):
    def logits(self, sample: dict) -> Tensor:
        v = self.vectors("fields", sample)
        pairs = sum(v[i] @ v[j] for i in range(len(v)) for j in range(i + 1, len(v)))
        return self.first_order(v) + pairs


class FmFM(Reference):
    def logits(self, sample: dict) -> Tensor:
        v, matrices = self.vectors("fields", sample), iter(self.w("matrices"))
        pairs = sum(v[i] @ next(matrices) @ v[j] for i in range(len(v)) for j in range(i + 1, len(v)))
        return self.first_order(v) + pairs


class XDeepFM(Reference):
    def logits(self, sample: dict) -> Tensor:
        v, pooled = self.vectors("fields", sample), []
        x = v
        for k, maps in enumerate(self.options.cin):
            weight = self.w(f"cin.weights.{k}")
            x = [sum(weight[h, i, j] * x[i] * v[j] for i in range(len(x)) for j in range(len(v))) for h in range(maps)]
            pooled += [row.sum() for row in x]
        deep = self.last_tower("tower", torch.cat(v))
        return self.first_order(v) + deep + self.linear("cin_out", torch.stack(pooled))


class AutoInt(Reference):
    def logits(self, sample: dict) -> Tensor:
        v = self.vectors("fields", sample)
        x, heads = v, self.options.heads
        for i in range(self.options.layers):
            q, k, u = (
                [self.linear(f"layers.{i}.{part}", e).view(heads, -1) for e in x] for part in ("query", "key", "value")
            )
            after = []
            for m in range(len(x)):
                merged = []
                for h in range(heads):
                    weights = torch.stack([q[m][h] @ k[j][h] for j in range(len(x))]).softmax(0)
                    merged.append(sum(weights[j] * u[j][h] for j in range(len(x))))
                after.append(F.relu(torch.cat(merged) + self.linear(f"layers.{i}.residual", x[m])))
            x = after
        return self.linear("out", torch.cat(x)) + self.last_tower("tower", torch.cat(v))


class DCNv2(Reference):
    def logits(self, sample: dict) -> Tensor:
        return self.parallel("parallel", self.flat(sample, histories=True))


class DLRM(Reference):
    def logits(self, sample: dict) -> Tensor:
        v, beside = self.vectors("fields", sample, dense=False), []
        if len(sample["dense"]):
            hidden = len(self.options.bottom) + 1
            beside = [self.tower("bottom", sample["dense"], hidden, self.options.activation, out=False)]
        v = beside + v
        products = [v[i] @ v[j] for i in range(len(v)) for j in range(i + 1, len(v))]
        return self.last_tower("top", torch.cat([*beside, torch.stack(products)]))


class Stacked(Reference):
    """DHEN and Wukong: the interactions' reference is InterFormer's."""

    def logits(self, sample: dict) -> Tensor:
        options, wukong = self.options, self.options.kind == "wukong"
        d = options.embedding_dim
        v = self.vectors("tokens.fields", sample, dense=False)
        if len(sample["dense"]):
            v = [self.linear("tokens.dense", sample["dense"]), *v]
        interaction = {"fmb_tokens": options.fmb_tokens} if wukong else options.interaction.model_dump()
        model = ModelConfig.model_validate(
            {"d": d, "heads": 1, "activation": options.activation, "interaction": interaction}
        )
        reference, x = InterFormerReference(self.features, model, self.weights), torch.stack(v)
        for i in range(options.layers):
            out = options.fmb_tokens + options.lcb_tokens if wukong else len(v)
            x = reference.interaction(options.kind, f"layers.{i}", x, out)
        return self.last_tower("tower", x.flatten())
