"""A plan and its step for every point of points.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
import yaml
from torch import nn

from interformer_rec.planning.answer import Placed, place
from interformer_rec.planning.constraints import Constraints, TableConstraints
from interformer_rec.planning.cost.cluster import load_cluster
from interformer_rec.planning.cost.sizes import find_sizes
from tests.planning.public_figures.models import (
    CRITEO,
    HOT,
    MLPERF,
    HSTULayer,
    OverArch,
    PublishedProblem,
    SideBySide,
    config,
    counted,
)

TF32_TFLOPS = 156.0  # NVIDIA A100 datasheet
ADAGRAD = {"optimizer": {"embedding": {"kind": "adagrad"}}}


@dataclass(frozen=True)
class Prediction:
    """One point, and what a plan says of it."""

    point: dict[str, object]
    placed: Placed

    @property
    def ms(self) -> float:
        """Without a pipeline nothing hides."""
        time = self.placed.time
        return time.total if self.point.get("pipelined", True) else time.serial

    @property
    def error(self) -> float:
        """(predicted - published) / published."""
        return self.ms / float(self.point["ms"]) - 1  # type: ignore[arg-type]


def points() -> list[dict[str, object]]:
    """As in the file."""
    return yaml.safe_load((Path(__file__).parent / "points.yaml").read_text(encoding="utf-8"))


@cache
def prediction(number: int) -> Prediction:
    """Of one point."""
    point = points()[number]
    return Prediction(point, place(_problem(point)))


def _problem(point: dict[str, object]) -> PublishedProblem:
    nodes = int(point.get("nodes", 1))  # type: ignore[call-overload]
    local = int(point["ranks"]) // nodes  # type: ignore[call-overload]
    cluster = load_cluster(str(point["cluster"])).model_copy(update={"devices_per_node": local})
    if point.get("tf32"):
        cluster = cluster.model_copy(update={"fp32_tflops": TF32_TFLOPS})
    run, more = MODELS[str(point["model"])](point)
    kinds = (str(point["sharding"]),) if "sharding" in point else ()
    constraints = Constraints(default=TableConstraints(sharding=kinds), tables=more.pop("tables", {}))  # type: ignore[arg-type]
    return PublishedProblem(
        config=run, cluster=cluster, nodes=nodes, batch_size=int(point["rows"]), sizes=more.pop("sizes", None) or find_sizes(run),  # type: ignore[call-overload]
        constraints=constraints, **more,
    )  # fmt: skip


def _dlrm(point: dict[str, object]) -> tuple[object, dict[str, object]]:
    model = {"kind": "dlrm", "embedding_dim": 128, "bottom": [512, 256], "hidden": [1024, 1024, 512, 256]}
    return config(CRITEO, (1,) * 26, model=model, optimizer={"embedding": {"kind": "sgd"}}), {}


def _lookups(point: dict[str, object]) -> tuple[object, dict[str, object]]:
    run = config(
        CRITEO, (10,) * 26, events=True, optimizer={"embedding": {"kind": "adam"}},
        sharding={"deduplicate": point["deduplicate"]},
    )  # fmt: skip
    dense = counted(lambda rows: SideBySide(), lambda rows: tuple(torch.randn(rows * 10, 128) for _ in CRITEO))
    return run, {"dense_of": dense, "parameters": 0}


def _sparse_nn(point: dict[str, object]) -> tuple[object, dict[str, object]]:
    rows, dims = (*[100_000] * 172, 1_000_000), (*[256] * 170, 512, 128, 2048)
    run = config(rows, (30,) * len(rows), optimizer={"embedding": {"kind": "sgd"}})
    tables = {
        f"c{i}": t.model_copy(update={"embedding_dim": dims[i]}) for i, t in enumerate(run.features.tables.values())
    }
    run = run.model_copy(update={"features": run.features.model_copy(update={"tables": tables})})
    sizes = find_sizes(run, lengths={f"c{i}": 30 for i in range(len(rows))})
    module = OverArch(sum(dims))
    dense = counted(
        lambda n: OverArch(sum(dims)), lambda n: (torch.randn(n, 128), *(torch.randn(n, dim) for dim in dims))
    )
    wide = {f"c{len(rows) - 1}": TableConstraints(sharding=("column_wise",))}
    return run, {"dense_of": dense, "parameters": _count(module), "sizes": sizes, "tables": wide}


def _hstu(point: dict[str, object]) -> tuple[object, dict[str, object]]:
    """50M items of 2,048 events and 50M users; 4,099 tokens a row."""
    run = config(
        (50_000_000, 50_000_000), (2048, 1), events=True, training={"precision": "bf16"},
        optimizer={"embedding": {"kind": "adam"}}, sharding={"deduplicate": point["deduplicate"]},
    )  # fmt: skip
    layer = HSTULayer(1024, 4).bfloat16()
    dense = counted(
        lambda rows: layer,
        lambda rows: (torch.randn(rows, 4099, 1024, dtype=torch.bfloat16),),
        1,
        layers=8,
        causal=True,
    )
    return run, {"dense_of": dense, "parameters": 8 * _count(layer)}


def _dcn_v2(point: dict[str, object]) -> tuple[object, dict[str, object]]:
    model = {
        "kind": "dcnv2",
        "embedding_dim": 128,
        "cross_layers": 3,
        "cross_rank": 512,
        "hidden": [1024, 1024, 512, 256],
    }
    run = config(
        MLPERF, HOT, model=model, training={"precision": "bf16"}, sharding={"communication": "fp16"}, **ADAGRAD
    )
    lengths = {f"c{i}": n for i, n in enumerate(HOT) if n > 1}
    return run, {"sizes": find_sizes(run, lengths=lengths)}


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


MODELS = {"dlrm": _dlrm, "lookups": _lookups, "sparse_nn": _sparse_nn, "hstu": _hstu, "dcn_v2": _dcn_v2}
