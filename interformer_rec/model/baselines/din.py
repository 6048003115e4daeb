"""DIN: dense columns, fields and histories come in, logits go out (Zhou et al. 2018, KDD)."""

from torch import Tensor, nn

from interformer_rec.config.baselines import DINConfig
from interformer_rec.config.features import FeatureSchema
from interformer_rec.model.baselines.aligned import layout_of
from interformer_rec.model.baselines.histories import HistoryModel
from interformer_rec.model.baselines.target_attention import ActivationUnit
from interformer_rec.model.embedding.embedded import Events


class WeightedSum(nn.Module):
    """v_U(A) = sum_j a(e_j, v_A) e_j (Eq. 3): weights of the activation unit, no softmax; zeros without events."""

    def __init__(self, width: int, options: DINConfig) -> None:
        super().__init__()
        self.unit = ActivationUnit(width, options.attention, options.activation)
        self.width = width

    def forward(self, events: Events, candidate_BW: Tensor) -> tuple[Tensor, None]:
        """-> (B, W)."""
        layout = layout_of(events)
        weights = self.unit(candidate_BW, events.values, layout.repeat)
        return layout.sum(weights[..., None] * events.values), None


class DIN(HistoryModel):
    """MLP 200-80 of the weighted sums and all fields. Unit 80-40, PReLU."""

    def __init__(self, features: FeatureSchema, options: DINConfig) -> None:
        super().__init__(features, options, lambda width, longest: WeightedSum(width, options))
