"""model.kind becomes a module: a schema and the model's options come in, the dense part of a task goes out.

Every kind is a class (features, options) with forward(dense (B, M), Embedded) -> logits (B, tasks). In training it may return
baselines.auxiliary.Supervised instead: logits and what it adds to the loss.
"""

from typing import Any

from torch import nn

from interformer_rec.config.baselines import AnyModelConfig
from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.model import ModelConfig
from interformer_rec.model.baselines.autoint import AutoIntPlus
from interformer_rec.model.baselines.bst import BST
from interformer_rec.model.baselines.dcnv2 import DCNv2
from interformer_rec.model.baselines.dien import DIEN
from interformer_rec.model.baselines.din import DIN
from interformer_rec.model.baselines.dlrm import DLRM
from interformer_rec.model.baselines.dmin import DMIN
from interformer_rec.model.baselines.dmr import DMR
from interformer_rec.model.baselines.fm import FM
from interformer_rec.model.baselines.fmfm import FmFM
from interformer_rec.model.baselines.stacked import DHENModel, WukongModel
from interformer_rec.model.baselines.transact import TransAct
from interformer_rec.model.baselines.xdeepfm import XDeepFM
from interformer_rec.model.embedding.ensemble import EmbeddingEnsemble
from interformer_rec.model.interformer import InterFormer

MODELS: dict[str, Any] = {
    "interformer": InterFormer,
    "fm": FM,
    "fmfm": FmFM,
    "xdeepfm": XDeepFM,
    "autoint": AutoIntPlus,
    "dcnv2": DCNv2,
    "dlrm": DLRM,
    "dhen": DHENModel,
    "wukong": WukongModel,
    "din": DIN,
    "dien": DIEN,
    "bst": BST,
    "dmin": DMIN,
    "dmr": DMR,
    "transact": TransAct,
}


def build_model(features: FeatureSchema, options: AnyModelConfig) -> nn.Module:
    """The model `options.kind` names. Raises InputError for features it cannot work with."""
    if isinstance(options, ModelConfig) and options.ensemble_members > 1:
        return EmbeddingEnsemble(features, options)
    return MODELS[options.kind](features, options)
