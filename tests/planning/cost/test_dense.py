"""Counted against measured: what autograd really keeps and torch really multiplies on this CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from interformer_rec.config.run import load
from interformer_rec.model.task import build_task
from interformer_rec.planning.cost.dense import dense_cost
from interformer_rec.planning.cost.sizes import Lengths, Sizes
from tests.planning.measure import batch_of, operators, saved_bytes

CONFIGS = Path(__file__).parents[3] / "configs"
ROWS = 48
CASES = [
    ("kuairand_pure", []),
    ("kuairand_pure", ["model.preset=paper", "model.layers=2"]),
    ("kuairand_pure", ["model.sequence.merge=separate", "model.summary.pma_tokens=0"]),
    ("kuairand_pure", ["model.interaction.kind=wukong", "model.dropout=0", "optimizer.embedding.l2=0"]),
    ("kuairand_pure", ["model.split=true", "model.layers=2"]),
    ("kuairand_pure", ["model.embedding_sets=1"]),
    ("synthetic", ["model.layers=3", "model.d=64", "model.sequence.pffn=appendix", "model.interaction.merge=concat"]),
    ("synthetic", ["model.sequence.pffn=gdpa", "model.sequence.pffn_rank=24"]),
    ("synthetic", ["model.heads=4"]),
    ("synthetic", ["features.sequences.0.max_length=400", "features.sequences.1.max_length=300"]),
    ("ml_100k", ["model.interaction.kind=dcn", "model.interaction.dcn_layers=2"]),
]


def case(name: str, overrides: list[str]):
    config = load(CONFIGS / f"{name}.yaml", overrides)
    lengths = {}
    for group in config.features.sequences:
        longest = group.max_length
        lengths[group.name] = Lengths(0.4 * longest, 0.3 * longest, 0.95 * longest, longest, longest, 0.1)
    lengths |= {bag.name: Lengths(1.5, 1, 3, 3, 3, 0.1) for bag in config.features.bags}
    rows = dict.fromkeys(config.features.tables, 50)
    rows |= (
        {"video": 500_000} if "video" in rows else {}
    )  # drawn histories then share no event: what is counted for merge: union
    sizes = Sizes(rows, lengths)
    l2 = config.optimizer.embedding.l2 > 0
    return config, sizes, dense_cost(config.features, config.model, sizes, ROWS, config.training.precision, l2)


@pytest.mark.parametrize("name, overrides", CASES)
def test_activations_are_what_autograd_keeps(name, overrides):
    config, sizes, cost = case(name, overrides)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        measured, _ = saved_bytes(config, sizes, ROWS)
    assert cost.activation_bytes == pytest.approx(measured, rel=0.05)


def test_bf16_activations():
    """Within 20% only: on a CPU, torch composes rms_norm in bf16 of many passes and keeps more; on CUDA it is one kernel."""
    config, sizes, cost = case("kuairand_pure", ["training.precision=bf16"])
    measured, _ = saved_bytes(config, sizes, ROWS)
    parameters = sum(p.numel() for p in build_task(config.features, config.model, sizes.rows).model.parameters())
    assert cost.activation_bytes == pytest.approx(measured - 2 * parameters, rel=0.2)


@pytest.mark.parametrize("name, overrides", CASES[1:8])
def test_flops_are_those_of_torchs_counter(name, overrides):
    config, sizes, cost = case(name, overrides)
    with sdpa_kernel(SDPBackend.MATH):  # the counter does not know the CPU's flash attention
        _, measured = saved_bytes(config, sizes, ROWS)
    assert sum(cost.forward_flops.values()) == pytest.approx(measured, rel=0.05)
    assert cost.flops == 3 * sum(cost.forward_flops.values())


@pytest.mark.parametrize("name, overrides", [CASES[0], CASES[2], CASES[4], CASES[5], CASES[8]])
def test_operators_are_about_as_many(name, overrides):
    config, sizes, cost = case(name, overrides)
    torch.manual_seed(0)
    task = build_task(config.features, config.model, sizes.rows, device=torch.device("cpu"))
    assert cost.kernels == pytest.approx(operators(task, batch_of(config, sizes, ROWS)), rel=0.25)


def test_twice_the_rows_is_twice_the_cost_and_longer_histories_cost_more():
    config, sizes, once = case("ml_100k", [])
    twice = dense_cost(config.features, config.model, sizes, 2 * ROWS, "fp32", True)
    assert twice.activation_bytes == pytest.approx(2 * once.activation_bytes, rel=0.05)
    longer = Sizes(sizes.rows, sizes.lengths | {"hist": Lengths.constant(50)})
    assert (
        dense_cost(config.features, config.model, longer, ROWS, "fp32", True).activation_bytes > once.activation_bytes
    )
