"""DMIN: dense columns, fields and histories come in, logits go out, with an auxiliary loss in training (Xiao et al. 2020, CIKM)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interformer_rec.config.baselines import DMINConfig
from interformer_rec.config.features import FeatureSchema
from interformer_rec.model.baselines.aligned import layout_of
from interformer_rec.model.baselines.auxiliary import next_event_loss
from interformer_rec.model.baselines.histories import HistoryModel
from interformer_rec.model.baselines.padded import PaddedLayout, by_length
from interformer_rec.model.baselines.positions import Positions
from interformer_rec.model.baselines.target_attention import ActivationUnit
from interformer_rec.model.baselines.tower import Tower
from interformer_rec.model.baselines.transformer import check_heads
from interformer_rec.model.embedding.embedded import Events
from interformer_rec.model.layers import Linear


class CausalHeads(nn.Module):
    """The heads of causal self-attention, before any output map: (E, W) -> (E, H, W / H).

    Causal, so that the auxiliary loss does not see the next event; padding comes last and needs no mask.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(width, 3 * width, bias=False)

    def forward(self, events_EW: Tensor, layout: PaddedLayout) -> Tensor:
        """Attend within each sample."""

        def attend(qkv: Tensor, _: Tensor) -> Tensor:
            q, k, v = qkv.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (b, H, t, W / H) each
            return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)

        attended = by_length(layout.pad(self.qkv(events_EW)), layout.lengths, attend)
        return layout.unpad(attended).unflatten(-1, (self.heads, -1))


class FeedForward(nn.Module):
    """y + W_2 relu(W_1 y), y = LayerNorm(x + a): what follows an attention's output a, (E, W) -> (E, W)."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mlp = Tower(width, (2 * width,), width, "relu")
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_EW: Tensor, attended_EW: Tensor) -> Tensor:
        """Residual, norm, FFN, residual."""
        y = self.norm(x_EW + self.dropout(attended_EW))
        return y + self.mlp(y)


class Interest(nn.Module):
    """One interest: head h's output map, FFN, and attention of the candidate at each position over what comes out."""

    def __init__(self, width: int, longest: int, options: DMINConfig) -> None:
        super().__init__()
        self.out = Linear(width // options.heads, width, bias=False)
        self.feed_forward = FeedForward(width, options.dropout)
        self.positions = Positions(longest, options.position_dim)
        self.of_candidate = Linear(width, width)
        self.of_position = Linear(options.position_dim, width, bias=False)
        self.unit = ActivationUnit(width, options.attention, "relu")

    def forward(self, refined_EW: Tensor, head_EC: Tensor, candidate_BW: Tensor, layout: PaddedLayout) -> Tensor:
        """-> (B, W), zeros without events."""
        z = self.feed_forward(refined_EW, self.out(head_EC))
        queries = layout.repeat(self.of_candidate(candidate_BW)) + self.of_position(self.positions(layout))
        weights = layout.softmax(self.unit(queries, z))
        return layout.sum(weights[..., None] * z)


class MultiInterest(nn.Module):
    """One history: the behaviour refiner, then the multi-interest extractor, one interest a head."""

    def __init__(self, width: int, longest: int, options: DMINConfig) -> None:
        super().__init__()
        check_heads(options.heads, width)
        self.width, self.auxiliary = options.heads * width, options.auxiliary
        self.refiner = CausalHeads(width, options.heads)
        self.refiner_out = Linear(width, width, bias=False)
        self.refiner_feed_forward = FeedForward(width, options.dropout)
        self.extractor = CausalHeads(width, options.heads)
        self.interests = nn.ModuleList(Interest(width, longest, options) for _ in range(options.heads))

    def forward(self, events: Events, candidate_BW: Tensor) -> tuple[Tensor, Tensor | None]:
        """-> interests (B, H * W), zeros without events; in training the auxiliary loss (B,)."""
        layout = layout_of(events)
        attended = self.refiner_out(self.refiner(events.values, layout).flatten(-2))
        refined = self.refiner_feed_forward(events.values, attended)
        heads = self.extractor(refined, layout).unbind(-2)
        interests = [
            interest(refined, head, candidate_BW, layout) for interest, head in zip(self.interests, heads, strict=True)
        ]
        loss = None
        if self.training and self.auxiliary:
            loss = self.auxiliary * next_event_loss(refined, events.values, layout)
        return torch.cat(interests, dim=1), loss


class DMIN(HistoryModel):
    """[interests of each history ; fields] -> MLP 200-80. Authors' code: 4 heads, units 80-40, FFN 2 W, PReLU.

    The auxiliary loss is DIEN's, on the refined events.
    """

    def __init__(self, features: FeatureSchema, options: DMINConfig) -> None:
        super().__init__(features, options, lambda width, longest: MultiInterest(width, longest, options))
