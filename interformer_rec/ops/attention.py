"""Attention inside each sample of a jagged batch: tokens (J, ...) come in, tokens or pooled vectors go out.

On a GPU the Triton kernels run (library.py). In the plain form padding lives only in here, bucket by bucket: a padded key gets
weight 0 exactly, a padded query is dropped. Legend: J tokens, H heads, C channels a head, T a bucket's width.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from interformer_rec.ops import library
from interformer_rec.ops.backend import KERNEL_IN_GRAPHS, runs, takes_triton
from interformer_rec.ops.jagged import JaggedLayout
from interformer_rec.ops.padding.windowed import windowed_attention
from interformer_rec.ops.rectangle import RectangleLayout, turn, turns
from interformer_rec.ops.rotary import rotary_table, rotate

MOST_TURNS = 1 << 17  # ages that the kernels' table has: max_length may be far more than any history has


class Rotary(NamedTuple):
    """How queries and keys turn by age, for all layers of a batch."""

    base: float
    ages: Tensor  # (J,) below `longest`; CLS tokens: -1
    longest: int
    table: Tensor | None  # rotary.rotary_table for 2 H heads; of a rectangle rectangle.turns; None: the kernels turn


def rotary_of(
    layout: JaggedLayout | RectangleLayout, heads: int, channels: int, base: float, longest: int, like: Tensor
) -> Rotary:
    """The turns of a batch's tokens. `longest`: events of the longest history there can be; older ones would turn as that old."""
    if isinstance(layout, RectangleLayout):
        return Rotary(base, layout.ages, longest + 1, turns(layout.ages, channels, base, like.dtype))
    if takes_triton(like, channels):
        longest = min(longest, MOST_TURNS)
        return Rotary(base, layout.ages.clamp(max=longest), longest + 1, None)
    table = rotary_table(layout.ages, 2 * heads, channels, base, like.dtype)
    return Rotary(base, layout.ages, longest + 1, table)


@runs(**KERNEL_IN_GRAPHS)
def jagged_attention(
    qk_J2HC: Tensor,
    v_JHC: Tensor,
    layout: JaggedLayout | RectangleLayout,
    rotary: Rotary | None = None,
    window: int | None = None,
) -> Tensor:
    """Bidirectional multi-head attention of turned queries and keys, softmax(q k^T / sqrt(C)) v.

    (J, 2, H, C) queries and keys, (J, H, C) values -> (J, H, C); of a rectangle (B, N, ...) in place of (J, ...).
    `window`: a token sees those of its sample at most so many places away, and the CLS tokens; CLS tokens see all. None: all see all.
    """
    if isinstance(layout, RectangleLayout):
        q, k = qk_J2HC.unbind(-3)
        if rotary is not None and rotary.table is not None:
            q, k = turn(q, rotary.table), turn(k, rotary.table)
        return layout.attention(q, k, v_JHC, window)
    if takes_triton(v_JHC, v_JHC.shape[2]):
        ages, longest, base = (None, 1, 1.0) if rotary is None else (rotary.ages, rotary.longest, rotary.base)
        offsets = layout.token_offsets
        return library.jagged_attention(qk_J2HC, v_JHC, offsets, ages, longest, layout.cls, window, base)[0]
    if rotary is not None:
        _, _, heads, channels = qk_J2HC.shape
        table = rotary.table
        if table is None:  # made for the kernels
            table = rotary_table(rotary.ages, 2 * heads, channels, rotary.base, qk_J2HC.dtype)
        qk_J2HC = rotate(qk_J2HC.flatten(1), table).view(qk_J2HC.shape)
    plan, out = layout.buckets, []
    if window is not None and window < max(width for _, width in plan.plan) - 1:
        masks = layout.window_masks(window, v_JHC)
        for qk, v, seen in zip(plan.pad(qk_J2HC), plan.pad(v_JHC), masks, strict=True):
            q, k = qk.unbind(2)
            out.append(windowed_attention(q, k, v, layout.cls, seen))
        return plan.unpad(out)
    for qk, v, mask in zip(plan.pad(qk_J2HC), plan.pad(v_JHC), plan.masks, strict=True):
        q, k = qk.unbind(2)  # (samples, T, H, C)
        keep = None if mask is None else mask[:, None, None, :]
        pooled = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=keep)
        out.append(pooled.transpose(1, 2))
    return plan.unpad(out)


@runs(**KERNEL_IN_GRAPHS)
def attention_pool(maps_KD: Tensor, values_JD: Tensor, layout: JaggedLayout | RectangleLayout) -> Tensor:
    """K weighted sums of each sample's events, weights softmax(maps_K . value): (K, d), (J, d) -> (B, K, d).

    CLS tokens take no part. No event: zeros (and a zero gradient).
    """
    if isinstance(layout, RectangleLayout):
        return layout.attention_pool(maps_KD, values_JD)
    if takes_triton(values_JD, values_JD.shape[1]):
        return library.attention_pool(maps_KD, values_JD, layout.token_offsets, layout.cls)[0]
    pooled = []
    for values, bias in zip(layout.buckets.pad(values_JD), layout.event_bias, strict=True):
        scores = F.linear(values, maps_KD).transpose(1, 2)  # (samples, K, T)
        weights = (scores + bias[:, None].to(scores.dtype)).softmax(-1)
        pooled.append(torch.bmm(weights, values.to(weights.dtype)))
    out = layout.buckets.unbucket(pooled)
    # without an event the softmax is uniform over tokens that take no part
    return out * (layout.lengths > 0)[:, None, None].to(out.dtype)
