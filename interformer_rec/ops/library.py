"""The jagged operators as torch.library operators: plain tensors and numbers come in, tensors go out, under torch.compile and export.

    torch.ops.interformer.jagged_attention     rotary, windowed attention inside each sample
    torch.ops.interformer.attention_pool       PMA's weighted sums of each sample's events
    torch.ops.interformer.per_sample_ffn       each sample's own FFN over its tokens

They run the Triton kernels: on CUDA, and on a CPU in Triton's interpreter. A graph holds one node whatever the number J of tokens.
`offsets` (B + 1,) count tokens, a sample's first `cls` tokens are its CLS tokens. Import this module to have them.
"""

from typing import Any

import torch
from torch import Tensor

from interformer_rec.errors import InputError
from interformer_rec.ops.backend import HAS_TRITON, KERNEL_IN_GRAPHS, MISSING, runs

if HAS_TRITON:
    from interformer_rec.ops.triton import pooling as triton_pooling
    from interformer_rec.ops.triton.attention import operator as triton_attention
    from interformer_rec.ops.triton.per_sample_ffn import backward as triton_ffn_backward
    from interformer_rec.ops.triton.per_sample_ffn import forward as triton_ffn

_ATTENTION = "Tensor qk, Tensor v, Tensor offsets, Tensor? ages, SymInt max_length, int cls, int? window, float base"
_FFN = "Tensor values, Tensor w1, Tensor w2, Tensor offsets"


def _require_triton() -> None:
    if not HAS_TRITON:
        raise InputError(MISSING)


@runs(plain=False, **KERNEL_IN_GRAPHS)
@torch.library.custom_op(
    "interformer::jagged_attention", mutates_args=(), schema=f"({_ATTENTION}) -> (Tensor, Tensor, Tensor)"
)
def jagged_attention(qk, v, offsets, ages, max_length, cls, window, base):  # type: ignore[no-untyped-def]
    """(J, 2, H, C), (J, H, C) -> output (J, H, C), and two tensors that only the backward reads.

    `ages` (J,) or None: rotary positions, below `max_length`; `window` None: all see all.
    """
    _require_triton()
    form = triton_attention.Form(cls, window, max_length, base)
    out, lse, turned = triton_attention.jagged_attention_forward(qk, v, offsets, ages, form)
    # an operator returns tensors only, and none that it was given: an empty one stands for queries and keys that did not turn
    return out, lse, v.new_empty(0) if ages is None else turned


@jagged_attention.register_fake
def _(qk, v, offsets, ages, max_length, cls, window, base):  # type: ignore[no-untyped-def]
    rows, heads, _ = v.shape
    lse = v.new_empty((heads, rows), dtype=torch.float32)
    return v.new_empty(v.shape), lse, v.new_empty((0,) if ages is None else qk.shape)


@torch.library.custom_op(
    "interformer::jagged_attention_backward",
    mutates_args=(),
    schema=f"(Tensor grad, {_ATTENTION}, Tensor out, Tensor lse, Tensor turned) -> (Tensor, Tensor)",
)
def jagged_attention_backward(grad, qk, v, offsets, ages, max_length, cls, window, base, out, lse, turned):  # type: ignore[no-untyped-def]
    """Gradients of qk and v."""
    _require_triton()
    form = triton_attention.Form(cls, window, max_length, base)
    read = qk if ages is None else turned
    return triton_attention.jagged_attention_backward(grad, read, v, offsets, ages, out, lse, form)


@jagged_attention_backward.register_fake
def _(grad, qk, v, offsets, ages, max_length, cls, window, base, out, lse, turned):  # type: ignore[no-untyped-def]
    return qk.new_empty(qk.shape), v.new_empty(v.shape)


def _keep_attention(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:4], *output)
    ctx.form = inputs[4:]


def _attention_gradient(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    *inputs, out, lse, turned = ctx.saved_tensors
    grads = jagged_attention_backward(grad.contiguous(), *inputs, *ctx.form, out, lse, turned)
    return *grads, None, None, None, None, None, None


jagged_attention.register_autograd(_attention_gradient, setup_context=_keep_attention)


@torch.library.custom_op(
    "interformer::attention_pool",
    mutates_args=(),
    schema="(Tensor maps, Tensor values, Tensor offsets, int cls) -> (Tensor, Tensor)",
)
def attention_pool(maps, values, offsets, cls):  # type: ignore[no-untyped-def]
    """(K, d), (J, d) -> (B, K, d), and a tensor that only the backward reads."""
    _require_triton()
    return triton_pooling.attention_pool_forward(maps.to(values.dtype), values, offsets, cls=cls)


@attention_pool.register_fake
def _(maps, values, offsets, cls):  # type: ignore[no-untyped-def]
    samples, (count, width) = offsets.shape[0] - 1, maps.shape
    return values.new_empty(samples, count, width), values.new_empty((samples, count), dtype=torch.float32)


@torch.library.custom_op(
    "interformer::attention_pool_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor maps, Tensor values, Tensor offsets, int cls, Tensor out, Tensor lse) -> (Tensor, Tensor)",
)
def attention_pool_backward(grad, maps, values, offsets, cls, out, lse):  # type: ignore[no-untyped-def]
    """Gradients of the maps and the values."""
    _require_triton()
    same = maps.to(values.dtype)
    grad_maps, grad_values = triton_pooling.attention_pool_backward(grad, same, values, offsets, out, lse, cls=cls)
    return grad_maps.to(maps.dtype), grad_values


@attention_pool_backward.register_fake
def _(grad, maps, values, offsets, cls, out, lse):  # type: ignore[no-untyped-def]
    return maps.new_empty(maps.shape), values.new_empty(values.shape)


def _keep_pool(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:3], *output)
    ctx.cls = inputs[3]


def _pool_gradient(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    maps, values, offsets, out, lse = ctx.saved_tensors
    return *attention_pool_backward(grad.contiguous(), maps, values, offsets, ctx.cls, out, lse), None, None


attention_pool.register_autograd(_pool_gradient, setup_context=_keep_pool)


@torch.library.custom_op("interformer::per_sample_ffn", mutates_args=(), schema=f"({_FFN}) -> Tensor")
def per_sample_ffn(values, w1, w2, offsets):  # type: ignore[no-untyped-def]
    """(J, d), (B, d, r), (B, r, d) -> (J, d)."""
    _require_triton()
    return triton_ffn.per_sample_ffn_forward(values, w1, w2, offsets)


@per_sample_ffn.register_fake
def _(values, w1, w2, offsets):  # type: ignore[no-untyped-def]
    return values.new_empty(values.shape)


@torch.library.custom_op(
    "interformer::per_sample_ffn_backward",
    mutates_args=(),
    schema=f"(Tensor grad, {_FFN}) -> (Tensor, Tensor, Tensor)",
)
def per_sample_ffn_backward(grad, values, w1, w2, offsets):  # type: ignore[no-untyped-def]
    """Gradients of the values and both weights."""
    _require_triton()
    return triton_ffn_backward.per_sample_ffn_backward(grad, values, w1, w2, offsets)


@per_sample_ffn_backward.register_fake
def _(grad, values, w1, w2, offsets):  # type: ignore[no-untyped-def]
    return values.new_empty(values.shape), w1.new_empty(w1.shape), w2.new_empty(w2.shape)


def _keep_ffn(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _ffn_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return *per_sample_ffn_backward(grad.contiguous(), *ctx.saved_tensors), None


per_sample_ffn.register_autograd(_ffn_gradient, setup_context=_keep_ffn)
