"""A run config with pooled and sequence tables, small enough to train here, and clusters of this machine's kind."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from interformer_rec.planning import command
from interformer_rec.planning.arguments import Asked, Output
from interformer_rec.planning.cost.cluster import PUBLISHED, Cluster
from interformer_rec.planning.question import Problem

CONFIG = """
name: small
data: {batch_size: 16}
features:
  tables:
    item: {ids: hash, num_embeddings: 400}
    tag: {ids: hash, num_embeddings: 30}
    user: {ids: hash, num_embeddings: 900, embedding_dim: 16}
    city: {ids: hash, num_embeddings: 50, embedding_dim: 16}
    words: {ids: hash, num_embeddings: 200, embedding_dim: 16}
  ids: [user, city, {name: item_id, table: item}]
  bags: [words]
  dense: [age]
  sequences:
    - {name: clicks, max_length: 12, columns: [{name: item, table: item}, {name: tag, table: tag}]}
    - {name: likes, max_length: 5, columns: [{name: item, column: liked, table: item}]}
  labels: [label]
model: {embedding_dim: 8, d: 8, layers: 1, heads: 2}
"""
GPU = {
    "name": "two-gpus",
    "device": "cuda",
    "devices_per_node": 2,
    "hbm_gib": 16,
    "ddr_gib": 64,
    "hbm_gb_per_s": 1000,
    "ddr_gb_per_s": 100,
    "host_device_gb_per_s": 10,
    "intra_node_gb_per_s": 100,
    "inter_node_gb_per_s": 10,
    "bf16_tflops": 100,
    "fp32_tflops": 10,
}
CPU = {
    "name": "processes",
    "device": "cpu",
    "devices_per_node": 2,
    "ddr_gib": 16,
    "ddr_gb_per_s": 40,
    "intra_node_gb_per_s": 5,
    "inter_node_gb_per_s": 1,
    "bf16_tflops": 0.1,
    "fp32_tflops": 0.1,
}


def cluster(kind: dict[str, object] = GPU, **changes: object) -> Cluster:
    """GPU or CPU with changes; every number's source is this file."""
    numbers = {**kind, **changes}
    sources = {name: "a test" for name in PUBLISHED if numbers.get(name)}
    return Cluster.model_validate({**numbers, "sources": sources})


def problem(
    folder: Path, kind: dict[str, object] = GPU, nodes: int = 1, text: str = CONFIG, **options: object
) -> Problem:
    """The question of CONFIG on a small cluster; `options` as Asked has them, cluster fields under `hardware`."""
    path = folder / "small.yaml"
    path.write_text(text)
    hardware = options.pop("hardware", {})
    asked = Asked(str(path), "", nodes=nodes, **options)  # type: ignore[arg-type]
    return command.question(asked, cluster(kind, **hardware))  # type: ignore[arg-type]


def plan(config: str, cluster: str, **options: object) -> int:
    """As `interformer plan` with the options that Asked and Output have."""
    output = {field.name: options.pop(field.name) for field in fields(Output) if field.name in options}
    return command.plan(Asked(config, cluster, **options), Output(**output))  # type: ignore[arg-type]
