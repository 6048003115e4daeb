"""Milliseconds of the dense part. In: its DenseCost and a Cluster; out: parts of the forward pass, both passes, the dense optimizer.

Every matrix product takes as long as its FLOPs at the matmul rate or its bytes through memory, whichever is longer; other operators take
their bytes. A GPU computes while the next operators are started, so a pass takes the longer of computing and starting; a CPU does one
after the other. The backward pass has two products for each, an attention's two and a half times as many FLOPs.
"""

from dataclasses import replace

from interformer_rec.planning.cost.cluster import BYTES_PER_MS, Cluster
from interformer_rec.planning.cost.counter import Product
from interformer_rec.planning.cost.dense import DenseCost, DenseCosts

BACKWARD, MOVED_BACKWARD = 2.0, 1.5  # over the forward pass
# Of the matmul rate in attention: softmax is in between; heads narrower than this fill its tiles in part only. Backward: two and a
# half times the FLOPs, at three quarters of the rate (FlashAttention-3: 740 TFLOP/s forward, about 550 backward).
ATTENTION, FULL_HEAD, ATTENTION_BACKWARD = 0.8, 64, 2.5 / 0.75
# On a CPU a pair's softmax takes as long as the products of so many channels, and the backward pass twice the forward's time (torch's
# scaled_dot_product_attention on one thread of an EPYC, heads of 8 to 64 channels, T = 1,024: 0.21 to 0.70 of the matmul rate, 1.9 to 2.5).
SOFTMAX, CPU_ATTENTION_BACKWARD = 25, 2.0
ADAM = 32  # bytes a number: weight, gradient and two moments read, three of them written, the gradient set to zero
AVERAGE = 12  # and of the moving average
OPTIMIZER_KERNELS = 12  # torch's foreach form of Adam, whatever the number of tensors


def dense_parts(dense: DenseCost, cluster: Cluster, precision: str) -> tuple[float, float, float]:
    """Milliseconds of matrix products, of other operators' bytes and of starting operators, in a forward pass."""
    products = sum(_product(product, cluster, precision, 1.0) for product in dense.products)
    return products, dense.moved / _memory(cluster), launch_ms(cluster, dense.forward_kernels)


def dense_time(dense: DenseCost, cluster: Cluster, precision: str) -> tuple[float, float]:
    """Forward and backward pass, ms."""
    products, moved, started = dense_parts(dense, cluster, precision)
    attention = CPU_ATTENTION_BACKWARD if cluster.device == "cpu" else ATTENTION_BACKWARD
    back = sum(_product(p, cluster, precision, attention if p.head_dim else BACKWARD) for p in dense.products)
    forward, backward = products + moved, back + MOVED_BACKWARD * moved
    backward += dense.repeated * forward
    again = launch_ms(cluster, dense.backward_kernels)
    factor = cluster.efficiency.backward
    if cluster.device == "cpu":
        return forward + started, factor * (backward + again)
    return max(forward, started), factor * max(backward, again)


def optimizer_ms(parameters: int, averaged: bool, cluster: Cluster) -> float:
    """Adam on the dense part, and its moving average."""
    moved = parameters * (ADAM + AVERAGE * averaged) / _memory(cluster)
    started = launch_ms(cluster, OPTIMIZER_KERNELS)
    return moved + started if cluster.device == "cpu" else max(moved, started)


def launch_ms(cluster: Cluster, kernels: int) -> float:
    """To start so many operators."""
    return kernels * cluster.efficiency.launch_us / 1000


def _memory(cluster: Cluster) -> float:
    """Bytes a millisecond."""
    bandwidth = cluster.hbm_gb_per_s or cluster.ddr_gb_per_s / cluster.devices_per_node
    return bandwidth * cluster.efficiency.tensors * BYTES_PER_MS


def _product(product: Product, cluster: Cluster, precision: str, times: float) -> float:
    rate = (cluster.bf16_tflops if precision == "bf16" else cluster.fp32_tflops) * cluster.efficiency.matmul * 1e9
    if product.head_dim and cluster.device == "cpu":
        rate *= product.head_dim / (product.head_dim + SOFTMAX)
    elif product.head_dim:
        rate *= ATTENTION * min(1.0, product.head_dim / FULL_HEAD)
    return times * max(product.flops / rate, product.bytes / _memory(cluster))


def in_microbatches(costs: DenseCosts, rows: int, count: int) -> DenseCost:
    """Of a batch of `rows` rows whose dense part runs in `count` parts: one part's activations, and the gradients of all vectors."""
    if count == 1:
        return costs.of(rows)
    part, whole = costs.of(-(-rows // count)), costs.looked_up(rows)
    return replace(
        part,
        activations={**part.activations, "gradients of the vectors": whole},
        forward_flops={block: flops * count for block, flops in part.forward_flops.items()},
        looked_up=whole,
        forward_kernels=part.forward_kernels * count,
        backward_kernels=part.backward_kernels * count,
        products=part.products * count,
        moved=part.moved * count,
    )
