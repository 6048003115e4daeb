"""Operators in the rectangle layout against the same plain references as in the jagged one, gradients included.

A rectangle has more places than its longest history needs, and numbers at places without an event that would be seen in a result.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from interformer_rec.ops import attention, glue, per_sample_ffn, pooling
from interformer_rec.ops.jagged import JaggedLayout
from interformer_rec.ops.padding import windowed
from interformer_rec.ops.rectangle import RectangleLayout, event_mask, turn, turns
from tests.ops import conformance, loops

SPARE, NOT_READ = 2, 1e3


class Rectangle:
    """The rectangle of a jagged batch of two groups, both with as many places, and the way to and fro."""

    def __init__(self, jagged: JaggedLayout, parts: bool = True) -> None:
        self.parts_BG = jagged.parts_BG
        self.places = int(jagged.parts_BG.max()) + SPARE
        self.layout = RectangleLayout(jagged.parts_BG, [self.places] * jagged.parts_BG.shape[1], jagged.cls, parts)

    def tokens(self, values_J: Tensor) -> Tensor:
        return placed(values_J, self.layout.is_token)

    def events(self, values_E: Tensor) -> Tensor:
        return placed(values_E, self.layout.is_event)

    def groups(self, *values: Tensor) -> list[tuple[Tensor, Tensor]]:
        counts = self.parts_BG.unbind(1)
        return [(placed(x, event_mask(n, self.places)), n) for x, n in zip(values, counts, strict=True)]


def placed(values: Tensor, where: Tensor) -> Tensor:
    """Rows where the mask is True, from left to right, sample by sample: the order that the jagged layout has."""
    out = values.new_full((*where.shape, *values.shape[1:]), NOT_READ)
    out[where] = values
    return out


def turned(there: Rectangle, qk: Tensor, v: Tensor, window: int | None = None) -> Tensor:
    rotary = attention.rotary_of(there.layout, v.shape[1], v.shape[2], loops.BASE, loops.LONGEST, v)
    attended = attention.jagged_attention(there.tokens(qk), there.tokens(v), there.layout, rotary, window)
    return attended[there.layout.is_token]


def unturned(there: Rectangle, qkv: Tensor) -> Tensor:
    tokens = there.tokens(qkv)
    return attention.jagged_attention(tokens[:, :, :2], tokens[:, :, 2], there.layout)[there.layout.is_token]


def rotated(there: Rectangle, x: Tensor) -> Tensor:
    return turn(there.tokens(x), turns(there.layout.ages, x.shape[2], loops.BASE, x.dtype))[there.layout.is_token]


def by_age(there: Rectangle, *values: Tensor) -> Tensor:
    glued, lengths = glue.glue_by_age(there.groups(*values))
    return glued[event_mask(lengths, there.places)]


# Names are those of tests/ops/catalogue.py. Its other operators see no layout, or are for training alone.
CALLS: dict[str, Callable[..., Tensor]] = {
    "jagged_attention": turned,
    "jagged_attention, no positions": unturned,
    "jagged_attention, windowed": lambda there, qk, v: turned(there, qk, v, loops.WINDOW),
    "attention_pool": lambda there, maps, x: attention.attention_pool(maps, there.tokens(x), there.layout),
    "per_sample_ffn": lambda there, x, w1, w2: per_sample_ffn.per_sample_ffn(there.tokens(x), w1, w2, there.layout)[
        there.layout.is_token
    ],
    "per_sample_linear": lambda there, x, w: per_sample_ffn.per_sample_linear(there.tokens(x), w, there.layout)[
        there.layout.is_token
    ],
    "prepend": lambda there, cls, x: there.layout.prepend(cls, there.events(x))[there.layout.is_token],
    "take_summary": lambda there, x: there.layout.take_summary(there.tokens(x), loops.RECENT),
    "rotate": rotated,
    "glue_by_age": by_age,
    "glue_in_turn": lambda there, *values: glue.glue_in_turn(there.groups(*values))[0][there.layout.is_event],
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", ["one without", "all without", "few", "drawn"])
@pytest.mark.parametrize("name", CALLS)
def test_operator(name: str, shape: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    for setting, size in (("SMALLEST", 2), ("LARGEST", 3), ("DENSE", 3)):  # blocks in a small window
        monkeypatch.setattr(windowed, setting, size)
    one, jagged = conformance.operator(name), conformance.SHAPES[shape].layout()
    there, leaves = Rectangle(jagged), one.leaves(conformance.SHAPES[shape], dtype)
    found = conformance.run(lambda _, *given: CALLS[name](there, *given), None, leaves, dtype)
    conformance.same(found, one, jagged, leaves)


@pytest.mark.parametrize("how", ["sum", "mean"])
@pytest.mark.parametrize("shape", ["one without", "few", "drawn"])
def test_segment_pool(how: str, shape: str) -> None:
    """One group: where places end is where the newest event is."""
    one, jagged = conformance.operator(f"segment_pool, {how}"), conformance.SHAPES[shape].layout()
    leaves = one.leaves(conformance.SHAPES[shape], torch.float64)
    mask = event_mask(jagged.lengths, int(jagged.lengths.max()) + SPARE)

    def call(_: object, x: Tensor) -> Tensor:
        return pooling.segment_pool(placed(x, mask), jagged.lengths, how)  # type: ignore[arg-type]

    conformance.same(conformance.run(call, None, leaves, torch.float64), one, jagged, leaves)


@pytest.mark.parametrize("shape", ["one without", "few", "drawn"])
def test_the_newest_events_of_all_groups(shape: str) -> None:
    """Two groups as one history, the second one newer: the reference is a batch of one group."""
    of_two = conformance.SHAPES[shape].layout()
    of_one = JaggedLayout(of_two.lengths, of_two.cls)
    there = Rectangle(of_two, parts=False)
    one = conformance.operator("take_summary")
    leaves = one.leaves(conformance.SHAPES[shape], torch.float64)
    found = conformance.run(
        lambda _, x: there.layout.take_summary(there.tokens(x), loops.RECENT), None, leaves, torch.float64
    )
    conformance.same(found, one, of_one, leaves)
