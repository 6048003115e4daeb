"""TransAct: dense columns, fields and histories come in, logits go out (Xia et al. 2023, KDD)."""

import torch
from torch import Tensor, nn

from interformer_rec.config.baselines import TransActConfig
from interformer_rec.config.features import FeatureSchema
from interformer_rec.model.baselines.aligned import layout_of
from interformer_rec.model.baselines.dcnv2 import ParallelCross
from interformer_rec.model.baselines.histories import HistoryModel
from interformer_rec.model.baselines.transformer import TransformerBlocks
from interformer_rec.model.embedding.embedded import Events
from interformer_rec.model.layers import Linear


class ActionTransformer(nn.Module):
    """One history: a transformer over [event ; candidate] (early fusion), its newest outputs and their maximum.

    The maximum goes through a linear map, as in the authors' code. An empty history is one event of zeros, as there. The random
    time window of the paper's training is left out: it keeps an online loop from feeding on itself, and needs times.
    """

    def __init__(self, width: int, options: TransActConfig) -> None:
        super().__init__()
        self.newest = options.newest
        self.blocks = TransformerBlocks(2 * width, options.layers, options.heads, options.feedforward, options.dropout)
        self.out = Linear(2 * width, 2 * width)
        self.width = (options.newest + 1) * 2 * width

    def forward(self, events: Events, candidate_BW: Tensor) -> tuple[Tensor, None]:
        """-> (B, self.width)."""
        layout = layout_of(events)
        candidates = candidate_BW[:, None].expand(-1, layout.width, -1)
        mask = layout.mask | (torch.arange(layout.width, device=layout.mask.device) == 0)
        out = self.blocks(torch.cat([layout.pad(events.values), candidates], dim=2), mask)
        highest = out.masked_fill(~mask[:, :, None], torch.finfo(out.dtype).min).amax(1)
        newest = layout.newest(layout.unpad(out), self.newest)
        return torch.cat([newest.flatten(1), self.out(highest)], dim=1), None


class TransAct(HistoryModel):
    """DCN V2 of the transformers' outputs and all fields. Authors' code: 2 blocks, 2 heads, FFN 32, the 10 newest."""

    def __init__(self, features: FeatureSchema, options: TransActConfig) -> None:
        super().__init__(features, options, lambda width, longest: ActionTransformer(width, options), ParallelCross)
