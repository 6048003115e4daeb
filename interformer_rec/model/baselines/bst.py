"""BST: dense columns, fields and histories come in, logits go out (Chen et al. 2019, DLP-KDD)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interformer_rec.config.baselines import BSTConfig
from interformer_rec.config.features import FeatureSchema
from interformer_rec.errors import InputError
from interformer_rec.model.baselines.aligned import layout_of
from interformer_rec.model.baselines.histories import HistoryModel
from interformer_rec.model.baselines.positions import Positions
from interformer_rec.model.baselines.transformer import TransformerBlocks
from interformer_rec.model.embedding.embedded import Events

# numbers that `concat` may lay side by side: the first layer of the head has 1,024 weights for each
MOST_WIDE = 1 << 18


class BehaviorTransformer(nn.Module):
    """One history: transformer blocks with LeakyReLU (Eq. 2-6) over its events and the candidate, then pooling.

    Positions count back from the candidate; the paper's positions are time gaps, which not every history has. `concat` puts the
    outputs side by side by age, zeros where a history is shorter than `longest`.
    """

    def __init__(self, width: int, longest: int, options: BSTConfig) -> None:
        super().__init__()
        self.positions = Positions(longest, width)
        self.candidate_position = nn.Parameter(torch.randn(width) / math.sqrt(width))
        self.blocks = TransformerBlocks(
            width, options.layers, options.heads, options.feedforward, options.dropout, F.leaky_relu
        )
        self.pooling, self.longest = options.pooling, longest
        self.width = width * (longest + 1) if options.pooling == "concat" else width
        if self.width > MOST_WIDE:
            raise InputError(
                f"model.pooling: concat gives the head {self.width:,} numbers a row, (max_length {longest:,} + 1) x {width}; at most "
                f"{MOST_WIDE:,} can be. Set max_length to {MOST_WIDE // width - 1:,} or less, or model.pooling: mean"
            )

    def forward(self, events: Events, candidate_BW: Tensor) -> tuple[Tensor, None]:
        """-> (B, self.width)."""
        layout = layout_of(events)
        tokens = layout.pad(events.values + self.positions(layout))
        tokens = torch.cat([(candidate_BW + self.candidate_position)[:, None], tokens], dim=1)
        out = self.blocks(tokens, F.pad(layout.mask, (1, 0), value=True))
        of_candidate, of_events = out[:, 0], layout.unpad(out[:, 1:])
        if self.pooling == "candidate":
            return of_candidate, None
        if self.pooling == "mean":
            return (of_candidate + layout.sum(of_events)) / (layout.lengths + 1)[:, None], None
        return torch.cat([of_candidate[:, None], layout.newest(of_events, self.longest)], dim=1).flatten(1), None


class BST(HistoryModel):
    """MLP 1024-512-256 of the transformers' outputs and all fields. Paper: 1 block, 8 heads, LeakyReLU."""

    def __init__(self, features: FeatureSchema, options: BSTConfig) -> None:
        super().__init__(features, options, lambda width, longest: BehaviorTransformer(width, longest, options))
