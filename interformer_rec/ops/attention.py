"""Attention inside each sample of a jagged batch: tokens (J, ...) come in, tokens or pooled vectors go out.

Padding lives only in here, bucket by bucket. A padded key gets weight 0 exactly; a padded query is dropped.
Legend: J tokens, H heads, C channels a head, T a bucket's width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from interformer_rec.ops.jagged import JaggedLayout


def jagged_attention(qk_J2HC: Tensor, v_JHC: Tensor, layout: JaggedLayout) -> Tensor:
    """Bidirectional multi-head attention, softmax(q k^T / sqrt(C)) v: (J, 2, H, C) queries and keys, (J, H, C) -> (J, H, C)."""
    out = []
    for qk, v, mask in zip(layout.pad(qk_J2HC), layout.pad(v_JHC), layout.masks, strict=True):
        q, k = qk.unbind(2)  # (samples, T, H, C)
        keep = None if mask is None else mask[:, None, None, :]
        pooled = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=keep)
        out.append(pooled.transpose(1, 2))
    return layout.unpad(out)


def attention_pool(maps_KD: Tensor, values_JD: Tensor, layout: JaggedLayout) -> Tensor:
    """K weighted sums of each sample's events, weights softmax(maps_K . value): (K, d), (J, d) -> (B, K, d).

    CLS tokens take no part. No event: zeros (and a zero gradient).
    """
    pooled = []
    for values, bias in zip(layout.pad(values_JD), layout.event_bias, strict=True):
        scores = F.linear(values, maps_KD).transpose(1, 2)  # (samples, K, T)
        weights = (scores + bias[:, None].to(scores.dtype)).softmax(-1)
        pooled.append(torch.bmm(weights, values.to(weights.dtype)))
    out = layout.unbucket(pooled)
    # without an event the softmax is uniform over tokens that take no part
    return out * (layout.lengths > 0)[:, None, None].to(out.dtype)
