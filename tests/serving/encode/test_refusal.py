"""Values in messages are JSON, short, and text that can be sent, whatever a parser made of a request."""

from __future__ import annotations

from decimal import Decimal

import pytest

from interformer_rec.serving.encode.refusal import shown

SHOWN = [
    (None, "null"),
    (True, "true"),
    (7, "7"),
    (10**5000, "an integer of 16610 bits"),  # more digits than Python writes
    (1.0, "1.0"),
    (float("nan"), "nan"),
    ("7", '"7"'),
    ('a"\n', '"a\\"\\n"'),
    ("\ud800", '"\\ud800"'),
    ("x" * 100, '"' + "x" * 80 + '" ...'),
    ([], "[] (0 elements)"),
    ([1, "a", [2], 4], '[1, "a", ..., ...] (4 elements)'),
    ({"a": 1}, "an object of 1 key"),
    (Decimal("1.5"), "a Decimal"),
    (b"x", "a bytes"),
]


@pytest.mark.parametrize("case", range(len(SHOWN)))
def test_shown(case):
    value, text = SHOWN[case]
    assert shown(value) == text
    text.encode()
