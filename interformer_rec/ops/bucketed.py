"""What library.py runs where there is no Triton: jagged tensors come in, outputs go out, and hand-written gradients.

Inside a torch.library operator autograd records nothing, so the backward is written out here. Samples of similar length are
padded together, as in attention.py and per_sample_ffn.py. The layout is made from the offsets at each call: code that has a
JaggedLayout is faster with the plain operators.
Legend: n samples of a bucket, T its width, H heads, C channels a head, K maps, d, r widths.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from interformer_rec.ops.jagged import JaggedLayout
from interformer_rec.ops.norm import rms_norm
from interformer_rec.ops.rotary import rotary_table, rotate

Gains = tuple[Tensor, Tensor] | None


def layout_of(offsets_B1: Tensor, cls: int) -> JaggedLayout:
    """The layout of samples with `cls` CLS tokens each, CLS tokens counted in the offsets."""
    return JaggedLayout(offsets_B1.diff() - cls, cls)


def pad_with_zeros(layout: JaggedLayout, values_J: Tensor) -> list[Tensor]:
    """(n, T, ...) a bucket; `Buckets.pad` repeats tokens in the padding, which sums over tokens must not see."""
    pairs = zip(layout.buckets.pad(values_J), layout.buckets.masks, strict=True)
    return [x if mask is None else x * mask.view(*mask.shape, *[1] * (x.dim() - 2)).to(x.dtype) for x, mask in pairs]


def _turn(qk_J2HC: Tensor, ages_J: Tensor | None, base: float, back: bool) -> Tensor:
    if ages_J is None:
        return qk_J2HC
    _, _, heads, channels = qk_J2HC.shape
    dtype = torch.float64 if qk_J2HC.dtype == torch.float64 else torch.float32
    table = rotary_table(ages_J, 2 * heads, channels, base, dtype)
    return rotate(qk_J2HC.flatten(1), table.conj() if back else table).view(qk_J2HC.shape)


def _weights(qk_nT2HC: Tensor, mask_nT: Tensor | None, cls: int, window: int | None) -> Tensor:
    """softmax over the keys that a query sees: (n, H, T, T)."""
    q, k = (x.transpose(1, 2) for x in qk_nT2HC.unbind(2))
    scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
    if window is not None:
        place = torch.arange(q.shape[2], device=q.device)
        near = (place[:, None] - place).abs() <= window
        scores = scores.masked_fill(~(near | (place < cls) | (place < cls)[:, None]), -math.inf)
    if mask_nT is not None:
        scores = scores.masked_fill(~mask_nT[:, None, None, :], -math.inf)
    # a padded query whose window holds no key at all: its NaN is dropped with it, but must not reach the sums over queries
    return scores.softmax(-1).nan_to_num(0.0)


def attention(
    qk_J2HC: Tensor,
    v_JHC: Tensor,
    offsets_B1: Tensor,
    ages_J: Tensor | None,
    gate_JHC: Tensor | None,
    *,
    cls: int,
    window: int | None,
    base: float,
) -> Tensor:
    """(J, H, C); what is computed is written in triton/attention/forward.py."""
    layout = layout_of(offsets_B1, cls)
    out = []
    turned = _turn(qk_J2HC, ages_J, base, False)
    for qk, v, mask in zip(layout.buckets.pad(turned), layout.buckets.pad(v_JHC), layout.buckets.masks, strict=True):
        out.append((_weights(qk, mask, cls, window) @ v.transpose(1, 2)).transpose(1, 2))
    joined = layout.buckets.unpad(out)
    return joined if gate_JHC is None else joined * gate_JHC.sigmoid()


def attention_backward(
    grad_JHC: Tensor,
    qk_J2HC: Tensor,
    v_JHC: Tensor,
    offsets_B1: Tensor,
    ages_J: Tensor | None,
    gate_JHC: Tensor | None,
    out_JHC: Tensor,
    *,
    cls: int,
    window: int | None,
    base: float,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of queries and keys (J, 2, H, C), values (J, H, C) and the gate."""
    layout = layout_of(offsets_B1, cls)
    grad_gate = None
    if gate_JHC is not None:
        opened = gate_JHC.sigmoid()
        grad_gate = grad_JHC * out_JHC * (1 - opened)
        grad_JHC = grad_JHC * opened
    padded = zip(
        *(
            layout.buckets.pad(_turn(qk_J2HC, ages_J, base, False)),
            layout.buckets.pad(v_JHC),
            pad_with_zeros(layout, grad_JHC),
        ),
        layout.buckets.masks,
        strict=True,
    )
    grads_qk, grads_v = [], []
    for qk, v, grad, mask in padded:
        q, k = (x.transpose(1, 2) for x in qk.unbind(2))
        weights, grad = _weights(qk, mask, cls, window), grad.transpose(1, 2)
        grad_weights = grad @ v.transpose(1, 2).transpose(2, 3)
        grad_scores = weights * (grad_weights - (grad_weights * weights).sum(-1, keepdim=True)) / math.sqrt(q.shape[-1])
        both = torch.stack([grad_scores @ k, grad_scores.transpose(2, 3) @ q], 1)  # (n, 2, H, T, C)
        grads_qk.append(both.permute(0, 3, 1, 2, 4))
        grads_v.append((weights.transpose(2, 3) @ grad).transpose(1, 2))
    return (
        _turn(layout.buckets.unpad(grads_qk).contiguous(), ages_J, base, True),
        layout.buckets.unpad(grads_v),
        grad_gate,
    )


def pool_events(maps_KD: Tensor, values_JD: Tensor, layout: JaggedLayout) -> Tensor:
    """(K, d), (J, d) -> (B, K, d), of operators that autograd knows: ops.attention.attention_pool."""
    pooled = []
    for values, bias in zip(layout.buckets.pad(values_JD), layout.event_bias, strict=True):
        scores = F.linear(values, maps_KD).transpose(1, 2)  # (samples, K, T)
        weights = (scores + bias[:, None].to(scores.dtype)).softmax(-1)
        pooled.append(torch.bmm(weights, values.to(weights.dtype)))
    out = layout.buckets.unbucket(pooled)
    # without an event the softmax is uniform over tokens that take no part
    return out * (layout.lengths > 0)[:, None, None].to(out.dtype)


def pool(maps_KD: Tensor, values_JD: Tensor, offsets_B1: Tensor, *, cls: int) -> Tensor:
    """(B, K, d): ops.attention.attention_pool."""
    return pool_events(maps_KD, values_JD, layout_of(offsets_B1, cls))


def pool_backward(
    grad_BKD: Tensor, maps_KD: Tensor, values_JD: Tensor, offsets_B1: Tensor, *, cls: int
) -> tuple[Tensor, Tensor]:
    """Gradients of the maps (K, d) and the values (J, d)."""
    layout = layout_of(offsets_B1, cls)
    grad_BKD = grad_BKD * (layout.lengths > 0)[:, None, None].to(grad_BKD.dtype)
    grad_maps, grads = torch.zeros_like(maps_KD), []
    for values, bias, grad in zip(
        layout.buckets.pad(values_JD), layout.event_bias, layout.buckets.bucket(grad_BKD), strict=True
    ):
        scores = F.linear(values, maps_KD).transpose(1, 2)
        weights = (scores + bias[:, None].to(scores.dtype)).softmax(-1)  # (n, K, T)
        grad_weights = grad @ values.transpose(1, 2)
        grad_scores = weights * (grad_weights - (grad_weights * weights).sum(-1, keepdim=True))
        grads.append(weights.transpose(1, 2) @ grad + grad_scores.transpose(1, 2) @ maps_KD)
        grad_maps += torch.einsum("nkt,ntd->kd", grad_scores, values)
    return grad_maps, layout.buckets.unpad(grads)


def _norm_backward(grad: Tensor, x: Tensor, gain: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Gradients of RMSNorm's rows (..., d) and gain (d,)."""
    scale = (x.square().mean(-1, keepdim=True) + eps).rsqrt()
    grad_gain = (grad * x * scale).flatten(0, -2).sum(0)
    grad = grad * gain
    return scale * (grad - x * scale.square() * (grad * x).mean(-1, keepdim=True)), grad_gain


def ffn(
    values_JD: Tensor, w1_BDR: Tensor, w2_BRD: Tensor, offsets_B1: Tensor, gains: Gains, *, cls: int, eps: float
) -> Tensor:
    """(J, d), without the residual; what is computed is written in triton/per_sample_ffn/forward.py."""
    layout, out = layout_of(offsets_B1, cls), []
    for x, w1, w2 in zip(
        layout.buckets.pad(values_JD), layout.buckets.bucket(w1_BDR), layout.buckets.bucket(w2_BRD), strict=True
    ):
        inner = F.gelu(x @ w1)
        z = (inner if gains is None else rms_norm(inner, gains[0], eps)) @ w2
        out.append(z if gains is None else rms_norm(z, gains[1], eps))
    return layout.buckets.unpad(out)


def ffn_backward(
    grad_JD: Tensor,
    values_JD: Tensor,
    w1_BDR: Tensor,
    w2_BRD: Tensor,
    offsets_B1: Tensor,
    gains: Gains,
    *,
    cls: int,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Gains]:
    """Gradients of the values (J, d), W1 (B, d, r), W2 (B, r, d) and the gains."""
    layout = layout_of(offsets_B1, cls)
    weights = zip(layout.buckets.bucket(w1_BDR), layout.buckets.bucket(w2_BRD), strict=True)
    tokens = zip(pad_with_zeros(layout, values_JD), pad_with_zeros(layout, grad_JD), strict=True)
    grads: tuple[list[Tensor], ...] = ([], [], [])
    grad_gains = None if gains is None else (torch.zeros_like(gains[0]), torch.zeros_like(gains[1]))
    for (x, grad), (w1, w2) in zip(tokens, weights, strict=True):
        before = x @ w1
        after = F.gelu(before)
        inner = after if gains is None else rms_norm(after, gains[0], eps)
        if gains is not None and grad_gains is not None:
            grad, part = _norm_backward(grad, inner @ w2, gains[1], eps)
            grad_gains[1].add_(part)
        grad_after = grad @ w2.transpose(1, 2)
        grads[2].append(inner.transpose(1, 2) @ grad)
        if gains is not None and grad_gains is not None:
            grad_after, part = _norm_backward(grad_after, after, gains[0], eps)
            grad_gains[0].add_(part)
        grad_before = torch.ops.aten.gelu_backward(grad_after, before)
        grads[0].append(grad_before @ w1.transpose(1, 2))
        grads[1].append(x.transpose(1, 2) @ grad_before)
    return (
        layout.buckets.unpad(grads[0]),
        layout.buckets.unbucket(grads[1]),
        layout.buckets.unbucket(grads[2]),
        grad_gains,
    )
