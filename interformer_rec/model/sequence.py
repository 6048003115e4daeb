"""Sequence: what flows through the Sequence Arch, jagged from the lookup to the head, or all the way in the rectangle."""

from typing import NamedTuple

from torch import Tensor

from interformer_rec.ops.attention import Rotary
from interformer_rec.ops.jagged import JaggedLayout
from interformer_rec.ops.rectangle import RectangleLayout


class Sequence(NamedTuple):
    """The tokens of one sequence of all samples; layout and turns are made once a batch and shared by all layers."""

    values: Tensor  # (J, d), or (B, N, d): each sample's CLS tokens, then its events, oldest first
    layout: JaggedLayout | RectangleLayout
    rotary: Rotary
