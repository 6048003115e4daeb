"""Every operator of interformer_rec/ops with what a backend has to agree with: plain loops in, cases of the conformance suite out.

`call` and `reference` take the batch's layout, whose events are of two groups, and the operator's differentiable inputs. Legend: B samples,
J tokens (CLS of them first in each sample), E events, H heads, C channels a head, d = H * C.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.kernels import reference
from interformer_rec.ops import (
    attention,
    gating,
    glue,
    gram,
    jagged,
    norm,
    per_sample_ffn,
    pooling,
    rotary,
    token_mix,
)
from interformer_rec.ops.jagged import JaggedLayout
from tests.ops import loops

# ||found - reference|| / ||reference||, the reference in float64 on the same rounded inputs. float32 sums in another order; half
# precision keeps 8 or 11 bits of what an operator writes, and of what it gives to its next product.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 4e-6, torch.bfloat16: 2e-2, torch.float16: 3e-3}

Shapes = list[tuple[tuple[int, ...], int]]  # of each input: sizes, and by whose root normal numbers are divided


class Shape(NamedTuple):
    """Of a batch: events of each sample and CLS tokens before them; heads, channels a head, rank of the per-sample FFN, tokens beside."""

    lengths: list[int]
    cls: int = 2
    heads: int = 2
    channels: int = 6
    rank: int = 5
    tokens: int = 4

    def layout(self) -> JaggedLayout:
        lengths = torch.tensor(self.lengths)
        return JaggedLayout(lengths, self.cls, torch.stack([lengths - lengths // 3, lengths // 3], 1))


class Sizes(NamedTuple):
    """Samples, tokens and events of a batch, events of each of two groups, and the widths of its Shape."""

    B: int
    J: int
    E: int
    first: int
    second: int
    H: int
    C: int
    R: int
    N: int
    cls: int

    @property
    def D(self) -> int:
        return self.H * self.C


@dataclass(frozen=True)
class Operator:
    """One operator. `function` is what the package calls; its `runs_on` says which backends have it."""

    name: str
    function: Any
    inputs: Callable[[Sizes], Shapes]
    call: Callable[..., Tensor]
    reference: Callable[..., Tensor]
    variant: bool = False  # another call of an operator that is here already, which proves dtypes and graphs
    exact: bool = False  # copies and counts: equal to the bit
    tolerance: dict[torch.dtype, float] = field(default_factory=dict)  # where it is not TOLERANCE

    def leaves(self, shape: Shape, dtype: torch.dtype) -> list[Tensor]:
        """Inputs for this batch: normal numbers, the same for the same number of samples."""
        layout = shape.layout()
        counts = layout.batch_size, layout.total, layout.events, *layout.parts_BG.sum(0).tolist()
        generator = torch.Generator().manual_seed(layout.batch_size)
        inputs = self.inputs(Sizes(*counts, *shape[2:], shape.cls))
        return [(torch.randn(sizes, generator=generator) / scale**0.5).to(dtype) for sizes, scale in inputs]

    def limit(self, dtype: torch.dtype) -> float:
        return 0.0 if self.exact else self.tolerance.get(dtype, TOLERANCE[dtype])


OPERATORS = [
    Operator(
        "jagged_attention",
        attention.jagged_attention,
        lambda s: [((s.J, 2, s.H, s.C), 1), ((s.J, s.H, s.C), 1)],
        loops.attention,
        loops.attention_plain,
        tolerance={torch.bfloat16: 4e-2},
    ),
    Operator(
        "jagged_attention, no positions",
        attention.jagged_attention,
        lambda s: [((s.J, 3, s.H, s.C), 1)],
        loops.unturned,
        loops.unturned_plain,
        variant=True,
    ),
    Operator(
        "jagged_attention, windowed",
        attention.jagged_attention,
        lambda s: [((s.J, 2, s.H, s.C), 1), ((s.J, s.H, s.C), 1)],
        loops.windowed,
        lambda layout, qk, v: loops.attention_plain(layout, qk, v, loops.WINDOW),
        tolerance={torch.bfloat16: 4e-2},
    ),
    Operator(
        "attention_pool",
        attention.attention_pool,
        lambda s: [((loops.MAPS, s.D), s.D), ((s.J, s.D), 1)],
        lambda layout, maps, x: attention.attention_pool(maps, x, layout),
        loops.pool_plain,
    ),
    Operator(
        "per_sample_ffn",
        per_sample_ffn.per_sample_ffn,
        lambda s: [((s.J, s.D), 1), ((s.B, s.D, s.R), s.D), ((s.B, s.R, s.D), s.R)],
        lambda layout, x, w1, w2: per_sample_ffn.per_sample_ffn(x, w1, w2, layout),
        loops.ffn_plain,
    ),
    Operator(
        "per_sample_linear",
        per_sample_ffn.per_sample_linear,
        lambda s: [((s.J, s.D), 1), ((s.B, s.D, s.R), s.D)],
        lambda layout, x, w: per_sample_ffn.per_sample_linear(x, w, layout),
        loops.linear_plain,
    ),
    Operator(
        "rms_norm",
        norm.rms_norm,
        lambda s: [((s.B, s.N, s.D), 1), ((s.D,), 1)],
        lambda _, x, gain: norm.rms_norm(x, gain),
        lambda _, x, gain: reference.rms_norm(x, gain, norm.EPS),
    ),
    Operator(
        "rms_norm, events",
        norm.rms_norm,
        lambda s: [((s.E, s.D), 1), ((s.D,), 1)],
        lambda _, x, gain: norm.rms_norm(x, gain),
        lambda _, x, gain: reference.rms_norm(x, gain, norm.EPS),
        variant=True,
    ),
    Operator(
        "swish_gate",
        gating.swish_gate,
        lambda s: [((s.B, s.N, loops.GATED), 1), ((s.B, s.N, loops.GATED), 1)],
        lambda _, x, gate: gating.swish_gate(x, gate),
        lambda _, x, gate: x * gate.sigmoid(),
    ),
    Operator(
        "mask_gate",
        gating.mask_gate,
        lambda s: [((s.E, loops.GATED), 1), ((loops.GATED, loops.GATED), loops.GATED), ((loops.GATED,), 1)],
        lambda _, x, weight, bias: gating.mask_gate(x, weight, bias),
        lambda _, x, weight, bias: x * (x @ weight.T + bias),
    ),
    Operator(
        "packed_gram",
        gram.packed_gram,
        lambda s: [((s.B, s.N, s.D), 1)],
        lambda _, x: gram.packed_gram(x, 0.3, loops.pairs_of(x)),
        lambda _, x: (x @ x.transpose(1, 2) * 0.3).flatten(1)[:, loops.pairs_of(x)],
    ),
    Operator(
        "prepend",
        JaggedLayout.prepend,
        lambda s: [((s.B, s.cls, s.D), 1), ((s.E, s.D), 1)],
        lambda layout, cls, events: layout.prepend(cls, events),
        loops.prepend_plain,
        exact=True,
    ),
    Operator(
        "take_summary",
        JaggedLayout.take_summary,
        lambda s: [((s.J, s.D), 1)],
        lambda layout, x: layout.take_summary(x, loops.RECENT),
        loops.summary_plain,
        exact=True,
    ),
    Operator(
        "rotate",
        rotary.rotate,
        lambda s: [((s.J, s.H, s.C), 1)],
        loops.turned,
        lambda layout, x: reference.rotate(x, loops.ages_of(layout), loops.BASE),
    ),
    *(
        Operator(
            f"segment_pool, {how}", pooling.segment_pool, lambda s: [((s.E, s.D), 1)], *loops.pooled(how), how == "mean"
        )
        for how in ("sum", "mean")
    ),
    Operator(
        "mix_tokens",
        token_mix.mix_tokens,
        lambda s: [((s.B, s.N, s.D), 1), ((loops.MAPS, s.N), s.N)],
        lambda _, x, weight: token_mix.mix_tokens(x, weight),
        lambda _, x, weight: torch.stack([weight @ sample for sample in x]),
    ),
    Operator(
        "take_rows",
        jagged.take_rows,
        lambda s: [((s.E, s.D), 1)],
        lambda _, x: jagged.take_rows(x, loops.reversal(x)[::2]),
        lambda _, x: x.flip(0)[::2],
        exact=True,
    ),
    Operator(
        "glue_by_age",
        glue.glue_by_age,
        lambda s: [((s.first, s.D), 1), ((s.second, s.D), 1)],
        lambda layout, a, b: glue.glue_by_age(loops.groups_of(layout, a, b))[0],
        loops.by_age_plain,
        exact=True,
    ),
    Operator(
        "glue_in_turn",
        glue.glue_in_turn,
        lambda s: [((s.first, s.D), 1), ((s.second, s.D), 1)],
        lambda layout, a, b: glue.glue_in_turn(loops.groups_of(layout, a, b))[0],
        lambda layout, a, b: torch.cat([part for sample in loops.samples_of(layout, a, b) for part in sample]),
        exact=True,
    ),
    Operator(
        "union",
        glue.union,
        lambda s: [((s.first, s.D), 1), ((s.second, s.D), 1)],
        loops.united,
        loops.united_plain,
        exact=True,
    ),
]
