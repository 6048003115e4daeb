"""DMR: dense columns, fields and histories come in, logits go out, with an auxiliary loss in training (Lyu et al. 2020, AAAI)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interformer_rec.config.baselines import DMRConfig
from interformer_rec.config.features import FeatureSchema
from interformer_rec.model.baselines.aligned import layout_of
from interformer_rec.model.baselines.auxiliary import drawn_events
from interformer_rec.model.baselines.histories import HistoryModel
from interformer_rec.model.baselines.padded import PaddedLayout
from interformer_rec.model.baselines.positions import Positions
from interformer_rec.model.embedding.embedded import Events
from interformer_rec.model.layers import Linear


class AdditiveScores(nn.Module):
    """z^T tanh(W_p p_t + W_e e_t (+ W_c c) + b) for each event: (E, W), ages and perhaps a candidate -> (E,)."""

    def __init__(self, width: int, longest: int, position_dim: int, candidate: bool) -> None:
        super().__init__()
        self.positions = Positions(longest, position_dim)
        self.of_position = Linear(position_dim, width, bias=False)
        self.of_event = Linear(width, width)
        self.of_candidate = Linear(width, width, bias=False) if candidate else None
        self.z = Linear(width, 1, bias=False)

    def forward(self, events_EW: Tensor, layout: PaddedLayout, candidate_BW: Tensor | None = None) -> Tensor:
        """Score."""
        inner = self.of_event(events_EW) + self.of_position(self.positions(layout))
        if self.of_candidate is not None and candidate_BW is not None:
            inner = inner + layout.repeat(self.of_candidate(candidate_BW))
        return self.z(torch.tanh(inner)).squeeze(-1)


class UserToItem(nn.Module):
    """r = <u, v'>, u = PReLU(W sum_t softmax(a)_t e_t) (User-to-Item network), and the auxiliary match network.

    The paper has a second item table V' for v'; here v' is a learned linear map of the one table's vectors.
    """

    def __init__(self, width: int, longest: int, options: DMRConfig) -> None:
        super().__init__()
        self.scores = AdditiveScores(width, longest, options.position_dim, candidate=False)
        self.user = nn.Sequential(Linear(width, width), nn.PReLU(width))
        self.item = Linear(width, width, bias=False)
        self.negatives = options.negatives

    def forward(self, events_EW: Tensor, candidate_BW: Tensor, layout: PaddedLayout) -> tuple[Tensor, Tensor]:
        """-> relevance (B, 1) and the scores (E,)."""
        scores = self.scores(events_EW, layout)
        user = self.user(layout.sum(layout.softmax(scores)[..., None] * events_EW))
        return (user * self.item(candidate_BW)).sum(1, keepdim=True), scores

    def match_loss(self, events_EW: Tensor, scores_E: Tensor, layout: PaddedLayout) -> Tensor:
        """-log s(<u_(T-1), v'_T>) - 1/k sum_j log s(-<u_(T-1), v'_j>): (B,), 0 for histories of fewer than two events.

        u_(T-1) is the user before the newest event; the k negatives are events of the batch, one draw for all samples.
        """
        newest = layout.age == 0
        before = layout.softmax(scores_E.masked_fill(newest, torch.finfo(scores_E.dtype).min))
        user = self.user(layout.sum(before.masked_fill(newest, 0)[:, None] * events_EW))
        follower = self.item(layout.newest(events_EW, 1).squeeze(1))
        losses = F.softplus(-(user * follower).sum(1))
        if len(events_EW):
            others = self.item(drawn_events(events_EW, self.negatives))
            losses = losses + F.softplus(user @ others.t()).mean(1)
        return losses * (layout.lengths > 1)


class MatchToRank(nn.Module):
    """One history: user-to-item relevance, item-to-item relevance and interest."""

    def __init__(self, width: int, longest: int, options: DMRConfig) -> None:
        super().__init__()
        self.width, self.auxiliary = width + 2, options.auxiliary
        self.user_to_item = UserToItem(width, longest, options)
        self.item_to_item = AdditiveScores(width, longest, options.position_dim, candidate=True)

    def forward(self, events: Events, candidate_BW: Tensor) -> tuple[Tensor, Tensor | None]:
        """-> (B, W + 2): sum_t softmax(a^)_t e_t, sum_t a^_t and <u, v'>; in training the match loss (B,)."""
        layout = layout_of(events)
        relevance, user_scores = self.user_to_item(events.values, candidate_BW, layout)
        scores = self.item_to_item(events.values, layout, candidate_BW)
        interest = layout.sum(layout.softmax(scores)[..., None] * events.values)
        loss = None
        if self.training and self.auxiliary:
            loss = self.auxiliary * self.user_to_item.match_loss(events.values, user_scores, layout)
        return torch.cat([interest, layout.sum(scores[..., None]), relevance], dim=1), loss


class DMR(HistoryModel):
    """[interest ; r_i2i ; r_u2i of each history ; fields] -> MLP 512-256-128, PReLU; L = L_target + 0.1 L_match."""

    def __init__(self, features: FeatureSchema, options: DMRConfig) -> None:
        super().__init__(features, options, lambda width, longest: MatchToRank(width, longest, options))
