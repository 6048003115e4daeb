"""The models of points.yaml: tables as a run config, the dense part as a module of its own where this package has no such kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from interformer_rec.config.run import RunConfig
from interformer_rec.planning.cost.counter import Operators
from interformer_rec.planning.cost.dense import DenseCost
from interformer_rec.planning.question import Problem

CRITEO = (
    45833188, 36746, 17245, 7413, 20243, 3, 7114, 1441, 62, 29275261, 1572176, 345138, 10, 2209, 11267, 128, 4, 974, 14, 48937457,
    11316796, 40094537, 452104, 12606, 104, 35,
)  # fmt: skip
MLPERF = (
    40000000, 39060, 17295, 7424, 20265, 3, 7122, 1543, 63, 40000000, 3067956, 405282, 10, 2209, 11938, 155, 4, 976, 14, 40000000,
    40000000, 40000000, 590152, 12973, 108, 36,
)  # fmt: skip
HOT = (3, 2, 1, 2, 6, 1, 1, 1, 1, 7, 3, 8, 1, 6, 9, 5, 1, 1, 1, 12, 100, 27, 10, 3, 1, 1)
NO_OTHER = DenseCost({}, {}, 0, 0, 0)


@dataclass(frozen=True, eq=False, kw_only=True)
class PublishedProblem(Problem):
    """A question whose dense part is not one of this package's models."""

    dense_of: Callable[[int], DenseCost] | None = None
    parameters: int | None = None
    adam: bool = True

    @cached_property
    def dense(self) -> DenseCost:
        """As counted in the module given."""
        return super().dense if self.dense_of is None else self.dense_of(self.batch_size)

    @cached_property
    def dense_parameters(self) -> int:
        """Of the module given."""
        return super().dense_parameters if self.parameters is None else self.parameters


def config(rows: tuple[int, ...], lengths: tuple[int, ...], *, events: bool = False, **more: object) -> RunConfig:
    """Hashed tables c0, c1, ...; `lengths`: ids a row; events: unpooled, each a history of its own."""
    tables = {f"c{i}": {"ids": "hash", "num_embeddings": n} for i, n in enumerate(rows)}
    features: dict[str, object] = {"tables": tables, "labels": ["label"], "dense": [f"d{i}" for i in range(13)]}
    if events:
        features["sequences"] = [
            {"name": f"h{i}", "max_length": n, "columns": [{"name": "id", "column": f"h{i}", "table": f"c{i}"}]}
            for i, n in enumerate(lengths)
        ]
    else:
        features["ids"] = [f"c{i}" for i, n in enumerate(lengths) if n == 1]
        features["bags"] = [f"c{i}" for i, n in enumerate(lengths) if n > 1]
    tree = {
        "name": "published",
        "data": {"batch_size": 1},
        "features": features,
        "model": {"kind": "dlrm", "embedding_dim": 128},
    }
    return RunConfig.model_validate(tree | more)


def counted(
    module: Callable[[int], nn.Module],
    inputs: Callable[[int], tuple[Tensor, ...]],
    first: int = 64,
    layers: int = 1,
    causal: bool = False,
) -> Callable[[int], DenseCost]:
    """Of any batch size: run with `first` rows and with twice as many; products and bytes lie on a line.

    The module is one of so many equal layers; half of a `causal` attention is not computed, which torch's formula does not know.
    """

    def of(rows: int) -> DenseCost:
        runs = []
        for few in (first, 2 * first):
            model = module(few)
            given = [x.requires_grad_() for x in inputs(few)]
            with Operators(multiply=False) as counter:
                out = model(*given)
                forward, products, moved = counter.count, list(counter.products), counter.moved
                out.sum().backward()
            runs.append((products, moved, forward, counter.count - forward))
        (less, less_moved, *_), (more, more_moved, forward, backward) = runs

        def line(a: float, b: float) -> float:
            return b + (b - a) / first * (rows - 2 * first)

        def share(head_dim: int) -> float:
            return 0.5 if head_dim and causal else 1.0

        pairs = zip(less, more, strict=True)
        products = tuple(
            b._replace(flops=share(b.head_dim) * line(a.flops, b.flops), bytes=line(a.bytes, b.bytes)) for a, b in pairs
        )
        moved = layers * line(less_moved, more_moved)
        return DenseCost({}, {}, 0, layers * forward, layers * backward, layers * products, moved)

    return of


class SideBySide(nn.Module):
    """What NVIDIA's script does with the vectors: torch.cat(dim=1).sum()."""

    def forward(self, *vectors: Tensor) -> Tensor:
        return torch.cat(vectors, dim=1)


class SwishNorm(nn.Module):
    """x * sigmoid(layer_norm(x)) of TorchRec."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.norm(x))


class OverArch(nn.Module):
    """TestOverArchLarge of TorchRec's test models: all vectors side by side, six wide layers."""

    def __init__(self, wide: int, out: int = 1024, hidden: int = 5) -> None:
        super().__init__()
        self.dense = nn.Sequential(*(m for _ in range(4) for m in (nn.Linear(128, 128), nn.ReLU())))
        layers: list[nn.Module] = [nn.Linear(wide + 128, out), SwishNorm(out)]
        for _ in range(hidden):
            layers += [nn.Linear(out, out), SwishNorm(out)]
        self.over = nn.Sequential(*layers, nn.Linear(out, 1))

    def forward(self, dense: Tensor, *vectors: Tensor) -> Tensor:
        return self.over(torch.cat([self.dense(dense), *vectors], dim=1))


class HSTULayer(nn.Module):
    """norm(attention(silu(U V Q K x))) * U, with the attention of torch in place of HSTU's: as many FLOPs, one kernel."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.uvqk, self.out = nn.Linear(width, 4 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        u, *vqk = nn.functional.silu(self.uvqk(self.norm(x))).chunk(4, dim=-1)
        v, q, k = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in vqk)
        found = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x + self.out(self.after(found) * u)
