"""InterFormer's options and presets, in the paper's words. In: the `model:` part of a run's YAML. No torch.

`preset: default` is the form we stand for, `preset: paper` the letter of the paper; any key given beside it overrides it. The
options of other kinds are in baselines.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.strict import Depth, Strict, Width, Widths
from interformer_rec.errors import InputError

Activation = Literal["silu", "gelu", "relu"]
Gating = Literal["swish", "sigmoid", "tanh", "identity", "none"]
Interaction = Literal["dot", "dcn", "dhen", "wukong"]
FlowName = Literal["int", "n2s", "s2n", "sep", "sole"]
MOST_TOKENS = 4_096
Tokens = Annotated[int, Field(ge=1, le=MOST_TOKENS)]
TokensOrNone = Annotated[int, Field(ge=0, le=MOST_TOKENS)]


@dataclass(frozen=True)
class Flow:
    """The information flow of one model (the paper's study): X are the fields' tokens, S the sequences'."""

    x_reads_s: bool  # the Interaction Arch reads S_sum
    s_reads_x: bool  # the Sequence Arch reads X_sum, and its CLS tokens are X_sum
    pooled_first: bool = False  # histories are pooled before layer 1: there is no Sequence Arch and no S_sum

    @staticmethod
    def of(name: FlowName) -> Flow:
        """The flow with this name."""
        return _FLOWS[name]


_FLOWS: dict[FlowName, Flow] = {
    "int": Flow(x_reads_s=True, s_reads_x=True),
    "n2s": Flow(x_reads_s=False, s_reads_x=True),
    "s2n": Flow(x_reads_s=True, s_reads_x=False),
    "sep": Flow(x_reads_s=False, s_reads_x=False),
    "sole": Flow(x_reads_s=False, s_reads_x=False, pooled_first=True),
}


class SummaryConfig(Strict):
    """Cross Arch (paper, Eq. 10-11): the tokens by which each side reads the other."""

    x_tokens: Tokens = Field(4, description="tokens of X_sum (LCE), also the CLS tokens of every sequence")
    pma_tokens: TokensOrNone = Field(2, description="learned queries of pooling by multi-head attention")
    recent_tokens: TokensOrNone = Field(2, description="newest valid events")
    gating: Gating = Field(
        "swish",
        description="swish: X * sigmoid(MLP(X)); sigmoid, tanh, identity: the paper's activation(X * MLP(X)); none: X",
    )
    cls: bool = Field(True, description="the CLS tokens of a sequence are part of its summary")

    @model_validator(mode="after")
    def _check(self) -> SummaryConfig:
        if not (self.cls or self.pma_tokens or self.recent_tokens):
            raise ValueError(
                "cls: false, pma_tokens: 0 and recent_tokens: 0 leave no token in S_sum; keep one of the three"
            )
        return self


class InteractionConfig(Strict):
    """Interaction Arch (paper, Eq. 7)."""

    kind: Interaction = Field("dhen", description="how tokens interact; dhen is an ensemble of others")
    parts: tuple[Literal["dot", "dcn", "wukong"], ...] = Field(
        ("dot", "dcn"), min_length=1, max_length=100, description="members of a dhen ensemble"
    )
    merge: Literal["sum", "concat"] = Field("sum", description="dhen: how its members' tokens are merged")
    residual: bool = Field(True, description="X + MLP(Interaction(...)); false: the paper's MLP(Interaction(...))")
    dcn_rank: Width = Field(32, description="low rank of DCNv2's cross layers")
    dcn_layers: Depth = Field(1, description="cross layers of DCNv2")
    dot_tokens: int = Field(
        16, ge=2, le=MOST_TOKENS, description="tokens kept (a learned compression) before the pairwise inner products"
    )
    fmb_tokens: Tokens = Field(
        8, description="wukong: tokens from the factorisation-machine block; the rest come from LCB"
    )
    fmb_rank: Width = Field(8, description="wukong: columns of Y in the optimised FM, X (X^T Y)")
    hidden: Widths = Field((128,), description="hidden widths of the interactions' MLPs")


class SequenceConfig(Strict):
    """Sequence Arch (paper, Eq. 8-9)."""

    merge: Literal["masknet", "separate", "concat", "union"] = Field(
        "concat",
        description="several groups: masknet glues them by age on the embedding axis (paper), concat makes one sequence of them on "
        "the time axis, union the same with every event once, marked with the groups it stands in (the watched videos, some of them liked; "
        "same tables in all), separate gives each its own Sequence Arch and summaries (for many long histories: attention grows with "
        "the square of a sequence's length)",
    )
    lengths: bool = Field(
        True,
        description="the number of events of each history is an input of X, beside the dense columns: attention and pooling are averages, "
        "which cannot count",
    )
    pffn: Literal["two_layer", "gdpa", "appendix"] = Field(
        "two_layer", description="form of the FFN that X_sum generates for each sample; appendix: the paper's"
    )
    pffn_rank: Width = Field(16, description="two_layer, gdpa: inner width of the per-sample FFN")
    pffn_residual: bool = Field(True, description="S + PFFN(X_sum, S); false: the paper's PFFN(X_sum, S)")
    attention_residual: bool = Field(True, description="S + MHA(S); false: the paper's MHA(S)")
    rope_base: float = Field(10_000.0, gt=1, le=1e12, description="base of the rotary positions")
    window: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="attention of an event reaches so many events to each side, and the CLS tokens; CLS tokens and PMA read the whole "
        "history. The cost of an event does not grow with its history. Default: all read all",
    )
    attention_every: Depth = Field(
        1,
        description="layers that have attention: the first and every so many after it; the others have the PFFN alone",
    )
    recompute: bool = Field(
        False,
        description="a layer's Sequence Arch keeps its input alone and runs once more in the backward pass: less memory, more time, the "
        "same numbers",
    )


class ModelConfig(Strict):
    """InterFormer (Zeng et al., CIKM 2025)."""

    kind: Literal["interformer"] = "interformer"
    preset: Literal["default", "paper"] = Field("default", description="what keys are that are not given")
    embedding_dim: Width = Field(32, description="floats a table row; a table may override it")
    ensemble_members: Depth = Field(
        1,
        description="embedding ensemble: the number of InterFormers on the same features, each with embedding_dim floats of every table "
        "row for itself, each trained in epochs of its own; their logits are averaged. As many times the work, and training.epochs a "
        "multiple of it",
    )
    embedding_std: float | None = Field(
        0.01,
        gt=0,
        le=1e3,
        description="deviation of new rows' floats: small, so that a row that was hardly trained is near those of its kind; null: 1 / "
        "sqrt(dim)",
    )
    d: int = Field(32, ge=2, le=65_536, description="width of a token")
    layers: Depth = Field(1, description="each a Cross Arch, an Interaction Arch and a Sequence Arch")
    heads: Depth = Field(2, description="of attention and of PMA; d / heads must be even")
    summary: SummaryConfig = SummaryConfig()
    interaction: InteractionConfig = InteractionConfig()
    sequence: SequenceConfig = SequenceConfig()
    flow: FlowName = Field(
        "int",
        description="which mode informs which (the paper's study of information flow). int: both ways; n2s: X_sum reaches the "
        "sequences, not S_sum the fields; s2n: the other way; sep: none before the head; sole: histories are pooled before the "
        "first layer and there is no Sequence Arch",
    )
    split: bool = Field(
        False,
        description="the candidate's features (features.candidate) do not reach the sequences, so that one user's sequence work serves "
        "all candidates of a request",
    )
    pooling: Literal["mean", "mlp", "mha"] = Field(
        "mha", description="flow: sole. A history's token: its events' mean, an MLP of the newest 8, or learned queries"
    )
    final_cross: bool = Field(True, description="a last Cross Arch feeds the head; false: Algorithm 1 to the letter")
    normalise: bool = Field(True, description="RMSNorm before each block; the one after the lookup is always there")
    overlap: bool = Field(False, description="on CUDA, Interaction and Sequence Arch of a layer in two streams")
    head: Widths = Field((128, 64), description="hidden widths of the classifier")
    dropout: float = Field(0.0, ge=0, lt=1, description="on the hidden units of the interactions' and the head's MLPs")
    activation: Activation = Field("silu", description="of the hidden units of all MLPs")

    @property
    def needs_sequences(self) -> bool:
        """InterFormer informs fields by histories; without one it is not InterFormer."""
        return True

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, value: Any) -> Any:
        preset = value.get("preset", "default") if isinstance(value, dict) else None
        return _under(PRESETS[preset], value) if isinstance(preset, str) and preset in PRESETS else value

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        if self.d % self.heads:
            raise ValueError(f"d = {self.d} is not divisible by heads = {self.heads}")
        if (self.d // self.heads) % 2:
            raise ValueError(
                f"d / heads = {self.d // self.heads} must be even: rotary positions turn pairs of channels"
            )
        if self.layers == 1 and not self.final_cross:
            raise ValueError(
                "layers: 1 with final_cross: false leaves a head that reads summaries of raw features: the only layer's update "
                "would be thrown away (Algorithm 1 to the letter). Use layers >= 2 or final_cross: true"
            )
        if self.split and not Flow.of(self.flow).s_reads_x:
            raise ValueError(
                f"split: true keeps the candidate's features from the sequences, but with flow: {self.flow} no feature reaches them. "
                "Use flow: int or n2s, or split: false"
            )
        return self

    def check_features(self, features: FeatureSchema) -> None:
        """Raises InputError for features that no InterFormer with these options can have, beside `needs_sequences`."""
        if not (features.ids or features.bags or features.dense):
            raise InputError(
                "InterFormer needs at least one feature under features.dense, ids or bags beside the sequences"
            )
        if self.split:
            features.check_split()
        if self.sequence.merge == "union":
            features.check_union()


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "paper": {
        "embedding_std": None,
        "layers": 2,
        "summary": {"gating": "sigmoid"},
        "interaction": {"residual": False},
        "sequence": {
            "merge": "masknet",
            "lengths": False,
            "pffn": "appendix",
            "pffn_residual": False,
            "attention_residual": False,
        },
        "final_cross": False,
        "normalise": False,
    },
}


def _under(defaults: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """`given`, with `defaults` where it is silent."""
    merged = dict(given)
    for key, value in defaults.items():
        if isinstance(value, dict) and isinstance(given.get(key, {}), dict):
            merged[key] = _under(value, given.get(key, {}))
        else:
            merged.setdefault(key, value)
    return merged
