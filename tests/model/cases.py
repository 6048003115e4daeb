"""Schemas, embedded inputs and random model configs of the model tests."""

from __future__ import annotations

import random

import torch

from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.model import ModelConfig
from interformer_rec.model.embedding.embedded import Embedded, Events, field_groups
from interformer_rec.model.interformer import InterFormer


def schema(
    groups: tuple[tuple[str, int], ...] = (("watch", 2), ("like", 1), ("buy", 3)),
    ids: int = 5,
    dense: int = 2,
    labels: int = 1,
    odd_dim: int | None = None,
) -> FeatureSchema:
    """`ids` id fields (the first shares a history's table), a bag, dense columns, groups of (name, columns)."""
    tables: dict[str, dict] = {f"f{i}": {"ids": "hash", "num_embeddings": 50} for i in range(1, ids)}
    if odd_dim and ids > 1:
        tables["f1"]["embedding_dim"] = odd_dim
    columns = sorted({f"c{j}" for _, count in groups for j in range(count)})
    tables |= {column: {"ids": "hash", "num_embeddings": 50} for column in columns}
    return FeatureSchema.model_validate(
        {
            "tables": tables,
            "dense": [f"x{i}" for i in range(dense)],
            "ids": [{"name": "item", "table": "c0"}] * min(ids, 1) + [f"f{i}" for i in range(1, ids)],
            "bags": [{"name": "tags", "table": "c0"}] * (ids > 2),
            "sequences": [
                {
                    "name": name,
                    "max_length": 50,
                    "columns": [{"name": f"c{j}", "column": f"{name}_c{j}", "table": f"c{j}"} for j in range(count)],
                }
                for name, count in groups
            ],
            "labels": [{"name": f"y{i}", "weight": 1.0 + i} for i in range(labels)],
        }
    )


def sample_lengths(count: int, longest: int, seed: int) -> torch.Tensor:
    """Random lengths, an empty, a one-event and a full history among them where there is room."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, longest + 1, (count,), generator=generator)
    special = torch.tensor([0, 1, longest])
    lengths[torch.randperm(count, generator=generator)[: min(3, count)]] = special[: min(3, count)]
    return lengths


def embedded_inputs(
    features: FeatureSchema,
    model: ModelConfig,
    count: int,
    longest: int = 9,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> tuple[torch.Tensor, Embedded]:
    """Random dense columns and an Embedded for `count` samples."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return (torch.randn(*shape, generator=generator, dtype=torch.float64) * model.embedding_dim**-0.5).to(dtype)

    fields = {dim: normal(count, len(g), dim) for dim, g in field_groups(features, model.embedding_dim).items()}
    events = {}
    for i, group in enumerate(features.sequences):
        lengths = sample_lengths(count, longest, seed * 100 + i)
        ids = torch.randint(0, 6, (int(lengths.sum()),), generator=torch.Generator().manual_seed(seed * 100 + i))
        values = normal(len(ids), len(group.columns) * model.embedding_dim)
        events[group.name] = Events(values, lengths, ids)
    return normal(count, len(features.dense)), Embedded(fields, events)


def pick(dense: torch.Tensor, embedded: Embedded, samples: list[int]) -> tuple[torch.Tensor, Embedded]:
    """The same inputs of some samples only, in the order given."""
    events = {}
    for name, part in embedded.events.items():
        rows, ids = part.values.split(part.lengths.tolist()), part.ids.split(part.lengths.tolist())
        picked = torch.cat([rows[i] for i in samples]), torch.cat([ids[i] for i in samples])
        events[name] = Events(picked[0], part.lengths[samples], picked[1])
    return dense[samples], Embedded({dim: f[samples] for dim, f in embedded.fields.items()}, events)


def single(dense: torch.Tensor, embedded: Embedded, i: int) -> dict:
    """Sample i as the reference wants it."""
    events = {name: part.values.split(part.lengths.tolist())[i].double() for name, part in embedded.events.items()}
    return {
        "dense": dense[i].double(),
        "fields": {dim: f[i].double() for dim, f in embedded.fields.items()},
        "events": events,
        "ids": {name: part.ids.split(part.lengths.tolist())[i].tolist() for name, part in embedded.events.items()},
    }


def random_config(seed: int) -> ModelConfig:
    """A config with every option drawn at random."""
    draw, windows = random.Random(seed).choice, random.Random(f"windows {seed}").choice
    layers, pma = draw([1, 2, 3]), draw([0, 1, 2])
    return ModelConfig.model_validate(
        {
            "preset": draw(["default", "paper"]),
            "embedding_dim": draw([4, 8]),
            "d": 8,
            "layers": layers,
            "heads": draw([1, 2, 4]),
            "summary": {
                "x_tokens": draw([1, 3, 4]),
                "pma_tokens": pma,
                "recent_tokens": draw([0, 1, 2, 4]),
                "gating": draw(["swish", "sigmoid", "tanh", "identity", "none"]),
                "cls": draw([True, pma == 0]),
            },
            "interaction": {
                "kind": draw(["dot", "dcn", "dhen", "wukong"]),
                "parts": draw([("dot", "dcn"), ("dcn", "wukong"), ("dot", "dcn", "wukong")]),
                "merge": draw(["sum", "concat"]),
                "residual": draw([True, False]),
                "dcn_rank": draw([3, 32]),
                "dcn_layers": draw([1, 2]),
                "dot_tokens": draw([4, 30]),
                "fmb_tokens": draw([2, 20]),
                "fmb_rank": draw([2, 8]),
                "hidden": draw([(), (6,), (7, 5)]),
            },
            "sequence": {
                "merge": draw(["masknet", "separate", "concat"]),
                "lengths": draw([True, False]),
                "pffn": draw(["two_layer", "gdpa", "appendix"]),
                "pffn_rank": draw([3, 12]),
                "pffn_residual": draw([True, False]),
                "attention_residual": draw([True, False]),
                "window": windows([None, 1, 2, 4]),
                "attention_every": windows([1, 1, 2]),
            },
            "flow": draw(["int", "int", "n2s", "s2n", "sep", "sole"]),
            "pooling": draw(["mean", "mlp", "mha"]),
            "final_cross": draw([True, False]) if layers > 1 else True,
            "normalise": draw([True, False]),
            "overlap": draw([True, False]),
            "head": draw([(), (9,), (9, 5)]),
            "activation": draw(["silu", "gelu", "relu"]),
        }
    )


def build(
    features: FeatureSchema, model: ModelConfig, seed: int = 0, dtype: torch.dtype = torch.float64
) -> InterFormer:
    """The model after the lookup, with every parameter moved off its start, so that zeros and ones hide nothing."""
    torch.manual_seed(seed)
    built = InterFormer(features, model)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return built.to(dtype)
