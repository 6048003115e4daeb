"""RMSNorm, gating and DOT, which know no samples' lengths: a shape comes in, ours and what else there is goes out.

Legend: J rows, B samples of n tokens, d channels.
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.kernels import reference
from benchmarks.kernels.case import Alternative, Case, Shape, compiled, ours
from interformer_rec.ops.gating import swish_gate
from interformer_rec.ops.gram import packed_gram
from interformer_rec.ops.norm import EPS, rms_norm

TOKENS = 40  # of DOT, as model.interaction.dot_tokens


def norm(shape: Shape) -> Case:
    """x / rms(x) * gain: (J, d) and (d,) -> (J, d)."""
    leaves = [shape.normal(shape.tokens, shape.d), 1 + shape.normal(shape.d, scale=0.1)]

    def eager(x: Tensor, gain: Tensor) -> Tensor:
        return F.rms_norm(x, (shape.d,), gain, EPS)

    return _rows(
        leaves,
        ["tokens", "shared"],
        lambda x, gain: reference.rms_norm(x, gain, EPS),
        {**ours(shape, rms_norm), **_torch(eager)},
        passes=(2, 5),  # backward: x and the gradient in, one gradient out
    )


def gate(shape: Shape) -> Case:
    """x * sigmoid(gate), the summaries' gating after its product: (J, d) twice -> (J, d)."""

    def eager(x: Tensor, opened: Tensor) -> Tensor:
        return x * torch.sigmoid(opened)

    return _rows(
        [shape.normal(shape.tokens, shape.d), shape.normal(shape.tokens + 1, shape.d)[1:].contiguous()],
        ["tokens", "tokens"],
        eager,
        {**ours(shape, swish_gate), **_torch(eager, False)},
        passes=(3, 8),  # backward: both inputs and the gradient in, two gradients out
    )


def gram(shape: Shape) -> Case:
    """DOT: inner products of all pairs of a sample's tokens, packed: (B, n, d) -> (B, n (n - 1) / 2)."""
    samples, scale = max(1, shape.tokens // TOKENS), shape.d**-0.5
    first, second = torch.triu_indices(TOKENS, TOKENS, offset=1, device=shape.device)
    places = first * TOKENS + second

    def eager(x: Tensor) -> Tensor:
        return (torch.bmm(x, x.transpose(1, 2)).flatten(1) * scale).index_select(1, places)

    def plain(x: Tensor) -> Tensor:
        return (x @ x.transpose(1, 2) * scale)[:, first, second]

    x = shape.normal(samples, TOKENS, shape.d)
    size, pairs = x.numel() * x.element_size(), samples * len(places) * x.element_size()
    return Case(
        leaves=[x],
        kinds=["samples"],
        out_kind="samples",
        reference=plain,
        pieces=_slices(samples, "samples"),
        alternatives={**ours(shape, lambda x: packed_gram(x, scale, places)), **_torch(eager, False)},
        flops=2.0 * samples * len(places) * shape.d,
        bytes_forward=size + pairs,
        bytes_step=3 * size + 2 * pairs,
        bound="copy",
    )


def _torch(eager: Callable[..., Tensor], separate: bool = True) -> dict[str, Callable[[], Alternative]]:
    """torch's own form, eager (unless that is ours) and compiled."""
    found = {"torch": lambda: Alternative(eager)} if separate else {}
    return {**found, "torch, compiled": lambda: Alternative(compiled(eager))}


def _rows(
    leaves: list[Tensor],
    kinds: list[str],
    plain: Callable[..., Tensor],
    alternatives: dict[str, Callable[[], Alternative]],
    passes: tuple[int, int],
) -> Case:
    size = leaves[0].numel() * leaves[0].element_size()
    return Case(
        leaves=leaves,
        kinds=kinds,
        out_kind="tokens",
        reference=plain,
        pieces=_slices(len(leaves[0]), "tokens"),
        alternatives=alternatives,
        flops=0.0,
        bytes_forward=passes[0] * size,
        bytes_step=passes[1] * size,
        bound="copy",
    )


def _slices(rows: int, kind: str, step: int = 1 << 16) -> list[Mapping[str, slice]]:
    return [{kind: slice(start, min(start + step, rows))} for start in range(0, rows, step)]
