"""What a model adds to the training loss, and the loss that predicts the next event (DIEN, DMIN).

A model in training mode may return Supervised instead of logits; task.py adds the second part to the objective. Legend: B
samples, E events, W channels.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from interformer_rec.model.baselines.padded import PaddedLayout


class Supervised(NamedTuple):
    """Logits, and what else each sample's loss has; both are weighted with the samples' weights."""

    logits: Tensor  # (B, tasks)
    auxiliary: Tensor  # (B,)


def drawn_events(events_EW: Tensor, count: int) -> Tensor:
    """(count, W) events of the batch, drawn with replacement from torch's global generator: negatives."""
    return events_EW.index_select(0, torch.randint(max(len(events_EW), 1), (count,), device=events_EW.device))


def next_event_loss(states_EW: Tensor, events_EW: Tensor, layout: PaddedLayout) -> Tensor:
    """-log sigmoid(<h_t, e_(t+1)>) - log(1 - sigmoid(<h_t, e'>)), e' another event of the batch: (E, W) twice -> (B,).

    Zhou et al. 2019 (DIEN), Eq. 6, averaged over a sample's steps, so that long histories do not outweigh the labels; 0 for
    histories of fewer than two events.
    """
    steps = (layout.age > 0).nonzero().squeeze(1)  # the newest event has no next one
    states = states_EW.index_select(0, steps)
    next_ones = events_EW.index_select(0, steps + 1)
    others = drawn_events(events_EW, steps.numel())
    losses = F.softplus(-(states * next_ones).sum(1)) + F.softplus((states * others).sum(1))
    sums = losses.new_zeros(layout.size).index_add(0, layout.sample[steps], losses)
    return sums / (layout.lengths - 1).clamp(min=1)
