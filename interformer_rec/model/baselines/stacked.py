"""DHEN and Wukong: dense columns and lookups come in, logits go out, through layers of InterFormer's own interactions.

Both papers stack one block, Norm(Interaction(X) + shortcut(X)): interactions/dhen.py and wukong.py, built here for the tokens of
the fields. All dense columns are one token (a linear map), as in both papers.
"""

import itertools

import torch
from torch import Tensor, nn

from interformer_rec.config.baselines import DHENConfig, TowerActivation, WukongConfig
from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.model import Activation, InteractionConfig
from interformer_rec.model.baselines.fields import FieldVectors
from interformer_rec.model.baselines.tower import Tower
from interformer_rec.model.embedding.embedded import Embedded
from interformer_rec.model.interaction_arch import build_interaction
from interformer_rec.model.layers import Linear


class AllTokens(nn.Module):
    """(B, M) and Embedded -> (B, n, d), the token of the dense columns first."""

    def __init__(self, features: FeatureSchema, d: int) -> None:
        super().__init__()
        columns = len(features.dense)
        self.fields = FieldVectors(features, d, dense=False, fewest=1 if columns else 2)
        self.dense = Linear(columns, d) if columns else None
        self.count = self.fields.count + (columns > 0)

    def forward(self, dense_BM: Tensor, embedded: Embedded) -> Tensor:
        """Make all tokens."""
        vectors = self.fields(dense_BM, embedded)
        return vectors if self.dense is None else torch.cat([self.dense(dense_BM)[:, None], vectors], dim=1)


def _interaction_activation(name: TowerActivation) -> Activation:
    """The interactions' MLPs know activations without parameters only."""
    return name if name in ("silu", "gelu") else "relu"  # type: ignore[return-value]


class Stacked(nn.Module):
    """Layers of one interaction on the tokens, then an MLP of all tokens. `width`: tokens after each layer; None: as many as before."""

    def __init__(
        self,
        features: FeatureSchema,
        options: DHENConfig | WukongConfig,
        interaction: InteractionConfig,
        width: int | None = None,
    ) -> None:
        super().__init__()
        d = options.embedding_dim
        self.tokens = AllTokens(features, d)
        counts = [self.tokens.count, *[width or self.tokens.count] * options.layers]
        activation = _interaction_activation(options.activation)
        self.layers = nn.ModuleList(
            build_interaction(before, after, d, interaction, activation, options.dropout)
            for before, after in itertools.pairwise(counts)
        )
        self.tower = Tower(counts[-1] * d, options.hidden, len(features.labels), options.activation, options.dropout)

    def forward(self, dense_BM: Tensor, embedded: Embedded) -> Tensor:
        """(B, M) and Embedded -> (B, tasks) logits."""
        x = self.tokens(dense_BM, embedded)
        for layer in self.layers:
            x = layer(x)
        return self.tower(x.flatten(1))


class DHENModel(Stacked):
    """X^(l+1) = Norm(sum or concat of interactions(X^l) + shortcut(X^l)), then an MLP (Zhang et al. 2022, Sec. 3).

    Members by default DOT and DCN, as in InterFormer's table; norm: RMSNorm.
    """

    def __init__(self, features: FeatureSchema, options: DHENConfig) -> None:
        super().__init__(features, options, options.interaction)


class WukongModel(Stacked):
    """X^(l+1) = Norm([FMB(X^l) ; LCB(X^l)] + X^l), then an MLP (Zhang et al. 2024, Sec. 3).

    Norm: RMSNorm; Y of the optimised FM is learned, not computed from X; the shortcut is a linear map on the token axis, so
    that the number of tokens may change.
    """

    def __init__(self, features: FeatureSchema, options: WukongConfig) -> None:
        block = InteractionConfig(
            kind="wukong", fmb_tokens=options.fmb_tokens, fmb_rank=options.fmb_rank, hidden=options.fmb_hidden
        )
        super().__init__(features, options, block, options.fmb_tokens + options.lcb_tokens)
