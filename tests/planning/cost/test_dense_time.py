"""Attention's time, by device: measured shares of the matmul rate."""

from __future__ import annotations

import pytest

from interformer_rec.planning.cost.cluster import load_cluster
from interformer_rec.planning.cost.counter import Product
from interformer_rec.planning.cost.dense import DenseCost
from interformer_rec.planning.cost.dense_time import dense_time

# torch's scaled_dot_product_attention on one thread of an EPYC, T = 1,024: channels a head, share of the measured matmul rate
MEASURED = [(8, 0.207), (16, 0.388), (32, 0.568), (64, 0.695)]


def attention(head_dim: int) -> DenseCost:
    return DenseCost({}, {}, 0, 0, 0, (Product(1e12, 1.0, head_dim),))


@pytest.mark.parametrize("channels, share", MEASURED)
def test_narrow_heads_on_a_cpu_take_what_was_measured(channels: int, share: float) -> None:
    cpu = load_cluster("cpu")
    whole = 1e12 / (cpu.fp32_tflops * cpu.efficiency.matmul * 1e9)
    forward, backward = dense_time(attention(channels), cpu, "fp32")
    assert forward == pytest.approx(whole / share, rel=0.2)
    assert 1.8 <= backward / forward <= 2.6


def test_a_gpus_backward_pass_has_two_and_a_half_times_the_products() -> None:
    gpu = load_cluster("dgx-h100")
    forward, backward = dense_time(attention(64), gpu, "bf16")
    assert backward / forward == pytest.approx(2.5 / 0.75)
    assert dense_time(attention(32), gpu, "bf16")[0] == pytest.approx(2 * forward)
