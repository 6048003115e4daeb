"""The rectangle, a second layout of the same operators: histories padded at the OLD end, so that a place says an age.

In: (B,) counts and how many places each group has; out: where tokens lie, and the operators that the jagged layout has. No shape depends
on data (no nonzero, no unique, no buckets) and nothing is complex, so a model in this layout can be exported. An operator takes either
layout; this one is for answers, the jagged one for training.

Legend: B samples, c CLS tokens a sample, G groups of events, T places of all groups, N = c + T tokens, K newest events.

    counts 2, 0, 1 and 3 places    C . a b | C . . . | C . . d     what stands at a dot is never read
"""

from collections.abc import Sequence
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from interformer_rec.ops.padding.windowed import window_mask, windowed_attention

HIDDEN = -1e30  # added to the scores of tokens that take no part: finite, so that a sample without events has no NaN


def event_mask(counts_B: Tensor, places: int) -> Tensor:
    """(B, T) bool: the newest `counts[b]` places."""
    age = places - 1 - torch.arange(places, device=counts_B.device)
    return age < counts_B[:, None]


def masked(values_BTW: Tensor, mask_BT: Tensor) -> Tensor:
    """Zeros, whatever was there, where the mask is False."""
    return torch.where(mask_BT[:, :, None], values_BTW, values_BTW.new_zeros(()))


def newest_places(counts_B: Tensor, end: int, recent: int) -> tuple[Tensor, Tensor]:
    """Places of the K newest events before `end`, newest first (K,), and which of them exist (B, K)."""
    back = torch.arange(recent, device=counts_B.device)
    return (end - 1 - back).clamp(min=0), back < counts_B[:, None]


class RectangleLayout:
    """Where the tokens of B samples lie: c CLS tokens, then `places[g]` places for each group, of which the last counts[b, g] are events.

    `parts`: "the newest events" are each group's; otherwise those of all groups as one history, the last group the newest.
    """

    def __init__(self, counts_BG: Tensor, places: Sequence[int], cls: int, parts: bool = True) -> None:
        self.counts_BG, self.places, self.cls, self.parts = counts_BG, tuple(places), cls, parts

    @cached_property
    def lengths(self) -> Tensor:
        """(B,) events."""
        return self.counts_BG.sum(1)

    @cached_property
    def is_event(self) -> Tensor:
        """(B, T) bool."""
        groups = zip(self.counts_BG.unbind(1), self.places, strict=True)
        return torch.cat([event_mask(counts, places) for counts, places in groups], dim=1)

    @cached_property
    def is_token(self) -> Tensor:
        """(B, N) bool."""
        return F.pad(self.is_event, (self.cls, 0), value=True)

    @cached_property
    def ages(self) -> Tensor:
        """(N,) 0 for the newest place of its group; CLS tokens: 0, they do not turn."""
        device = self.counts_BG.device
        groups = [places - 1 - torch.arange(places, device=device) for places in self.places]
        return torch.cat([torch.zeros(self.cls, dtype=torch.int64, device=device), *groups])

    def prepend(self, cls_BcD: Tensor, events_BTD: Tensor) -> Tensor:
        """(B, c, d) and (B, T, d) -> (B, N, d)."""
        return torch.cat([cls_BcD, masked(events_BTD, self.is_event)], dim=1)

    def take_summary(self, values_BND: Tensor, recent: int) -> Tensor:
        """(B, N, d) -> (B, c + G * recent, d): the CLS tokens, then each group's newest events, newest first; zeros where missing."""
        taken = [values_BND[:, : self.cls]]
        if not self.parts and len(self.places) > 1:
            return torch.cat([*taken, self._newest_of_all(values_BND, recent)], dim=1)
        end = self.cls
        for counts, places in zip(self.counts_BG.unbind(1), self.places, strict=True):
            end = end + places
            rows, exist = newest_places(counts, end, recent)
            taken.append(masked(values_BND.index_select(1, rows), exist))
        return torch.cat(taken, dim=1)

    def _newest_of_all(self, values_BND: Tensor, recent: int) -> Tensor:
        """(B, recent, d): the newest of the last group, then of the one before, ..."""
        back = torch.arange(recent, device=values_BND.device).expand(values_BND.shape[0], -1)
        rows, end = torch.zeros_like(back), self.cls + sum(self.places)
        newer = torch.zeros_like(self.lengths)[:, None]
        for counts, places in zip(reversed(self.counts_BG.unbind(1)), reversed(self.places), strict=True):
            rows = torch.where(back >= newer, end - 1 - (back - newer), rows)
            newer, end = newer + counts[:, None], end - places
        rows = rows.clamp(min=0)[:, :, None].expand(-1, -1, values_BND.shape[2])
        return masked(values_BND.gather(1, rows), back < self.lengths[:, None])

    @cached_property
    def in_turn(self) -> tuple[Tensor, Tensor]:
        """(B, T) places of all events side by side at the new end, behind places without one; and the inverse. For several groups."""
        event = self.is_event
        behind = event.flip(1).cumsum(1).flip(1)  # events from here on
        before = (~event).cumsum(1) - 1
        place = torch.where(event, event.shape[1] - behind, before)
        source = torch.arange(event.shape[1], device=event.device).expand_as(place)
        return torch.zeros_like(place).scatter(1, place, source), place

    def attention(self, q_BNHC: Tensor, k_BNHC: Tensor, v_BNHC: Tensor, window: int | None = None) -> Tensor:
        """Bidirectional multi-head attention between a sample's tokens -> (B, N, H, C); `window`: see ops.attention."""
        if window is not None:
            return self._windowed(q_BNHC, k_BNHC, v_BNHC, window)
        return self._masked(q_BNHC, k_BNHC, v_BNHC, self.is_token[:, None, None, :])

    def _masked(self, q_BNHC: Tensor, k_BNHC: Tensor, v_BNHC: Tensor, keep: Tensor) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q_BNHC, k_BNHC, v_BNHC))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=keep).transpose(1, 2)

    def _windowed(self, q_BNHC: Tensor, k_BNHC: Tensor, v_BNHC: Tensor, window: int) -> Tensor:
        """Neighbours are those among the events that exist: several groups are put side by side first.

        A graph, whose T may be any number, has one product with a mask, whose cost grows with the square of T.
        """
        if torch.compiler.is_exporting():
            return self._masked(q_BNHC, k_BNHC, v_BNHC, self._near(window)[:, None])
        gaps = len(self.places) > 1
        cached = self.__dict__.setdefault("_window_mask_cache", {})
        key = window, v_BNHC.dtype
        if key not in cached:
            is_event = self.is_event.gather(1, self.in_turn[0]) if gaps else self.is_event
            is_token = F.pad(is_event, (self.cls, 0), value=True)
            cached[key] = window_mask(is_token, (v_BNHC.shape[0], v_BNHC.shape[1]), self.cls, window, v_BNHC)
        if not gaps:
            return windowed_attention(q_BNHC, k_BNHC, v_BNHC, self.cls, cached[key])
        side_by_side, back = self.in_turn
        q, k, v = (self._moved(x, side_by_side) for x in (q_BNHC, k_BNHC, v_BNHC))
        return self._moved(windowed_attention(q, k, v, self.cls, cached[key]), back)

    def _near(self, window: int) -> Tensor:
        """(B, N, N) bool: which key (column) a query (row) sees."""
        number = self.is_token.to(torch.int64).cumsum(1)
        is_cls = torch.arange(self.is_token.shape[1], device=number.device) < self.cls
        near = (number[:, :, None] - number[:, None, :]).abs() <= window
        return (near | is_cls | is_cls[:, None]) & self.is_token[:, None]

    def _moved(self, x_BNHC: Tensor, places_BT: Tensor) -> Tensor:
        """The events in another order."""
        index = places_BT[:, :, None, None].expand(-1, -1, *x_BNHC.shape[2:])
        return torch.cat([x_BNHC[:, : self.cls], x_BNHC[:, self.cls :].gather(1, index)], dim=1)

    def attention_pool(self, maps_KD: Tensor, values_BND: Tensor) -> Tensor:
        """K weighted sums of each sample's events, zeros where it has none -> (B, K, d)."""
        events = values_BND[:, self.cls :]
        scores = F.linear(events, maps_KD).transpose(1, 2)
        scores = torch.where(self.is_event[:, None], scores, HIDDEN)
        pooled = torch.bmm(scores.softmax(-1), events)
        return pooled * (self.lengths > 0)[:, None, None].to(pooled.dtype)

    def mean(self, events_BTD: Tensor) -> Tensor:
        """(B, T, d) -> (B, d): of the events; zeros where there is none."""
        total = masked(events_BTD, self.is_event).sum(1)
        return total / self.lengths.clamp(min=1)[:, None].to(total.dtype)


def turns(ages_N: Tensor, channels: int, base: float, dtype: torch.dtype) -> Tensor:
    """(N,) ages -> (N, 1, channels / 2, 2): cosine and sine of rotary.rotary_table's angles."""
    frequency = base ** (-torch.arange(0, channels, 2, device=ages_N.device, dtype=torch.float64) / channels)
    angle = ages_N.to(torch.float64)[:, None] * frequency
    return torch.stack([angle.cos(), angle.sin()], dim=-1).to(dtype)[:, None]


def turn(x_BNHC: Tensor, table: Tensor) -> Tensor:
    """Each head's channel pairs turned by its token's age, as rotary.rotate does it, without complex numbers."""
    real, imaginary = x_BNHC.unflatten(-1, (-1, 2)).unbind(-1)
    cosine, sine = table.unbind(-1)
    return torch.stack([real * cosine - imaginary * sine, real * sine + imaginary * cosine], dim=-1).flatten(-2)
