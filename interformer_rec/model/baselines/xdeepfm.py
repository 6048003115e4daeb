"""xDeepFM: dense columns and lookups come in, logits go out (Lian et al. 2018, KDD)."""

from torch import Tensor, nn

from interformer_rec.config.baselines import XDeepFMConfig
from interformer_rec.config.features import FeatureSchema
from interformer_rec.model.baselines.cin import CIN
from interformer_rec.model.baselines.fields import FieldVectors
from interformer_rec.model.baselines.first_order import FirstOrder
from interformer_rec.model.baselines.tower import Tower
from interformer_rec.model.embedding.embedded import Embedded
from interformer_rec.model.layers import Linear


class XDeepFM(nn.Module):
    """w_linear a + w_dnn x_dnn + w_cin p + b (Eq. 9). Paper: three CIN layers of 200 maps, MLP of 400 wide layers, d 10."""

    def __init__(self, features: FeatureSchema, options: XDeepFMConfig) -> None:
        super().__init__()
        self.fields = FieldVectors(features, options.embedding_dim)
        n, d, tasks = self.fields.count, options.embedding_dim, len(features.labels)
        self.first_order = FirstOrder(n, d, tasks)
        self.cin = CIN(n, options.cin)
        self.cin_out = Linear(self.cin.width, tasks, bias=False)
        self.tower = Tower(n * d, options.hidden, tasks, options.activation, options.dropout)

    def forward(self, dense_BM: Tensor, embedded: Embedded) -> Tensor:
        """(B, M) and Embedded -> (B, tasks) logits."""
        vectors = self.fields(dense_BM, embedded)
        return self.first_order(vectors) + self.tower(vectors.flatten(1)) + self.cin_out(self.cin(vectors))
