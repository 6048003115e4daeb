"""Linear maps and FFNs whose weights belong to a sample: every token of a sample passes through that sample's own matrices."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from interformer_rec.ops.jagged import JaggedLayout


def per_sample_linear(values_JP: Tensor, weight_BPQ: Tensor, layout: JaggedLayout) -> Tensor:
    """(J, p) tokens times their sample's (p, q) matrix -> (J, q)."""
    return layout.unpad(
        [torch.bmm(x, w) for x, w in zip(layout.pad(values_JP), layout.bucket(weight_BPQ), strict=True)],
    )


def per_sample_ffn(values_JD: Tensor, w1_BDR: Tensor, w2_BRD: Tensor, layout: JaggedLayout) -> Tensor:
    """gelu(x W1_i) W2_i for the tokens x of sample i: (J, d), (B, d, r), (B, r, d) -> (J, d)."""
    parts = zip(layout.pad(values_JD), layout.bucket(w1_BDR), layout.bucket(w2_BRD), strict=True)
    return layout.unpad([torch.bmm(F.gelu(torch.bmm(x, w1)), w2) for x, w1, w2 in parts])
