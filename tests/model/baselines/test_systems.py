"""All comparison systems against their per-sample references, and what every one of them has to keep."""

from __future__ import annotations

import pytest
import torch

from interformer_rec.config.features import FeatureSchema
from interformer_rec.errors import InputError
from interformer_rec.model.baselines.auxiliary import Supervised
from interformer_rec.model.build import MODELS, build_model
from interformer_rec.model.embedding.embedded import Events
from tests.model import cases
from tests.model.baselines import reference, reference_events, systems

REFERENCES = {
    "fm": reference.FM,
    "fmfm": reference.FmFM,
    "xdeepfm": reference.XDeepFM,
    "autoint": reference.AutoInt,
    "dcnv2": reference.DCNv2,
    "dlrm": reference.DLRM,
    "dhen": reference.Stacked,
    "wukong": reference.Stacked,
    "din": reference_events.DIN,
    "dien": reference_events.DIEN,
    "bst": reference_events.BST,
    "dmin": reference_events.DMIN,
    "dmr": reference_events.DMR,
    "transact": reference_events.TransAct,
}
SCHEMAS = [
    cases.schema(groups=(("watch", 2), ("like", 1)), odd_dim=6),
    cases.schema(groups=(("watch", 3),), ids=2, dense=0, labels=2),
]
KINDS = [*systems.FIELD_KINDS, *systems.EVENT_KINDS]


def test_every_kind_is_here() -> None:
    assert set(KINDS) | {"interformer"} == set(MODELS) and set(KINDS) == set(REFERENCES)


@pytest.mark.parametrize("features", SCHEMAS, ids=["odd widths", "no dense, two labels"])
@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_the_per_sample_reference(kind: str, features) -> None:
    config = systems.options(kind)
    model = systems.build(features, config)
    dense, embedded = cases.embedded_inputs(features, config, count=6, longest=7)
    expected = REFERENCES[kind](features, config, model.state_dict())
    logits = torch.stack([expected.logits(cases.single(dense, embedded, i)) for i in range(6)])
    assert logits.shape == (6, len(features.labels))
    torch.testing.assert_close(model(dense, embedded), logits, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("bst", {"pooling": "mean"}),
        ("bst", {"pooling": "candidate"}),
        ("dcnv2", {"cross_rank": 3}),
        ("transact", {"newest": 0}),
        ("dhen", {"interaction": {"parts": ["dcn", "wukong"], "merge": "concat", "fmb_tokens": 3, "hidden": [6]}}),
        ("din", {"hidden": [], "activation": "silu"}),
    ],
)
def test_other_options_agree_too(kind: str, changes: dict) -> None:
    features, config = SCHEMAS[0], systems.options(kind, **changes)
    model = systems.build(features, config)
    dense, embedded = cases.embedded_inputs(features, config, count=4, longest=5)
    expected = REFERENCES[kind](features, config, model.state_dict())
    logits = torch.stack([expected.logits(cases.single(dense, embedded, i)) for i in range(4)])
    torch.testing.assert_close(model(dense, embedded), logits, rtol=0, atol=1e-9)


def test_tables_of_histories_may_be_wider_than_the_fields() -> None:
    features = cases.schema(groups=(("watch", 2),), ids=3)
    tables = {
        name: table.model_copy(update={"embedding_dim": 4 if name.startswith("c") else None})
        for name, table in features.tables.items()
    }
    features, config = features.model_copy(update={"tables": tables}), systems.options("fm")
    model = systems.build(features, config)
    narrow = config.model_copy(update={"embedding_dim": 4})
    dense, embedded = cases.embedded_inputs(features, narrow, count=5, longest=4)
    embedded.fields = {4: embedded.fields[4][:, :2], 8: torch.randn(5, 2, 8, dtype=torch.float64)}
    expected = reference.FM(features, config, model.state_dict())
    logits = torch.stack([expected.logits(cases.single(dense, embedded, i)) for i in range(5)])
    torch.testing.assert_close(model(dense, embedded), logits, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_logit_depends_on_its_own_sample_only(kind: str) -> None:
    features, config = SCHEMAS[0], systems.options(kind)
    model = systems.build(features, config)
    dense, embedded = cases.embedded_inputs(features, config, count=20, longest=15)
    together = model(dense, embedded)
    for some in ([3], [7, 0, 12], list(range(19, -1, -1))):  # alone, with less padding, in another order
        torch.testing.assert_close(model(*cases.pick(dense, embedded, some)), together[some], rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_gets_a_finite_gradient_that_is_not_zero(kind: str) -> None:
    features = cases.schema(groups=(("watch", 2), ("like", 1)), odd_dim=6, labels=2)
    torch.manual_seed(0)
    config = systems.options(kind)
    model = build_model(features, config).train()
    dense, embedded = cases.embedded_inputs(features, config, count=32, longest=20, dtype=torch.float32)
    output = model(dense, embedded)
    extra = output.auxiliary.sum() if isinstance(output, Supervised) else 0.0
    ((output.logits if isinstance(output, Supervised) else output).square().sum() + extra).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 1e-9, name


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_single_event_all_is_finite_and_every_parameter_takes_part(kind: str) -> None:
    features = SCHEMAS[0]
    torch.manual_seed(0)
    config = systems.options(kind)
    model = build_model(features, config).train()
    dense, embedded = cases.embedded_inputs(features, config, count=3, longest=0, dtype=torch.float32)
    output = model(dense, embedded)
    logits, auxiliary = output if isinstance(output, Supervised) else (output, torch.zeros(3))
    assert logits.isfinite().all() and not auxiliary.any()
    (logits.sum() + auxiliary.sum()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("kind", KINDS)
def test_a_start_is_small_and_not_dead(kind: str) -> None:
    features = cases.schema(ids=40, dense=5)
    torch.manual_seed(0)
    config = systems.options(kind)
    dense, embedded = cases.embedded_inputs(features, config, count=64, longest=30, dtype=torch.float32)
    start = config.embedding_std * config.embedding_dim**0.5  # the inputs' vectors have length 1
    embedded.fields = {dim: fields * start for dim, fields in embedded.fields.items()}
    embedded.events = {name: Events(part.values * start, part.lengths) for name, part in embedded.events.items()}
    logits = build_model(features, config).eval()(dense, embedded)
    assert logits.abs().max() < 8 and logits.std() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_autocast_stays_close(kind: str) -> None:
    features, config = SCHEMAS[0], systems.options(kind)
    model = systems.build(features, config).float()
    dense, embedded = cases.embedded_inputs(features, config, count=8, longest=9, dtype=torch.float32)
    exact = model(dense, embedded)
    model.train()
    with torch.autocast("cpu", torch.bfloat16):
        output = model(dense, embedded)
    rounded = output.logits if isinstance(output, Supervised) else output
    rounded.float().sum().backward()
    assert (rounded.float() - exact).abs().max() < 0.1 * max(1.0, exact.abs().max().item())


@pytest.mark.parametrize("kind", systems.EVENT_KINDS)
def test_events_of_a_history_are_told_apart_by_the_candidate(kind: str) -> None:
    features, config = SCHEMAS[0], systems.options(kind)
    model = systems.build(features, config)
    dense, embedded = cases.embedded_inputs(features, config, count=8, longest=6)
    for part in embedded.events.values():
        part.values.requires_grad_()
    model(dense, embedded).sum().backward()
    for part in embedded.events.values():
        assert part.values.grad.abs().amax(-1).gt(0).all()  # every event, the oldest too


@pytest.mark.parametrize("kind", systems.EVENT_KINDS)
def test_a_history_that_shares_no_table_with_a_field_is_named(kind: str) -> None:
    tree = cases.schema(groups=(("watch", 1),), ids=1, dense=1).model_dump()
    tree["ids"][0]["table"], tree["tables"]["own"] = "own", tree["tables"]["c0"]
    with pytest.raises(InputError, match=r"history 'watch' shares no table .* reads c0"):
        build_model(FeatureSchema.model_validate(tree), systems.options(kind))


@pytest.mark.parametrize("kind", ["bst", "dmin", "transact"])
def test_heads_that_do_not_divide_an_event_are_refused(kind: str) -> None:
    with pytest.raises(InputError, match=r"model\.heads = 3 does not divide"):
        build_model(cases.schema(groups=(("watch", 1),)), systems.options(kind, heads=3))


def test_one_field_alone_has_nothing_to_interact_with() -> None:
    features = cases.schema(groups=(), ids=0, dense=1)
    with pytest.raises(InputError, match="needs at least 2; features has 1"):
        build_model(features, systems.options("fm"))
