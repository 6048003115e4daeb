"""Multi-head attention inside each sample, with and without rotary ages: a shape comes in, ours and what else there is goes out.

Legend: J tokens of B samples, T the longest sample, H heads, C channels a head.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.kernels import reference
from benchmarks.kernels.case import CLS, Alternative, Case, Padded, Shape, compiled, fbgemm, ours, sample_pieces
from interformer_rec.ops.attention import jagged_attention, rotary_of
from interformer_rec.ops.rotary import rotary_table, rotate

BASE = 10_000.0


def attention(shape: Shape) -> Case:
    """softmax(q k^T / sqrt(C)) v over a sample's tokens: (J, 2, H, C) and (J, H, C) -> (J, H, C)."""
    return _case(shape, None)


def attention_rotary(shape: Shape) -> Case:
    """The same on queries and keys turned by age."""
    return _case(shape, shape.layout.ages)


def _case(shape: Shape, ages_J: Tensor | None) -> Case:
    layout, heads, channels = shape.layout, shape.heads, shape.d // shape.heads
    total = layout.total
    leaves = [shape.normal(total, 2, heads, channels), shape.normal(total, heads, channels)]
    squares = float(layout.tokens.double().square().sum())
    size = total * shape.d * leaves[0].element_size()
    return Case(
        leaves=leaves,
        kinds=["tokens", "tokens"],
        out_kind="tokens",
        reference=_reference(ages_J, layout, heads, channels),
        pieces=sample_pieces(layout),
        alternatives=_alternatives(shape, ages_J),
        flops=4 * squares * shape.d,
        bytes_forward=4 * size,
        bytes_step=(4 + 8) * size,  # backward: q, k, v, out and its gradient in, three gradients out
        bound="matmul",
    )


def _reference(ages_J: Tensor | None, layout: Any, heads: int, channels: int) -> Callable[..., Tensor]:
    def plain(qk: Tensor, v: Tensor) -> Tensor:
        if ages_J is not None:
            count = len(v) - CLS  # a sample's ages follow from how many events it has
            ages = torch.cat([ages_J.new_full((CLS,), -1), torch.arange(count - 1, -1, -1, device=ages_J.device)])
            table = rotary_table(ages, 2 * heads, channels, BASE, torch.float64)
            qk = rotate(qk.flatten(1), table).view(qk.shape)
        return reference.attention(qk[:, 0], qk[:, 1], v)

    return plain


def _alternatives(shape: Shape, ages_J: Tensor | None) -> dict[str, Callable[[], Alternative]]:
    layout, device = shape.layout, shape.device
    channels = shape.d // shape.heads
    rotary = None if ages_J is None else rotary_of(layout, shape.heads, channels, BASE, shape.longest, shape.normal(1))
    found = ours(shape, lambda qk, v: jagged_attention(qk, v, layout, rotary))
    padded = Padded(layout.tokens)
    turns = _turns(ages_J, channels, shape.dtype)
    jagged_turn = _turn(turns)
    padded_turn = _turn(None if turns is None else tuple(padded.of(x, "tokens") for x in turns))
    sdpa = _sdpa(padded.mask, padded_turn)
    found["SDPA padded"] = lambda: Alternative(sdpa, padded)
    found["SDPA padded, compiled"] = lambda: Alternative(compiled(sdpa), padded)
    found["nested SDPA"] = lambda: Alternative(_nested(shape, jagged_turn))
    found["FBGEMM pad, SDPA"] = lambda: Alternative(_fbgemm(shape, padded, jagged_turn))
    if device.type == "cuda":
        found["flex, compiled"] = lambda: Alternative(_flex(shape, jagged_turn))
        found["varlen"] = lambda: Alternative(_varlen(shape, jagged_turn))
    return found


def _turns(ages_J: Tensor | None, channels: int, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
    """Cosine and sine (J, 1, 1, C / 2)."""
    if ages_J is None:
        return None
    frequency = BASE ** (-torch.arange(0, channels, 2, device=ages_J.device, dtype=torch.float64) / channels)
    angle = ages_J.clamp(min=0).double()[:, None, None, None] * frequency
    return angle.cos().to(dtype), angle.sin().to(dtype)


def _turn(turns: tuple[Tensor, ...] | None) -> Callable[[Tensor], Tensor]:
    """Queries and keys (..., 2, H, C) turned in their own dtype."""
    if turns is None:
        return lambda qk: qk
    cosine, sine = turns

    def turn(qk: Tensor) -> Tensor:
        even, odd = qk[..., 0::2], qk[..., 1::2]
        return torch.stack([even * cosine - odd * sine, even * sine + odd * cosine], -1).flatten(-2)

    return turn


def _sdpa(mask_BT: Tensor, turn: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    keep = mask_BT[:, None, None, :]

    def run(qk: Tensor, v: Tensor) -> Tensor:  # (B, T, 2, H, C), (B, T, H, C)
        q, k = turn(qk).unbind(2)
        out = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=keep)
        return out.transpose(1, 2)

    return run


def _nested(shape: Shape, turn: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    offsets, tokens = shape.layout.token_offsets, shape.layout.tokens
    bounds = {"min_seqlen": int(tokens.min()), "max_seqlen": int(tokens.max())}

    def nest(x: Tensor) -> Tensor:
        return torch.nested.nested_tensor_from_jagged(x.contiguous(), offsets, **bounds).transpose(1, 2)

    def run(qk: Tensor, v: Tensor) -> Tensor:
        q, k = turn(qk).unbind(1)
        return F.scaled_dot_product_attention(nest(q), nest(k), nest(v)).transpose(1, 2).values()

    return run


def _fbgemm(shape: Shape, padded: Padded, turn: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    ops, offsets, total = fbgemm(), shape.layout.token_offsets, shape.layout.total
    inner = _sdpa(padded.mask, lambda qk: qk)

    def pad(x: Tensor) -> Tensor:
        flat = ops.jagged_to_padded_dense(x.flatten(1), [offsets], [padded.width])
        return flat.unflatten(2, x.shape[1:])

    def run(qk: Tensor, v: Tensor) -> Tensor:
        out = inner(pad(turn(qk)), pad(v))
        return ops.dense_to_jagged(out.flatten(2), [offsets], total)[0].unflatten(1, v.shape[1:])

    return run


def _flex(shape: Shape, turn: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """The block mask is made once: a model makes it once a batch."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    layout, total = shape.layout, shape.layout.total
    sample = torch.arange(layout.batch_size, device=shape.device).repeat_interleave(layout.tokens, output_size=total)
    mask = create_block_mask(
        lambda b, h, i, j: sample[i] == sample[j], None, None, total, total, device=shape.device.type, _compile=True
    )
    flex = torch.compile(flex_attention, dynamic=False)

    def run(qk: Tensor, v: Tensor) -> Tensor:
        q, k = turn(qk).transpose(0, 2).unbind(1)  # (H, J, C)
        out = flex(q[None], k[None], v.transpose(0, 1)[None], block_mask=mask)
        return out[0].transpose(0, 1)

    return run


def _varlen(shape: Shape, turn: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    from torch.nn.attention.varlen import varlen_attn

    offsets, longest = shape.layout.token_offsets.int(), int(shape.layout.tokens.max())

    def run(qk: Tensor, v: Tensor) -> Tensor:
        q, k = turn(qk).unbind(1)
        return varlen_attn(q.contiguous(), k.contiguous(), v, offsets, offsets, longest, longest)

    return run
