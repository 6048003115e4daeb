"""Which part of a weight belongs to which feature: weights of one model in another one with more features give the same logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from interformer_rec.checkpoint.warm import place
from interformer_rec.config.baselines import DLRMConfig
from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.model import ModelConfig
from interformer_rec.model.build import build_model
from interformer_rec.model.embedding.embedded import Embedded, Events, field_groups, table_dims
from interformer_rec.model.slices import slices
from interformer_rec.training.start.warm.match import WeightMatch, match_weights

PAIRS = {"dot_tokens": 40}  # no fewer than tokens: between all pairs and compressed ones nothing can be kept
SMALL = {"interaction": PAIRS, "embedding_dim": 4, "d": 8, "heads": 2, "layers": 2, "head": [6], "dropout": 0.0}
INTERACTIONS = {
    "dhen": {"kind": "dhen", **PAIRS},
    "dhen concat": {"kind": "dhen", "merge": "concat", "hidden": [], **PAIRS},
    "dcn": {"kind": "dcn", "dcn_rank": 3, "dcn_layers": 2},
    "dot, all pairs": {"kind": "dot", "dot_tokens": 99},
    "dot, compressed": {"kind": "dot", "dot_tokens": 3},
}
MODELS = {
    **{name: {"interaction": options} for name, options in INTERACTIONS.items()},
    **{f"merge {merge}": {"sequence": {"merge": merge}} for merge in ("concat", "separate", "masknet", "union")},
    **{f"flow {flow}": {"flow": flow} for flow in ("s2n", "n2s", "sep", "sole")},
    "split": {"split": True},
    "split separate": {"split": True, "sequence": {"merge": "separate"}},
    "no lengths": {"sequence": {"lengths": False}},
}


def _history(name: str, *tables: str) -> dict[str, Any]:
    columns = [{"name": table, "column": f"{name}_{table}", "table": table} for table in tables]
    return {"name": name, "max_length": 5, "columns": columns}


def _features(**more: list[Any]) -> FeatureSchema:
    """Two fields, a number, two histories, the candidate's part of it; `more`: in front of them."""
    tree: dict[str, list[Any]] = {
        "dense": ["price", "age"],
        "ids": ["user", {"name": "shown", "table": "item"}],
        "bags": [{"name": "tags", "table": "tag"}],
        "sequences": [_history("seen", "item", "tag"), _history("bought", "item", "tag")],
        "labels": ["click"],
        "candidate": ["shown", "price"],
    }
    tree = {key: [*more.get(key, []), *values] for key, values in tree.items()}
    text = str(tree)
    tables = {name: {} for name in ("user", "item", "tag", "shop", "wide") if name in text}
    if "wide" in tables:
        tables["wide"] = {"embedding_dim": 6}
    return FeatureSchema.model_validate({**tree, "tables": tables})


NEW = {
    "dense": ["weight"],
    "ids": ["shop", {"name": "by", "table": "user"}],
    "bags": [{"name": "words", "table": "wide"}],
}


class _Inputs:
    """Random values by feature, so that two models read the same ones."""

    def __init__(self, rows: int = 5) -> None:
        self._rows, self._known = rows, dict[str, torch.Tensor]()
        self._lengths = torch.tensor([3, 0, 1, 2, 4])

    def _value(self, name: str, *shape: int) -> torch.Tensor:
        if name not in self._known:
            self._known[name] = torch.randn(*shape, generator=torch.Generator().manual_seed(hash(name) % 2**31))
        return self._known[name]

    def of(self, features: FeatureSchema, dim: int) -> tuple[torch.Tensor, Embedded]:
        dense = [self._value(feature.name, self._rows) for feature in features.dense]
        fields = {
            width: torch.stack([self._value(lookup.key, self._rows, width) for lookup in lookups], 1)
            for width, lookups in field_groups(features, dim).items()
        }
        dims = table_dims(features, dim)
        total = int(self._lengths.sum())
        events = {
            group.name: Events(
                torch.cat([self._value(f"{group.name}.{c.name}", total, dims[c.table]) for c in group.columns], 1),
                self._lengths,
                torch.arange(total) * (1 + len(group.name)),
            )
            for group in features.sequences
        }
        return torch.stack(dense, 1), Embedded(fields, events)


def _built(features: FeatureSchema, options: ModelConfig, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = build_model(features, options).eval()
    with torch.no_grad():  # biases and gains are zeros and ones at the start: no proof
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return model


@torch.no_grad()
def _moved(
    before: tuple[FeatureSchema, nn.Module], now: tuple[FeatureSchema, nn.Module], options: ModelConfig
) -> list[WeightMatch]:
    """Fill the second model with what it shares with the first one."""
    weights = [dict(model.named_parameters()) for _, model in (before, now)]
    shapes = [{name: tuple(weight.shape) for name, weight in part.items()} for part in weights]
    found = match_weights(slices(before[0], options), slices(now[0], options), *shapes)
    for match in found:
        if match.part is not None:
            place(weights[1][match.name], weights[0][match.part.name], match.part)
    return found


def _logits(features: FeatureSchema, model: nn.Module, inputs: _Inputs) -> torch.Tensor:
    with torch.no_grad():
        return model(*inputs.of(features, 4))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("order", ["first", "last"])
def test_a_new_feature_changes_no_logit(name: str, order: str) -> None:
    options = ModelConfig.model_validate({**SMALL, **MODELS[name]})
    old = _features()
    new = _features(**NEW)
    if order == "last":
        new = FeatureSchema.model_validate({**new.model_dump(), "ids": new.ids[::-1], "dense": new.dense[::-1]})
    before, now = _built(old, options, 1), _built(new, options, 2)
    inputs = _Inputs()
    expected = _logits(old, before, inputs)
    assert not torch.allclose(_logits(new, now, inputs), expected, atol=1e-2)
    found = _moved((old, before), (new, now), options)
    assert not [match for match in found if match.reason]
    assert torch.allclose(_logits(new, now, inputs), expected, atol=1e-5)
    assert sum(match.dropped for match in found) == 0
    assert any(match.part is not None and match.part.zeroed for match in found)


@pytest.mark.parametrize("name", ["merge separate", "split separate"])
def test_a_new_history_of_its_own_changes_no_logit(name: str) -> None:
    options = ModelConfig.model_validate({**SMALL, **MODELS[name]})
    old, new = _features(), _features(sequences=[_history("liked", "tag")])
    before, now = _built(old, options, 1), _built(new, options, 2)
    found = _moved((old, before), (new, now), options)
    assert not [match for match in found if match.reason]
    inputs = _Inputs()
    assert torch.allclose(_logits(new, now, inputs), _logits(old, before, inputs), atol=1e-5)


@pytest.mark.parametrize("name", ["merge concat", "merge separate"])
def test_a_new_column_of_events_changes_no_logit(name: str) -> None:
    options = ModelConfig.model_validate({**SMALL, **MODELS[name]})
    old = _features()
    tree = old.model_dump()
    tree["sequences"][0]["columns"] = [{"name": "shop", "table": "shop"}, *tree["sequences"][0]["columns"]]
    new = FeatureSchema.model_validate({**tree, "tables": {**tree["tables"], "shop": {}}})
    before, now = _built(old, options, 1), _built(new, options, 2)
    found = _moved((old, before), (new, now), options)
    assert not [match for match in found if match.reason]
    inputs = _Inputs()
    assert torch.allclose(_logits(new, now, inputs), _logits(old, before, inputs), atol=1e-5)


def test_a_new_task_leaves_the_others_as_they_are() -> None:
    options = ModelConfig.model_validate(SMALL)
    old, new = _features(), _features(labels=["like"])
    before, now = _built(old, options, 1), _built(new, options, 2)
    found = _moved((old, before), (new, now), options)
    assert not [match for match in found if match.reason]
    inputs = _Inputs()
    assert torch.allclose(_logits(new, now, inputs)[:, 1:], _logits(old, before, inputs), atol=1e-6)


def test_parts_of_features_that_are_gone_are_dropped_and_the_others_keep_their_places() -> None:
    options = ModelConfig.model_validate(SMALL)
    old, new = _features(**NEW), _features()
    before, now = _built(old, options, 1), _built(new, options, 2)
    inputs = _Inputs()
    _moved(
        (new, now), (old, before), options
    )  # the longer model is a copy of the shorter one, its new parts read by zeros
    expected = _logits(old, before, inputs)
    now = _built(new, options, 3)
    found = _moved((old, before), (new, now), options)
    assert not [match for match in found if match.reason] and sum(match.dropped for match in found) > 0
    assert torch.allclose(_logits(new, now, inputs), expected, atol=1e-5)


@pytest.mark.parametrize(
    "kind, what",
    [
        ({"kind": "wukong"}, "layers.0.interaction_arch.interaction.y"),
        ({"kind": "dot", "dot_tokens": 16}, "linears.0.weight"),
    ],
)
def test_what_no_feature_has_a_part_of_is_named(kind: dict[str, Any], what: str) -> None:
    options = ModelConfig.model_validate({**SMALL, "interaction": kind})
    old, new = _features(), _features(**NEW)
    before, now = _built(old, options, 1), _built(new, options, 2)
    assert not [match for match in _moved((old, before), (old, _built(old, options, 2)), options) if match.reason]
    reasons = {match.name: match.reason for match in _moved((old, before), (new, now), options) if match.reason}
    assert any(name.endswith(what) for name in reasons), reasons


def test_layers_and_widths_that_changed_are_named() -> None:
    features = _features()
    one = ModelConfig.model_validate({**SMALL, "layers": 1})
    for change in ({"layers": 2}, {"layers": 1, "d": 16}):
        two = ModelConfig.model_validate({**SMALL, **change})
        models = [_built(features, options, 1) for options in (one, two)]
        shapes = [{name: tuple(weight.shape) for name, weight in model.named_parameters()} for model in models]
        found = match_weights(slices(features, one), slices(features, two), *shapes)
        reasons = {match.name: match.reason for match in found if match.reason}
        if "d" in change:
            assert "its shape is [8] there and [16] here" in reasons["cross_archs.0.x_norm.gain"]
        else:
            assert {name.split(".")[0] for name in reasons} == {"layers", "cross_archs"}
            assert "there is no such weight there" in reasons["layers.1.interaction_arch.mlp.linears.0.weight"]


def test_a_comparison_system_matches_only_with_the_same_features() -> None:
    options = DLRMConfig.model_validate({"kind": "dlrm", "embedding_dim": 4})
    old, new = _features(), _features(ids=["shop"])
    found = slices(old, options)
    with torch.device("meta"):
        assert set(found) == {name for name, _ in build_model(old, options).named_parameters()}
    assert found == slices(old, options)
    assert not {one.key for one in found.values()} & {one.key for one in slices(new, options).values()}


def test_another_longest_history_is_another_number() -> None:
    options = ModelConfig.model_validate(SMALL)
    old = _features()
    tree = old.model_dump()
    tree["sequences"][1]["max_length"] = 9
    axes = [
        slices(features, options)["preprocess.dense.0.weight"].axes[1]
        for features in (old, FeatureSchema.model_validate(tree))
    ]
    assert axes[0] is not None and axes[1] is not None
    assert len(set(axes[0].labels) - set(axes[1].labels)) == 1
