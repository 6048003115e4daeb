"""Small forms of all comparison systems, built with every parameter moved off its start."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import TypeAdapter
from torch import nn

from interformer_rec.config.baselines import AnyModelConfig
from interformer_rec.config.features import FeatureSchema
from interformer_rec.model.build import build_model

D = 8
SMALL: dict[str, dict[str, Any]] = {
    "fm": {},
    "fmfm": {},
    "xdeepfm": {"cin": [5, 3], "hidden": [7, 6]},
    "autoint": {"layers": 2, "heads": 2, "head_dim": 3, "hidden": [7]},
    "dcnv2": {"cross_layers": 2, "hidden": [7, 6]},
    "dlrm": {"bottom": [6], "hidden": [7]},
    "dhen": {"layers": 2, "hidden": [7], "interaction": {"hidden": [6], "dot_tokens": 5, "dcn_rank": 4}},
    "wukong": {"layers": 2, "fmb_tokens": 3, "lcb_tokens": 2, "fmb_rank": 4, "fmb_hidden": [6], "hidden": [7]},
    "din": {"attention": [6, 5], "hidden": [7, 6]},
    "dien": {"hidden": [7, 6]},
    "bst": {"layers": 2, "heads": 2, "feedforward": 5, "hidden": [7]},
    "dmin": {"heads": 2, "attention": [6], "position_dim": 3, "hidden": [7]},
    "dmr": {"position_dim": 3, "negatives": 4, "hidden": [7]},
    "transact": {"heads": 2, "feedforward": 5, "newest": 3, "cross_layers": 2, "hidden": [7]},
}
FIELD_KINDS = ["fm", "fmfm", "xdeepfm", "autoint", "dcnv2", "dlrm", "dhen", "wukong"]
EVENT_KINDS = ["din", "dien", "bst", "dmin", "dmr", "transact"]


def options(kind: str, **changes: Any) -> Any:
    """A small config of the kind."""
    return TypeAdapter(AnyModelConfig).validate_python({"kind": kind, "embedding_dim": D, **SMALL[kind], **changes})


def build(features: FeatureSchema, config: Any, seed: int = 0) -> nn.Module:
    """In float64 and evaluation mode."""
    torch.manual_seed(seed)
    model = build_model(features, config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.double().eval()
