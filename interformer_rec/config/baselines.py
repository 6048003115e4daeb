"""The options of every model kind. In: the `model:` part of a run's YAML, whose `kind` chooses; InterFormer where it is silent. No torch.

Beside InterFormer these are the comparison systems of model/baselines/, with their papers' defaults. Where those were measured to be
worse here and cost more (benchmarks/quality, docs/decisions/0013-quality-study.md), the defaults are the study's, and the paper's are in
the description.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from interformer_rec.config.model import InteractionConfig, ModelConfig, Tokens, TokensOrNone
from interformer_rec.config.strict import Depth, Strict, Weight, Width, Widths

TowerActivation = Literal["relu", "leaky_relu", "prelu", "silu", "gelu"]
# Kinds give these other defaults.
Hidden = Annotated[Widths, Field(description="hidden widths of the MLP")]
HiddenActivation = Annotated[TowerActivation, Field(description="of the hidden units of the MLP")]
Layers = Annotated[Depth, Field(description="layers before the MLP or the sum")]
CrossLayers = Annotated[Depth, Field(description="layers of the cross network")]
Heads = Annotated[Depth, Field(description="of attention")]
Auxiliary = Annotated[
    Weight,
    Field(
        description="weight of the loss that predicts the next event; paper: 1, which drags the tables to the next event"
    ),
]


class _Fields(Strict):
    """Kinds that know no events: a history is one more field a column, the mean of its events."""

    needs_sequences: ClassVar[bool] = False
    ensemble_members: ClassVar[int] = 1
    embedding_dim: Width = Field(16, description="floats a table row; a table may override it")
    embedding_std: float = Field(
        0.01, gt=0, le=1e3, description="deviation of new rows' floats; nothing normalises them here"
    )


class _Tower(_Fields):
    """Kinds with an MLP."""

    hidden: Hidden = (400, 400)
    dropout: float = Field(0.0, ge=0, lt=1, description="on the hidden units of the MLP")
    activation: HiddenActivation = "relu"


class _Events(_Tower):
    """Kinds that read histories event by event, from the candidate's point of view."""

    needs_sequences: ClassVar[bool] = True
    hidden: Hidden = (200, 80)
    activation: HiddenActivation = "prelu"


class FMConfig(_Fields):
    """Factorization machine (Rendle, ICDM 2010)."""

    kind: Literal["fm"] = "fm"


class FmFMConfig(_Fields):
    """Field-matrixed factorization machine (Sun et al., WWW 2021)."""

    kind: Literal["fmfm"] = "fmfm"


class XDeepFMConfig(_Tower):
    """xDeepFM (Lian et al., KDD 2018). CIN costs B * d * H_k * H_(k-1) * n."""

    kind: Literal["xdeepfm"] = "xdeepfm"
    cin: Widths = Field((32, 32), min_length=1, description="feature maps of each CIN layer; paper: 200, 200, 200")


class AutoIntConfig(_Tower):
    """AutoInt+ (Song et al., CIKM 2019)."""

    kind: Literal["autoint"] = "autoint"
    layers: Layers = 3
    heads: Heads = 2
    head_dim: Width = Field(16, description="channels a head")


class DCNv2Config(_Tower):
    """DCN V2, cross network and MLP side by side (Wang et al., WWW 2021)."""

    kind: Literal["dcnv2"] = "dcnv2"
    cross_layers: CrossLayers = 3
    cross_rank: Width | None = Field(None, description="W = U V^T of this rank in cross layers; default: full")
    hidden: Hidden = Field((768, 768), min_length=1)


class DLRMConfig(_Tower):
    """DLRM (Naumov et al., 2019), the paper's DOT."""

    kind: Literal["dlrm"] = "dlrm"
    bottom: Widths = Field((512, 256, 64), description="hidden widths of the MLP of the dense columns")
    hidden: Hidden = (512, 256)


class DHENConfig(_Tower):
    """DHEN (Zhang et al., 2022): layers of ensembles of interactions."""

    kind: Literal["dhen"] = "dhen"
    layers: Layers = 3
    interaction: InteractionConfig = Field(InteractionConfig(), description="parts, merge and the parts' sizes")


class WukongConfig(_Tower):
    """Wukong (Zhang et al., ICML 2024): layers of factorization-machine and linear-compression blocks."""

    kind: Literal["wukong"] = "wukong"
    layers: Layers = 3
    fmb_tokens: Tokens = Field(32, description="tokens from the factorization-machine block")
    lcb_tokens: Tokens = Field(32, description="tokens from the linear compression block")
    fmb_rank: Width = Field(24, description="columns of Y in the optimised FM, X (X^T Y)")
    fmb_hidden: Widths = Field((512,), description="hidden widths of the factorization-machine block's MLP")
    hidden: Hidden = (512, 256)


class DINConfig(_Events):
    """Deep interest network (Zhou et al., KDD 2018)."""

    kind: Literal["din"] = "din"
    attention: Widths = Field((80, 40), min_length=1, description="hidden widths of the activation unit")


class DIENConfig(_Events):
    """Deep interest evolution network (Zhou et al., AAAI 2019)."""

    kind: Literal["dien"] = "dien"
    auxiliary: Auxiliary = 0.01


class BSTConfig(_Events):
    """Behavior sequence transformer (Chen et al., DLP-KDD 2019)."""

    kind: Literal["bst"] = "bst"
    layers: Layers = 1
    heads: Heads = 8
    feedforward: Width = Field(128, description="inner width of a block's FFN")
    pooling: Literal["concat", "mean", "candidate"] = Field(
        "mean",
        description="what the MLP reads of the outputs: all side by side (paper; an input a position, ten times the time), their mean, "
        "the candidate's",
    )
    hidden: Hidden = (256, 128)
    activation: HiddenActivation = "leaky_relu"


class DMINConfig(_Events):
    """Deep multi-interest network (Xiao et al., CIKM 2020)."""

    kind: Literal["dmin"] = "dmin"
    heads: Depth = Field(4, description="of the refiner, and interests of the extractor")
    attention: Widths = Field((80, 40), min_length=1, description="hidden widths of the activation units")
    position_dim: Width = Field(8, description="floats of a position's embedding")
    auxiliary: Auxiliary = 0.01


class DMRConfig(_Events):
    """Deep match to rank (Lyu et al., AAAI 2020)."""

    kind: Literal["dmr"] = "dmr"
    position_dim: Width = Field(8, description="floats of a position's embedding")
    auxiliary: Weight = Field(0.1, description="weight of the auxiliary match network's loss")
    negatives: Tokens = Field(16, description="events of the batch drawn against the newest one")
    hidden: Hidden = (512, 256, 128)


class TransActConfig(_Events):
    """TransAct (Xia et al., KDD 2023), with DCN V2 behind it."""

    kind: Literal["transact"] = "transact"
    layers: Layers = 2
    heads: Heads = 2
    feedforward: Width = Field(32, description="inner width of a block's FFN")
    newest: TokensOrNone = Field(
        1, description="outputs of newest events that stay beside the maximum over all; paper: 10"
    )
    cross_layers: CrossLayers = 3
    cross_rank: Width | None = Field(
        64, description="W = U V^T of this rank in cross layers; null: full, as in the paper"
    )
    hidden: Hidden = Field((256, 128, 64), min_length=1)
    activation: HiddenActivation = "relu"


def _with_kind(value: Any) -> Any:
    """A mapping that does not say its kind is InterFormer's."""
    return {"kind": "interformer", **value} if isinstance(value, dict) else value


AnyModelConfig = Annotated[
    ModelConfig
    | (FMConfig | FmFMConfig | XDeepFMConfig | AutoIntConfig | DCNv2Config | DLRMConfig | DHENConfig | WukongConfig)
    | (DINConfig | DIENConfig | BSTConfig | DMINConfig | DMRConfig | TransActConfig),
    Field(discriminator="kind"),
    BeforeValidator(_with_kind),
]
