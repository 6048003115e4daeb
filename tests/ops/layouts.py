"""Layouts that the tests of ops/ share."""

from __future__ import annotations

import torch

from interformer_rec.ops.jagged import JaggedLayout

LENGTHS = [[2, 0, 1], [0], [0, 0, 0], [5], [3, 3, 3, 3], [7, 1, 0, 4, 4, 2, 0, 6, 1, 7, 3]]


def layouts() -> list[JaggedLayout]:
    return [JaggedLayout(torch.tensor(lengths), cls) for lengths in LENGTHS for cls in (1, 3)]
