"""DIEN: dense columns, fields and histories come in, logits go out, with an auxiliary loss in training (Zhou et al. 2019, AAAI)."""

import math

import torch
from torch import Tensor, nn

from interformer_rec.config.baselines import DIENConfig
from interformer_rec.config.features import FeatureSchema
from interformer_rec.model.baselines.aligned import layout_of
from interformer_rec.model.baselines.auxiliary import next_event_loss
from interformer_rec.model.baselines.histories import HistoryModel
from interformer_rec.model.embedding.embedded import Events
from interformer_rec.model.layers import fan_in_


class AUGRU(nn.Module):
    """u' = a_t u_t, h_t = (1 - u') h_(t-1) + u' h~_t; u, r and h~ as in a GRU (Zhou et al. 2019, Eq. 2-5 and 11-12).

    A weight of 0 leaves the state as it is, so padding needs no mask. Starts as torch.nn.GRU.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inputs = nn.Linear(width, 3 * width)  # u, r, h~
        self.gates = nn.Linear(width, 2 * width, bias=False)  # U_u, U_r
        self.state = nn.Linear(width, width, bias=False)  # U_h
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -1 / math.sqrt(width), 1 / math.sqrt(width))

    def forward(self, states_BTW: Tensor, weights_BT: Tensor) -> Tensor:
        """(B, T, W) and (B, T), 0 at padding -> (B, W)."""
        width = states_BTW.shape[2]
        gates_TBV, candidates_TBW = self.inputs(states_BTW.transpose(0, 1)).split([2 * width, width], dim=2)
        h = states_BTW.new_zeros(states_BTW.shape[0], width)
        steps = zip(gates_TBV.unbind(0), candidates_TBW.unbind(0), weights_BT.t()[:, :, None].unbind(0), strict=True)
        for gates, candidate, weight in steps:
            update, reset = torch.sigmoid(gates + self.gates(h)).chunk(2, dim=1)
            candidate = torch.tanh(torch.addcmul(candidate, reset, self.state(h)))
            h = h + weight * update * (candidate - h)
        return h


class InterestEvolution(nn.Module):
    """One history: a GRU extracts an interest an event (Eq. 2-5), attention a_t = softmax(h_t W e_a) (Eq. 8) drives an AUGRU.

    The state is as wide as an event, as in the paper, so that the auxiliary loss can compare the two.
    """

    def __init__(self, width: int, auxiliary: float) -> None:
        super().__init__()
        self.width, self.auxiliary = width, auxiliary
        self.extractor = nn.GRU(width, width, batch_first=True)
        self.attention = nn.Parameter(fan_in_(torch.empty(width, width), width))
        self.evolution = AUGRU(width)

    def forward(self, events: Events, candidate_BW: Tensor) -> tuple[Tensor, Tensor | None]:
        """-> the final interest (B, W), zeros without events; in training the auxiliary loss (B,)."""
        layout = layout_of(events)
        states = self.extractor(layout.pad(events.values))[0]  # it reads left to right: padding comes last
        scores = torch.bmm(states, (candidate_BW @ self.attention.t())[:, :, None]).squeeze(2)
        weights = scores.masked_fill(~layout.mask, torch.finfo(scores.dtype).min).softmax(1) * layout.mask
        loss = None
        if self.training and self.auxiliary:
            loss = self.auxiliary * next_event_loss(layout.unpad(states), events.values, layout)
        return self.evolution(states, weights), loss


class DIEN(HistoryModel):
    """[h'_T of each history ; fields] -> MLP 200-80, PReLU; L = L_target + alpha L_aux, alpha 1 (Eq. 6-7)."""

    def __init__(self, features: FeatureSchema, options: DIENConfig) -> None:
        super().__init__(features, options, lambda width, longest: InterestEvolution(width, options.auxiliary))
