"""FM: dense columns and lookups come in, logits go out (Rendle 2010, ICDM; Eq. 1, summed in linear time as in Lemma 3.1)."""

from torch import Tensor, nn

from interformer_rec.config.baselines import FMConfig
from interformer_rec.config.features import FeatureSchema
from interformer_rec.model.baselines.fields import FieldVectors
from interformer_rec.model.baselines.first_order import FirstOrder
from interformer_rec.model.embedding.embedded import Embedded


class FM(nn.Module):
    """w_0 + sum_i w_i x_i + sum_{i<j} <v_i, v_j> x_i x_j. First-order terms: see FirstOrder; the second order serves all tasks."""

    def __init__(self, features: FeatureSchema, options: FMConfig) -> None:
        super().__init__()
        self.fields = FieldVectors(features, options.embedding_dim)
        self.first_order = FirstOrder(self.fields.count, options.embedding_dim, len(features.labels))

    def forward(self, dense_BM: Tensor, embedded: Embedded) -> Tensor:
        """(B, M) and Embedded -> (B, tasks) logits."""
        vectors = self.fields(dense_BM, embedded)
        pairs = (vectors.sum(1).square() - vectors.square().sum(1)).sum(1, keepdim=True) / 2
        return self.first_order(vectors) + pairs
