"""Windowed attention in blocks against plain loops in float64: random lengths, windows and CLS tokens, gradients too."""

from __future__ import annotations

import random

import pytest
import torch

from interformer_rec.ops import attention
from interformer_rec.ops.jagged import JaggedLayout
from interformer_rec.ops.padding import windowed
from interformer_rec.ops.rectangle import RectangleLayout
from tests.ops import conformance, loops
from tests.ops.test_rectangle import placed


def shapes(seed: int) -> tuple[JaggedLayout, int]:
    """A batch of one or two groups, some empty, some beyond every block; and a window."""
    draw = random.Random(seed)
    lengths = torch.tensor([draw.choice([0, 1, draw.randrange(40), draw.randrange(700)]) for _ in range(5)])
    second = lengths // 3 if seed % 2 else torch.zeros_like(lengths)
    layout = JaggedLayout(lengths, draw.choice([1, 4]), torch.stack([lengths - second, second], 1))
    return layout, draw.choice([1, 5, 31, 32, 40, 64, 100, 200, 699, 5_000])


@pytest.mark.parametrize("seed", range(12))
def test_agrees_with_plain_loops(seed: int) -> None:
    layout, window = shapes(seed)
    leaves = [torch.randn(layout.total, 2, 2, 4).double(), torch.randn(layout.total, 2, 4).double()]
    expected = conformance.run(lambda b, qk, v: loops.attention_plain(b, qk, v, window), layout, leaves, torch.float64)
    found = conformance.run(lambda b, qk, v: loops.attention(b, qk, v, window), layout, leaves, torch.float64)
    for mine, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=0, atol=1e-10)

    places = [int(count) + 3 for count in layout.parts_BG.amax(0)]
    there = RectangleLayout(layout.parts_BG, places, layout.cls)

    def in_a_rectangle(_: object, qk: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        turns = attention.rotary_of(there, 2, 4, loops.BASE, loops.LONGEST, v)
        given = placed(qk, there.is_token), placed(v, there.is_token)
        return attention.jagged_attention(*given, there, turns, window)[there.is_token]

    found = conformance.run(in_a_rectangle, None, leaves, torch.float64)
    for mine, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=0, atol=1e-10)


def test_what_an_event_meets_does_not_grow_with_the_history() -> None:
    """Scores an event: those of its block's surroundings, whatever T is."""
    met = []
    for events in (512, 4096):
        mask = windowed.window_mask(None, (2, 4 + events), 4, 64, torch.empty(0))
        met.append(mask.of_events.numel() / events / 2)
    assert met[0] == met[1] == 3 * (4 + 64)


def test_a_window_that_hides_nothing_changes_nothing() -> None:
    layout = JaggedLayout(torch.tensor([0, 7, 30]), 4)
    qk, v = torch.randn(layout.total, 2, 2, 4), torch.randn(layout.total, 2, 4)
    assert torch.equal(loops.attention(layout, qk, v, 40), loops.attention(layout, qk, v))
