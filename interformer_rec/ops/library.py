"""The jagged operators as torch.library operators: plain tensors and numbers come in, tensors go out, under torch.compile and export.

    torch.ops.interformer.jagged_attention     rotary, windowed, gated attention inside each sample
    torch.ops.interformer.attention_pool       PMA's weighted sums of each sample's events
    torch.ops.interformer.per_sample_ffn       each sample's own FFN over its tokens

On CUDA they run the Triton kernels, elsewhere bucketed.py; a graph holds one node whatever the number J of tokens. `offsets`
(B + 1,) count tokens, a sample's first `cls` tokens are its CLS tokens. Import this module to have them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from interformer_rec.errors import InputError
from interformer_rec.ops import bucketed
from interformer_rec.ops.backend import HAS_TRITON, MISSING

if HAS_TRITON:
    from interformer_rec.ops.triton import pooling as triton_pooling
    from interformer_rec.ops.triton.attention import operator as triton_attention
    from interformer_rec.ops.triton.launch import INTERPRETED
    from interformer_rec.ops.triton.per_sample_ffn import backward as triton_ffn_backward
    from interformer_rec.ops.triton.per_sample_ffn import forward as triton_ffn

_ATTENTION = "Tensor qk, Tensor v, Tensor offsets, Tensor? ages, Tensor? gate, SymInt max_length, int cls, int? window, float base"
_FFN = "Tensor values, Tensor w1, Tensor w2, Tensor offsets, Tensor? gain1, Tensor? gain2"


def _on_gpu(x: Tensor) -> bool:
    """Whether the Triton kernels run: on CUDA, and everywhere under the interpreter. InputError on a GPU without triton."""
    if x.device.type != "cuda":
        return HAS_TRITON and INTERPRETED
    if not HAS_TRITON:
        raise InputError(MISSING)
    return True


def _none(x: Tensor) -> Tensor:
    """A tensor in the place of one that is not there: an operator returns tensors only."""
    return x.new_empty(0)


def _gains(gain1: Tensor | None, gain2: Tensor | None) -> tuple[Tensor, Tensor] | None:
    if gain1 is None or gain2 is None:
        return None
    return gain1, gain2


@torch.library.custom_op(
    "interformer::jagged_attention", mutates_args=(), schema=f"({_ATTENTION}) -> (Tensor, Tensor, Tensor)"
)
def jagged_attention(qk, v, offsets, ages, gate, max_length, cls, window, base):  # type: ignore[no-untyped-def]
    """(J, 2, H, C), (J, H, C) -> output (J, H, C), and two tensors that only the backward reads.

    `ages` (J,) or None: rotary positions, below `max_length`; `gate` (J, H, C) or None; `window` None: all see all.
    """
    if _on_gpu(v):
        form = triton_attention.Form(cls, window, max_length, base)
        out, lse, turned = triton_attention.jagged_attention_forward(qk, v, offsets, ages, gate, form)
        return out, lse, _none(v) if ages is None else turned
    return (
        bucketed.attention(qk, v, offsets, ages, gate, cls=cls, window=window, base=base),
        _none(v).float(),
        _none(v),
    )


@jagged_attention.register_fake
def _(qk, v, offsets, ages, gate, max_length, cls, window, base):  # type: ignore[no-untyped-def]
    gpu, (rows, heads, _) = v.device.type == "cuda", v.shape
    lse = v.new_empty((heads, rows) if gpu else (0,), dtype=torch.float32)
    return v.new_empty(v.shape), lse, v.new_empty(qk.shape if gpu and ages is not None else (0,))


@torch.library.custom_op(
    "interformer::jagged_attention_backward",
    mutates_args=(),
    schema=f"(Tensor grad, {_ATTENTION}, Tensor out, Tensor lse, Tensor turned) -> (Tensor, Tensor, Tensor)",
)
def jagged_attention_backward(grad, qk, v, offsets, ages, gate, max_length, cls, window, base, out, lse, turned):  # type: ignore[no-untyped-def]
    """Gradients of qk, v and the gate (empty without one)."""
    if _on_gpu(v):
        form = triton_attention.Form(cls, window, max_length, base)
        grads = triton_attention.jagged_attention_backward(
            *(grad, qk if ages is None else turned, v, offsets, ages, gate, out, lse, form)
        )
    else:
        options: dict[str, Any] = {"cls": cls, "window": window, "base": base}
        grads = bucketed.attention_backward(grad, qk, v, offsets, ages, gate, out, **options)
    return grads[0], grads[1].contiguous(), _none(v) if grads[2] is None else grads[2]


@jagged_attention_backward.register_fake
def _(grad, qk, v, offsets, ages, gate, max_length, cls, window, base, out, lse, turned):  # type: ignore[no-untyped-def]
    return qk.new_empty(qk.shape), v.new_empty(v.shape), v.new_empty((0,) if gate is None else gate.shape)


def _keep_attention(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:5], *output)
    ctx.form = inputs[5:]


def _attention_gradient(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    *inputs, out, lse, turned = ctx.saved_tensors
    grad_qk, grad_v, grad_gate = jagged_attention_backward(grad.contiguous(), *inputs, *ctx.form, out, lse, turned)
    return grad_qk, grad_v, None, None, None if inputs[4] is None else grad_gate, None, None, None, None


jagged_attention.register_autograd(_attention_gradient, setup_context=_keep_attention)


@torch.library.custom_op(
    "interformer::attention_pool",
    mutates_args=(),
    schema="(Tensor maps, Tensor values, Tensor offsets, int cls) -> (Tensor, Tensor)",
)
def attention_pool(maps, values, offsets, cls):  # type: ignore[no-untyped-def]
    """(K, d), (J, d) -> (B, K, d), and a tensor that only the backward reads."""
    if _on_gpu(values):
        return triton_pooling.attention_pool_forward(maps.to(values.dtype), values, offsets, cls=cls)
    return bucketed.pool(maps, values, offsets, cls=cls), _none(values).float()


@attention_pool.register_fake
def _(maps, values, offsets, cls):  # type: ignore[no-untyped-def]
    samples, (count, width) = offsets.shape[0] - 1, maps.shape
    lse = values.new_empty((samples, count) if values.device.type == "cuda" else (0,), dtype=torch.float32)
    return values.new_empty(samples, count, width), lse


@torch.library.custom_op(
    "interformer::attention_pool_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor maps, Tensor values, Tensor offsets, int cls, Tensor out, Tensor lse) -> (Tensor, Tensor)",
)
def attention_pool_backward(grad, maps, values, offsets, cls, out, lse):  # type: ignore[no-untyped-def]
    """Gradients of the maps and the values."""
    if _on_gpu(values):
        same = maps.to(values.dtype)
        grad_maps, grad_values = triton_pooling.attention_pool_backward(grad, same, values, offsets, out, lse, cls=cls)
        return grad_maps.to(maps.dtype), grad_values
    return bucketed.pool_backward(grad, maps, values, offsets, cls=cls)


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


@torch.library.custom_op(
    "interformer::per_sample_ffn", mutates_args=(), schema=f"({_FFN}, int cls, float eps) -> (Tensor, Tensor, Tensor)"
)
def per_sample_ffn(values, w1, w2, offsets, gain1, gain2, cls, eps):  # type: ignore[no-untyped-def]
    """(J, d), (B, d, r), (B, r, d) -> (J, d), and two tensors that only the backward reads; gains: the production form."""
    gains = _gains(gain1, gain2)
    if _on_gpu(values):
        out, saved = triton_ffn.per_sample_ffn_forward(values, w1, w2, offsets, gains, eps=eps)
        return out, *(saved or (_none(values), _none(values).float()))
    return bucketed.ffn(values, w1, w2, offsets, gains, cls=cls, eps=eps), _none(values), _none(values).float()


@per_sample_ffn.register_fake
def _(values, w1, w2, offsets, gain1, gain2, cls, eps):  # type: ignore[no-untyped-def]
    saved = values.device.type == "cuda" and gain1 is not None
    inner = values.new_empty(values.shape if saved else (0,))
    factor = values.new_empty((values.shape[0],) if saved else (0,), dtype=torch.float32)
    return values.new_empty(values.shape), inner, factor


@torch.library.custom_op(
    "interformer::per_sample_ffn_backward",
    mutates_args=(),
    schema=f"(Tensor grad, {_FFN}, int cls, float eps, Tensor inner, Tensor factor) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def per_sample_ffn_backward(grad, values, w1, w2, offsets, gain1, gain2, cls, eps, inner, factor):  # type: ignore[no-untyped-def]
    """Gradients of the values, both weights and both gains (empty without gains)."""
    gains = _gains(gain1, gain2)
    if _on_gpu(values):
        saved = None if gains is None else triton_ffn.Saved(inner, factor)
        *grads, grad_gains = triton_ffn_backward.per_sample_ffn_backward(
            grad, values, w1, w2, offsets, gains, saved, eps=eps
        )
    else:
        *grads, grad_gains = bucketed.ffn_backward(grad, values, w1, w2, offsets, gains, cls=cls, eps=eps)
    return *grads, *(grad_gains or (_none(values), _none(values)))


@per_sample_ffn_backward.register_fake
def _(grad, values, w1, w2, offsets, gain1, gain2, cls, eps, inner, factor):  # type: ignore[no-untyped-def]
    gains = [values.new_empty(0) if gain is None else gain.new_empty(gain.shape) for gain in (gain1, gain2)]
    return values.new_empty(values.shape), w1.new_empty(w1.shape), w2.new_empty(w2.shape), *gains


def _keep_ffn(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:6], *output[1:])
    ctx.form = inputs[6:]


def _ffn_gradient(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    *inputs, inner, factor = ctx.saved_tensors
    *grads, gain1, gain2 = per_sample_ffn_backward(grad.contiguous(), *inputs, *ctx.form, inner, factor)
    gains = (None, None) if inputs[4] is None else (gain1, gain2)
    return *grads, None, *gains, None, None


per_sample_ffn.register_autograd(_ffn_gradient, setup_context=_keep_ffn)
