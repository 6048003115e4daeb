"""Pooling of jagged vectors: (E, d) values of B samples -> (B, d)."""

from typing import Any, Literal

import torch
from torch import Tensor

from interformer_rec.ops.backend import IN_GRAPHS, runs
from interformer_rec.ops.rectangle import RectangleLayout, masked


class _SegmentSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, segments: Tensor, total: int) -> Tensor:
        ctx.save_for_backward(segments)
        return values.new_zeros(total, *values.shape[1:]).index_add_(0, segments, values)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (segments,) = ctx.saved_tensors
        return grad.index_select(0, segments), None, None


@runs(**IN_GRAPHS)
def segment_pool(values_ED: Tensor, lengths_B: Tensor, pooling: Literal["sum", "mean"]) -> Tensor:
    """Sum or mean of each sample's `lengths[i]` consecutive rows; zeros where it has none. (B, T, d): of a rectangle."""
    lengths = lengths_B.to(torch.int64)
    if values_ED.ndim == 3:
        layout = RectangleLayout(lengths[:, None], values_ED.shape[1:2], 0)
        return layout.mean(values_ED) if pooling == "mean" else masked(values_ED, layout.is_event).sum(1)
    samples = torch.arange(lengths.numel(), device=lengths.device)
    segments = samples.repeat_interleave(lengths, output_size=values_ED.shape[0])
    pooled = _SegmentSum.apply(values_ED, segments, lengths.numel())
    return pooled if pooling == "sum" else pooled / lengths.clamp(min=1)[:, None].to(pooled.dtype)
