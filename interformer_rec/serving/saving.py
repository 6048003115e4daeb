"""What model.split would save a model that is exported without it. In: its schema and options; out: a sentence with numbers, or None."""

from functools import partial

import torch

from interformer_rec.config.baselines import AnyModelConfig
from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.model import ModelConfig
from interformer_rec.errors import InputError
from interformer_rec.model.build import build_model
from interformer_rec.planning.cost.counter import forward_flops
from interformer_rec.serving.halves import halves
from interformer_rec.serving.rectangle import FEWEST_PLACES, Reads, reads_of

CANDIDATES = 100


def split_saving(features: FeatureSchema, model: AnyModelConfig) -> str | None:
    """Of one user's request with full histories; None for a kind that has no split, and for features that cannot be divided."""
    if not isinstance(model, ModelConfig) or not features.candidate:
        return None
    try:
        divided = ModelConfig.model_validate({**model.model_dump(), "split": True})
        divided.check_features(features)
        whole, *_ = _products(features, model, CANDIDATES)
        user, candidate = _products(features, divided, 1, CANDIDATES)
    except (InputError, ValueError):
        return None
    return (
        f"with model.split: true a request of {CANDIDATES} candidates takes {user + candidate:.3g} multiplications, "
        f"{whole / (user + candidate):.1f} times fewer than the {whole:.3g} of this model"
    )


def _products(features: FeatureSchema, model: AnyModelConfig, *rows: int) -> list[float]:
    """Multiplications of each graph, counted without computing anything."""
    with torch.device("meta"):
        built = build_model(features, model).eval()
        reads = reads_of(features, model)
        found, states = [], None
        for half, one, count in zip(halves(built, reads), reads, rows, strict=True):
            inputs = _inputs(one, count)
            if states is not None:
                inputs = [states, torch.zeros(1, dtype=torch.int64), *(one[None] for one in inputs)]
            found.append(forward_flops(partial(half, *inputs)) / 2)
            states = half(*inputs)
    return found


def _inputs(reads: Reads, rows: int) -> list[torch.Tensor]:
    places = [max(FEWEST_PLACES, longest) for longest in reads.longest]
    if reads.together:
        places = [max(places)] * len(places)
    found = [torch.zeros(rows, len(reads.dense))] if reads.dense else []
    found += [torch.zeros(rows, len(fields), width) for width, fields in reads.fields.items()]
    found += [torch.zeros(rows, wide, width) for wide, width in zip(places, reads.event_widths, strict=True)]
    if reads.groups:
        found.append(torch.zeros(rows, len(reads.groups) + reads.union, dtype=torch.int64))
    if reads.union:
        found.append(torch.zeros(rows, places[0], len(reads.groups)))
    return found
