"""AUGRU, a GRU whose update gate is scaled by attention: states and weights of padded events come in, the last state goes out."""

import math

import torch
from torch import Tensor, nn


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
