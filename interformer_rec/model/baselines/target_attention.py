"""DIN's activation unit: queries and events come in, a score an event goes out; DMIN scores with it too."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interformer_rec.config.baselines import TowerActivation
from interformer_rec.model.baselines.tower import Tower, activation_of
from interformer_rec.model.layers import Linear


class ActivationUnit(nn.Module):
    """MLP([q ; k ; q - k ; q * k]) -> 1 (Zhou et al. 2018, Fig. 2; the inputs of its code), 80-40-1 by default.

    The first map is split by its inputs: W [q ; k ; q - k ; q * k] = (W_1 + W_3) q + (W_2 - W_3) k + W_4 (q * k). What depends
    on q alone is computed once a query and then spread over the events: the same numbers for half the products.
    """

    def __init__(self, width: int, hidden: Sequence[int], activation: TowerActivation) -> None:
        super().__init__()
        self.first = Linear(4 * width, hidden[0])
        self.rest = nn.Sequential(activation_of(activation, hidden[0]), Tower(hidden[0], hidden[1:], 1, activation))

    def forward(self, queries_QW: Tensor, keys_EW: Tensor, spread: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """(Q, W) queries and (E, W) events -> (E,) scores; of a rectangle (B, T, W) -> (B, T).

        `spread` brings (Q, ...) to (E, ...); None: Q is E already.
        """
        w_q, w_k, w_minus, w_times = self.first.weight.chunk(4, dim=1)
        of_query = F.linear(queries_QW, w_q + w_minus, self.first.bias)
        queries = queries_QW
        if spread is not None:
            of_query, queries = spread(of_query), spread(queries)
        of_key = torch.cat([keys_EW, queries * keys_EW], dim=-1) @ torch.cat([w_k - w_minus, w_times], dim=1).t()
        hidden = of_query + of_key
        return self.rest(hidden.reshape(-1, hidden.shape[-1])).view(hidden.shape[:-1])  # PReLU's channels are axis 1
