"""Models whose logits are stored in golden/logits.json: name -> (schema, options). Run as a script it writes the file anew."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from interformer_rec.config.baselines import AnyModelConfig
from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.model import ModelConfig
from interformer_rec.model.build import MODELS, build_model
from tests.model.cases import embedded_inputs, schema

FILE = Path(__file__).with_name("golden") / "logits.json"
ROWS = 6
SMALL = {"embedding_dim": 8, "d": 8, "layers": 2}


def cases() -> dict[str, dict[str, Any]]:
    """Every preset, flow, merge, PFFN form, interaction and kind."""
    found: dict[str, dict[str, Any]] = {
        "default": {},
        "paper": {"preset": "paper", "layers": 3},
        "three layers": {"layers": 3},
        "no final cross": {"final_cross": False},
        "no norm": {"normalise": False},
        "relu, no residuals": {
            "activation": "relu",
            "sequence": {"pffn_residual": False, "attention_residual": False},
            "interaction": {"residual": False},
        },
        "no cls": {"summary": {"cls": False}},
        "two sets": {"ensemble_members": 2},
        "split": {"split": True},
        "split n2s": {"split": True, "flow": "n2s"},
        "split paper": {"split": True, "preset": "paper"},
    }
    for flow in ("int", "n2s", "s2n", "sep", "sole"):
        found[f"flow {flow}"] = {"flow": flow}
        found[f"flow {flow}, separate, one layer"] = {"flow": flow, "sequence": {"merge": "separate"}, "layers": 1}
    found |= {f"sole {pooling}": {"flow": "sole", "pooling": pooling} for pooling in ("mean", "mlp", "mha")}
    found |= {f"merge {merge}": {"sequence": {"merge": merge}} for merge in ("masknet", "separate", "concat", "union")}
    found |= {f"pffn {form}": {"sequence": {"pffn": form}} for form in ("two_layer", "gdpa", "appendix")}
    found |= {f"interaction {kind}": {"interaction": {"kind": kind}} for kind in ("dot", "dcn", "wukong", "dhen")}
    found |= {
        "window": {"layers": 3, "sequence": {"window": 2, "attention_every": 2}},
        "window, separate": {"sequence": {"window": 2, "merge": "separate"}},
        "window, split": {"split": True, "sequence": {"window": 1}},
    }
    # as in their papers: these were the defaults when the logits were stored
    papers: dict[str, dict[str, Any]] = {
        "xdeepfm": {"cin": [200, 200, 200]},
        "bst": {"pooling": "concat", "hidden": [1024, 512, 256]},
        "transact": {"newest": 10, "cross_rank": None},
    }
    kinds = (kind for kind in MODELS if kind != "interformer")
    return found | {f"kind {kind}": {"kind": kind, **papers.get(kind, {})} for kind in kinds}


def features_of(options: dict[str, Any]) -> FeatureSchema:
    """Histories of unequal columns, but for a union; the candidate's features where the model is split."""
    union = options.get("sequence", {}).get("merge") == "union"
    features = schema((("watch", 2), ("like", 2)) if union else (("watch", 2), ("like", 1)), labels=2)
    return features.model_copy(update={"candidate": ("item", "f1")}) if options.get("split") else features


def logits(options: dict[str, Any]) -> list[list[float]]:
    """Of ROWS made-up rows, in float64. A weight depends on its name alone, so a changed name changes the logits."""
    features = features_of(options)
    small = SMALL if options.get("kind", "interformer") == "interformer" else {"embedding_dim": 8}
    model = TypeAdapter(AnyModelConfig).validate_python({**small, **options})
    built = build_model(features, model).double().eval()
    for name, parameter in sorted(built.named_parameters()):
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "little")
        drawn = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        parameter.data.copy_(drawn * 0.3)
    wide = model.embedding_dim * getattr(model, "ensemble_members", 1)
    stated = ModelConfig(embedding_dim=wide, d=8)
    dense, embedded = embedded_inputs(features, stated, ROWS)
    with torch.no_grad():
        return built(dense, embedded).tolist()


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    lines = [f"{json.dumps(name)}: {json.dumps(logits(options))}" for name, options in cases().items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
