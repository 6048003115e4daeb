"""Plain references of the operators in interformer_rec.ops: loops over samples, obviously right, slow.

Tests and benchmarks compare every other implementation with these.
"""

import math

import torch
from torch import Tensor


def rms_norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * gain."""
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * gain


def rotate(x_THC: Tensor, ages_T: Tensor, base: float) -> Tensor:
    """Tokens' heads, each token turned pair by pair by its age; an age below 0 (CLS) as age 0."""
    out, channels, ages = [], x_THC.shape[-1], ages_T.clamp(min=0).double()[:, None]
    for j in range(0, channels, 2):
        angle = ages * base ** (-j / channels)
        cosine, sine = angle.cos().to(x_THC.dtype), angle.sin().to(x_THC.dtype)
        first, second = x_THC[..., j], x_THC[..., j + 1]
        out += [first * cosine - second * sine, first * sine + second * cosine]
    return torch.stack(out, -1)


def attention(q_THC: Tensor, k_THC: Tensor, v_THC: Tensor, visible_TT: Tensor | None = None) -> Tensor:
    """One sample's tokens: softmax(q k^T / sqrt(C)) v, head by head. `visible`: which key (column) a query (row) sees; None: all."""
    heads = []
    for h in range(q_THC.shape[1]):
        scores = q_THC[:, h] @ k_THC[:, h].T / math.sqrt(q_THC.shape[2])
        scores = scores if visible_TT is None else scores.masked_fill(~visible_TT, -math.inf)
        heads.append(scores.softmax(1) @ v_THC[:, h])
    return torch.stack(heads, 1)


def attention_pool(maps_KD: Tensor, values_ED: Tensor) -> Tensor:
    """One sample's events -> (K, d)."""
    if values_ED.shape[0] == 0:
        return maps_KD * 0
    return (values_ED @ maps_KD.T).softmax(0).T @ values_ED


def ffn(x_TD: Tensor, w1_DR: Tensor, w2_RD: Tensor) -> Tensor:
    """One sample's tokens through its own FFN."""
    return torch.nn.functional.gelu(x_TD @ w1_DR) @ w2_RD


def segment_pool(values_ED: Tensor, mean: bool) -> Tensor:
    """One sample's rows -> (d,)."""
    total = values_ED.sum(0)
    return total / max(values_ED.shape[0], 1) if mean else total
