"""PaddedLayout of a rectangle: events (B, T, ...) padded at the old end come in; the same plans go out, in shapes that no data changes.

What is (E, ...) in the jagged form is (B, T, ...) here. Recurrence and causal attention want padding behind the newest event, so `pad`
moves a sample's events to the front and `unpad` back; both are gathers. Legend: B samples, T places, W channels.
"""

from functools import cached_property

import torch
from torch import Tensor

from interformer_rec.model.baselines.padded import PaddedLayout
from interformer_rec.model.embedding.embedded import Events
from interformer_rec.ops.rectangle import HIDDEN, event_mask, masked, newest_places


class AlignedLayout(PaddedLayout):
    """Slots of the events of B samples that stand at the new end of T places."""

    def __init__(self, lengths: Tensor, places: int) -> None:
        self.lengths, self.width, self.size = lengths.to(torch.int64), places, lengths.shape[0]
        self.is_event = event_mask(self.lengths, places)  # (B, T)
        self.age = places - 1 - torch.arange(places, device=lengths.device)  # (T,)

    @cached_property
    def _from_left(self) -> Tensor:
        """(B, T): the place of the event that stands t-th from the oldest; around the end, so that every place is somewhere."""
        return self._around(self.width - self.lengths)

    @cached_property
    def _to_right(self) -> Tensor:
        """Its inverse."""
        return self._around(self.lengths)

    def _around(self, shift_B: Tensor) -> Tensor:
        """(B, T): slot + shift modulo T; written without %, which ONNX's exporter has for constants only."""
        slots = torch.arange(self.width, device=shift_B.device) + shift_B[:, None]
        return torch.where(slots < self.width, slots, slots - self.width)

    def pad(self, values_EW: Tensor) -> Tensor:
        """(B, T, W) -> (B, T, W), oldest event first, zeros behind the newest."""
        return _take(masked(values_EW, self.is_event), self._from_left)

    def unpad(self, padded_BTW: Tensor) -> Tensor:
        """The inverse of `pad`."""
        return _take(padded_BTW, self._to_right)

    def repeat(self, values_BW: Tensor) -> Tensor:
        """(B, W) -> (B, 1, W), which spreads over the places."""
        return values_BW[:, None]

    def sum(self, values_EW: Tensor) -> Tensor:
        """(B, T, W) -> (B, W) sums over a sample's events."""
        return masked(values_EW, self.is_event).sum(1)

    def softmax(self, scores_E: Tensor) -> Tensor:
        """(B, T) -> (B, T) weights that add up to 1 over each sample's events."""
        return torch.where(self.is_event, scores_E, HIDDEN).softmax(1)

    def newest(self, values_EW: Tensor, count: int) -> Tensor:
        """(B, T, W) -> (B, count, W): the newest events, newest first; zeros where a sample has fewer."""
        rows, exist = newest_places(self.lengths, self.width, count)
        return masked(values_EW.index_select(1, rows), exist)


def layout_of(events: Events) -> PaddedLayout:
    """Of jagged events or of a rectangle."""
    if events.values.ndim == 3:
        return AlignedLayout(events.lengths, events.values.shape[1])
    return PaddedLayout(events.lengths, len(events.values))


def _take(values_BTW: Tensor, places_BT: Tensor) -> Tensor:
    return values_BTW.gather(1, places_BT[:, :, None].expand_as(values_BTW))
