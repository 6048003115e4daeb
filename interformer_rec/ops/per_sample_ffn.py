"""Linear maps and FFNs whose weights belong to a sample: every token of a sample passes through that sample's own matrices."""

import torch
import torch.nn.functional as F
from torch import Tensor

from interformer_rec.ops import library
from interformer_rec.ops.backend import KERNEL_IN_GRAPHS, runs, takes_triton
from interformer_rec.ops.jagged import JaggedLayout
from interformer_rec.ops.rectangle import RectangleLayout


@runs()
def per_sample_linear(values_JP: Tensor, weight_BPQ: Tensor, layout: JaggedLayout | RectangleLayout) -> Tensor:
    """(J, p) tokens times their sample's (p, q) matrix -> (J, q)."""
    if isinstance(layout, RectangleLayout):
        return torch.bmm(values_JP, weight_BPQ)
    plan = layout.buckets
    return plan.unpad([torch.bmm(x, w) for x, w in zip(plan.pad(values_JP), plan.bucket(weight_BPQ), strict=True)])


@runs(**KERNEL_IN_GRAPHS)
def per_sample_ffn(values_JD: Tensor, w1_BDR: Tensor, w2_BRD: Tensor, layout: JaggedLayout | RectangleLayout) -> Tensor:
    """gelu(x W1_i) W2_i for the tokens x of sample i: (J, d), (B, d, r), (B, r, d) -> (J, d), in the weights' dtype."""
    if isinstance(layout, RectangleLayout):
        return torch.bmm(F.gelu(torch.bmm(values_JD, w1_BDR)), w2_BRD)
    if takes_triton(w1_BDR, values_JD.shape[1]):
        values = values_JD.to(w1_BDR.dtype)  # under autocast the weights are half precision, the tokens may not be
        return library.per_sample_ffn(values, w1_BDR, w2_BRD, layout.token_offsets)
    plan = layout.buckets
    parts = zip(plan.pad(values_JD), plan.bucket(w1_BDR), plan.bucket(w2_BRD), strict=True)
    return plan.unpad([torch.bmm(F.gelu(torch.bmm(x, w1)), w2) for x, w1, w2 in parts])
