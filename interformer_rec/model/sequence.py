"""Sequence: what flows through the Sequence Arch, jagged from the lookup to the head."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from interformer_rec.ops.attention import Rotary
from interformer_rec.ops.jagged import JaggedLayout


class Sequence(NamedTuple):
    """The tokens of one sequence of all samples; layout and turns are made once a batch and shared by all layers."""

    values: Tensor  # (J, d): each sample's CLS tokens, then its events, oldest first
    layout: JaggedLayout
    rotary: Rotary
