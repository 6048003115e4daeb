"""PMA pooling, per-sample FFN, CLS prepend and summary: a shape comes in, ours and what else there is goes out.

Legend: J tokens of B samples, E events, T the longest sample, K maps, d channels, r inner width.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.kernels import reference
from benchmarks.kernels.case import CLS, Alternative, Case, Padded, Shape, compiled, fbgemm, ours, sample_pieces
from interformer_rec.ops.attention import attention_pool
from interformer_rec.ops.per_sample_ffn import per_sample_ffn

MAPS = 8  # PMA's queries times heads, as the model's default has about
RECENT = 4


def pool(shape: Shape) -> Case:
    """K weighted sums of each sample's events: (K, d) and (J, d) -> (B, K, d)."""
    layout, d = shape.layout, shape.d
    leaves = [shape.normal(MAPS, d, scale=d**-0.5), shape.normal(layout.total, d)]
    padded = Padded(layout.tokens)
    hidden = -1e4  # a CLS token's score; finite in float16
    bias = (layout.position < CLS).to(shape.dtype)[:, None] * hidden  # (J, 1)
    padded_bias = padded.of(bias, "tokens").masked_fill(~padded.mask[..., None], hidden)
    events = (layout.lengths > 0)[:, None, None].to(shape.dtype)

    def padded_pool(maps: Tensor, values: Tensor) -> Tensor:
        weights = (F.linear(values, maps) + padded_bias).softmax(1)
        return torch.bmm(weights.transpose(1, 2), values) * events

    def jagged_softmax() -> Alternative:
        ops, offsets = fbgemm(), layout.token_offsets

        def run(maps: Tensor, values: Tensor) -> Tensor:
            weights = ops.jagged_softmax(F.linear(values, maps) + bias, offsets, padded.width)[0]
            return ops.jagged_jagged_bmm(weights, values, offsets, padded.width) * events

        return Alternative(run)

    found = ours(shape, lambda maps, values: attention_pool(maps, values, layout))
    found["padded"] = lambda: Alternative(padded_pool, padded)
    found["padded, compiled"] = lambda: Alternative(compiled(padded_pool), padded)
    found["FBGEMM jagged"] = jagged_softmax
    size = layout.total * d * leaves[0].element_size()
    pooled = layout.batch_size * MAPS * d * leaves[0].element_size()
    return Case(
        leaves=leaves,
        kinds=["shared", "tokens"],
        out_kind="samples",
        reference=lambda maps, values: reference.attention_pool(maps, values[CLS:])[None],
        pieces=sample_pieces(layout),
        alternatives=found,
        flops=4.0 * MAPS * layout.total * d,
        bytes_forward=size + pooled,
        bytes_step=3 * size + 3 * pooled,  # backward: values and the output's gradient in, the values' gradient out
        bound="copy",
    )


def ffn(shape: Shape) -> Case:
    """gelu(x W1_i) W2_i: (J, d), (B, d, r), (B, r, d) -> (J, d)."""
    layout, d, r = shape.layout, shape.d, shape.rank
    count = layout.batch_size
    leaves = [shape.normal(layout.total, d), shape.normal(count, d, r, scale=d**-0.5)]
    leaves.append(shape.normal(count, r, d, scale=r**-0.5))

    def inner(product: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
        """The FFN with its two products made by `product`."""
        return lambda x, w1, w2: product(F.gelu(product(x, w1)), w2)

    found = ours(shape, lambda x, w1, w2: per_sample_ffn(x, w1, w2, layout))
    padded = Padded(layout.tokens)
    found["padded bmm"] = lambda: Alternative(inner(torch.bmm), padded)
    found["padded bmm, compiled"] = lambda: Alternative(compiled(inner(torch.bmm)), padded)
    found["FBGEMM jagged_dense_bmm"] = lambda: Alternative(inner(_jagged_dense_bmm(shape, padded.width)))
    if shape.device.type != "cuda" or shape.dtype == torch.bfloat16:  # all it takes there
        found["grouped_mm"] = lambda: Alternative(inner(_grouped_mm(shape)))
    size, weights = layout.total * d * leaves[0].element_size(), 2 * count * d * r * leaves[0].element_size()
    return Case(
        leaves=leaves,
        kinds=["tokens", "samples", "samples"],
        out_kind="tokens",
        reference=lambda x, w1, w2: reference.ffn(x, w1[0], w2[0]),
        pieces=sample_pieces(layout),
        alternatives=found,
        flops=4.0 * layout.total * d * r,
        bytes_forward=2 * size + weights,
        bytes_step=5 * size + 3 * weights,
        bound="matmul",
    )


def _jagged_dense_bmm(shape: Shape, longest: int) -> Callable[[Tensor, Tensor], Tensor]:
    ops, offsets = fbgemm(), shape.layout.token_offsets
    return lambda x, w: ops.jagged_dense_bmm(x, offsets, w, longest)[0]


def _grouped_mm(shape: Shape) -> Callable[[Tensor, Tensor], Tensor]:
    """torch's grouped product, a group a sample."""
    ends = shape.layout.token_offsets[1:].int()
    return lambda x, w: F.grouped_mm(x, w, offs=ends)


def prepend(shape: Shape) -> Case:
    """CLS tokens (B, c, d) before each sample's events (E, d) -> (J, d)."""
    layout, d = shape.layout, shape.d
    leaves = [shape.normal(layout.batch_size, CLS, d), shape.normal(int(layout.lengths.sum()), d)]
    found = ours(shape, layout.prepend)
    size = layout.total * d * leaves[0].element_size()
    return Case(
        leaves=leaves,
        kinds=["samples", "events"],
        out_kind="tokens",
        reference=lambda cls, events: torch.cat([cls[0], events]),
        pieces=sample_pieces(layout),
        alternatives=found,
        flops=0.0,
        bytes_forward=2 * size,
        bytes_step=4 * size,
        bound="copy",
    )


def summary(shape: Shape) -> Case:
    """A sample's CLS tokens and its newest events: (J, d) -> (B, c + K, d), zeros where it has fewer."""
    layout, d = shape.layout, shape.d
    leaves = [shape.normal(layout.total, d)]

    def plain(values: Tensor) -> Tensor:
        taken = values[CLS:].flip(0)[:RECENT]
        return F.pad(torch.cat([values[:CLS], taken]), (0, 0, 0, RECENT - len(taken)))[None]

    row = d * leaves[0].element_size()
    out = layout.batch_size * (CLS + RECENT) * row
    return Case(
        leaves=leaves,
        kinds=["tokens"],
        out_kind="samples",
        reference=plain,
        pieces=sample_pieces(layout),
        alternatives=ours(shape, lambda values: layout.take_summary(values, RECENT)),
        flops=0.0,
        bytes_forward=2 * out,
        bytes_step=3 * out + layout.total * row,
        bound="copy",
    )
