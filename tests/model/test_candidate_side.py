"""The split form: against its per-sample reference, shared work against repeated rows, and what the user's side must not see."""

from __future__ import annotations

import pytest
import torch

from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.model import ModelConfig
from interformer_rec.errors import InputError
from interformer_rec.model import interformer
from interformer_rec.model.embedding.embedded import Embedded
from interformer_rec.model.interformer import InterFormer
from interformer_rec.model.sides import both_sides
from tests.model import cases
from tests.model.split_reference import SplitReference

CANDIDATES = [("item", "tags", "x1", "f3"), ("item",), ("x0", "x1"), ("tags", "f1", "f2", "f3", "f4", "x0")]


def schema(candidate: tuple[str, ...] = CANDIDATES[0], **options) -> FeatureSchema:
    plain = cases.schema(**options).model_dump()
    return FeatureSchema.model_validate({**plain, "candidate": candidate})


def options(**changes) -> ModelConfig:
    return ModelConfig.model_validate({"embedding_dim": 8, "d": 8, "layers": 2, "split": True, **changes})


def logits_and_gradients(built: InterFormer, logits: torch.Tensor, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """Of a loss in which every logit has its own weight: logits, then gradients of all parameters and inputs."""
    weights = torch.linspace(0.5, 2, logits.numel(), dtype=logits.dtype).view_as(logits)
    wanted = [*built.parameters(), *inputs]
    return [logits, *torch.autograd.grad((logits * weights).sum(), wanted)]


def leaves(dense: torch.Tensor, embedded: Embedded) -> list[torch.Tensor]:
    """All inputs, from now on with gradients."""
    found = [dense, *embedded.fields.values(), *(part.values for part in embedded.events.values())]
    return [x.requires_grad_() for x in found]


@pytest.mark.parametrize("seed", range(32))
def test_agrees_with_the_per_sample_reference(seed: int) -> None:
    features = schema(CANDIDATES[seed % 4], odd_dim=6 if seed % 3 == 0 else None, labels=1 + seed % 2)
    flow = "int" if seed % 3 else "n2s"
    model = cases.random_config(seed).model_copy(update={"split": True, "flow": flow})
    built = cases.build(features, model, seed)
    dense, embedded = cases.embedded_inputs(features, model, count=6, longest=7, seed=seed)
    reference = SplitReference(features, model, built.state_dict())
    expected = torch.stack([reference.logits(cases.single(dense, embedded, i)) for i in range(6)])
    torch.testing.assert_close(built(dense, embedded), expected, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("preset", ["default", "paper"])
@pytest.mark.parametrize("longest", [0, 1, 50])
def test_agrees_with_the_reference_for_empty_one_event_and_full_histories(preset: str, longest: int) -> None:
    features, model = schema(), options(preset=preset)
    built = cases.build(features, model)
    dense, embedded = cases.embedded_inputs(features, model, count=4, longest=longest)
    reference = SplitReference(features, model, built.state_dict())
    expected = torch.stack([reference.logits(cases.single(dense, embedded, i)) for i in range(4)])
    torch.testing.assert_close(built(dense, embedded), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": 1},
        {"layers": 3, "sequence": {"merge": "separate", "pffn": "gdpa"}},
        {"preset": "paper", "layers": 3},
        {"flow": "n2s", "interaction": {"kind": "wukong"}, "sequence": {"pffn": "appendix"}},
    ],
)
def test_one_users_work_for_several_candidates_is_the_forward_pass_on_repeated_rows(changes: dict) -> None:
    features, model = schema(labels=2), options(**changes)
    built = cases.build(features, model)
    request_of_candidate = torch.tensor([2, 0, 0, 3, 0, 2, 4])  # request 1 has no candidate, and 0's are not together
    users, users_embedded = cases.embedded_inputs(features, model, count=5, longest=7, seed=1)
    shown, shown_embedded = cases.embedded_inputs(features, model, count=7, longest=7, seed=2)
    inputs = [*leaves(users, users_embedded), shown.requires_grad_()]
    inputs += [values.requires_grad_() for values in shown_embedded.fields.values()]

    states = built.user_side(users, users_embedded)
    logits = built.candidate_side(states, shown, Embedded(shown_embedded.fields, {}), request_of_candidate)
    shared = logits_and_gradients(built, logits, inputs)

    dense, embedded = cases.pick(users, users_embedded, request_of_candidate.tolist())
    dense = torch.where(torch.tensor([f.name in features.candidate for f in features.dense]), shown, dense)
    _, side = both_sides(features, model.embedding_dim, split=True)
    fields = {
        dim: torch.where(torch.tensor(side.fields[dim])[:, None], shown_embedded.fields[dim], values)
        for dim, values in embedded.fields.items()
    }
    repeated = logits_and_gradients(built, built(dense, Embedded(fields, embedded.events)), inputs)
    for mine, theirs in zip(shared, repeated, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-11)


INTERACTIONS = [
    {"kind": "dhen"},
    {"kind": "dhen", "parts": ["dcn", "wukong", "dot"], "merge": "concat", "dcn_layers": 3},
    {"kind": "dcn", "dcn_layers": 2, "dcn_rank": 5},
    {"kind": "dot", "dot_tokens": 4},
    {"kind": "dot", "dot_tokens": 100},
    {"kind": "wukong", "fmb_tokens": 2},
    {"kind": "wukong", "fmb_tokens": 100, "residual": False},
]


@pytest.mark.parametrize("interaction", INTERACTIONS)
@pytest.mark.parametrize("changes", [{}, {"layers": 1, "head": []}, {"preset": "paper", "layers": 3, "flow": "n2s"}])
def test_products_that_candidates_share_are_worked_out_once(interaction: dict, changes: dict) -> None:
    """Logits and all gradients are those of repeated rows; what is shared has the stated shapes and comes back from one row of floats."""
    features, model = schema(labels=2), options(**changes, interaction=interaction)
    built = cases.build(features, model)
    users, users_embedded = cases.embedded_inputs(features, model, count=3, longest=7, seed=1)
    shown, shown_embedded = cases.embedded_inputs(features, model, count=12, longest=7, seed=2)
    of_candidate = Embedded(shown_embedded.fields, {})
    inputs = [*leaves(users, users_embedded), shown.requires_grad_()]
    inputs += [values.requires_grad_() for values in of_candidate.fields.values()]

    owners = torch.arange(3).repeat_interleave(4)
    repeated = built.candidate_side(built.user_side(users, users_embedded), shown, of_candidate, owners)
    expected = logits_and_gradients(built, repeated, inputs)

    shared, shapes = built.shared(built.user_side(users, users_embedded)), built.shared_shapes
    assert [[tuple(part.shape[1:]) for part in layer] for layer in shared.layers] == list(shapes.layers)
    assert [tuple(part.shape[1:]) for part in shared.heads] == shapes.heads
    again = shapes.of(iter(shared.flat().split(shapes.sizes, dim=1)))
    assert built.candidate is not None
    dense, embedded = built.candidate.side.take(shown, of_candidate)
    fields = {width: values.unflatten(0, (3, 4)) for width, values in embedded.fields.items()}
    logits = built.logits_of_requests(again, dense.unflatten(0, (3, 4)), Embedded(fields, {})).flatten(0, 1)
    for mine, theirs in zip(logits_and_gradients(built, logits, inputs), expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("interaction", INTERACTIONS)
@pytest.mark.parametrize("seed", [0, 2])
def test_training_on_requests_works_shared_products_out_once(
    interaction: dict, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests of 0 to many candidates, in any order: logits and all gradients are those of a row of states for each candidate."""
    features, model = schema(labels=2), options(layers=2, interaction=interaction)
    built = cases.build(features, model, seed)
    generator = torch.Generator().manual_seed(seed)
    counts = torch.tensor([0, 1, 200, 3, 0, 17, 64])[torch.randperm(7, generator=generator)]
    owners = torch.arange(7).repeat_interleave(counts)
    owners = owners[torch.randperm(len(owners), generator=generator)] if seed == 2 else owners
    users, users_embedded = cases.embedded_inputs(features, model, count=7, longest=7, seed=1)
    shown, shown_embedded = cases.embedded_inputs(features, model, count=len(owners), longest=0, seed=2)
    of_candidate = Embedded(shown_embedded.fields, {})
    inputs = [*leaves(users, users_embedded), shown.requires_grad_()]
    inputs += [values.requires_grad_() for values in of_candidate.fields.values()]
    found, calls = [], []
    in_blocks = InterFormer._in_blocks
    monkeypatch.setattr(InterFormer, "_in_blocks", lambda *given: calls.append(1) or in_blocks(*given))
    for fewest in (1, 1_000_000):
        monkeypatch.setattr(interformer, "SHARED_FROM", fewest)
        logits = built.candidate_side(built.user_side(users, users_embedded), shown, of_candidate, owners)
        found.append(logits_and_gradients(built, logits, inputs))
    assert len(calls) == 1
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


def test_few_candidates_a_request_are_not_put_into_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the matrices of a request would cost more than its candidates."""
    features, model = schema(), options()
    built = cases.build(features, model)
    assert built.candidate is not None
    n, rank = built.candidate.preprocess.tokens, model.interaction.dcn_rank
    assert built.candidate.pays_from == n * rank / (2 * rank + n) < interformer.SHARED_FROM
    monkeypatch.setattr(InterFormer, "_in_blocks", lambda *_: pytest.fail("worked out for few candidates"))
    users = cases.embedded_inputs(features, model, count=4, longest=7, seed=1)
    shown, embedded = cases.embedded_inputs(features, model, count=6, longest=0, seed=2)
    owners = torch.tensor([0, 0, 1, 2, 3, 3])
    assert built.candidate_side(built.user_side(*users), shown, Embedded(embedded.fields, {}), owners).shape == (6, 1)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("merge", ["masknet", "separate", "concat"])
def test_the_users_side_does_not_change_with_the_candidate_and_the_logits_do(layers: int, merge: str) -> None:
    features, model = schema(), options(layers=layers, sequence={"merge": merge})
    built = cases.build(features, model)
    dense, embedded = cases.embedded_inputs(features, model, count=5, longest=9)
    _, side = both_sides(features, model.embedding_dim, split=True)
    other_dense = dense + torch.tensor(side.dense).double()
    fields = {dim: v + torch.tensor(side.fields[dim]).double()[:, None] for dim, v in embedded.fields.items()}
    other = Embedded(fields, embedded.events)
    before, after = built.user_side(dense, embedded), built.user_side(other_dense, other)
    assert len(before.reads) == layers
    for first, second in zip((*before.reads, before.summaries), (*after.reads, after.summaries), strict=True):
        assert torch.equal(first, second)
    assert (built(dense, embedded) - built(other_dense, other)).abs().min() > 1e-6


def test_the_candidates_side_hears_the_user() -> None:
    """The logits' gradient reaches every column of both sides and every event, also past the heads: through layer 1's tokens."""
    features, model = schema(), options(layers=2)
    built = cases.build(features, model)
    dense, embedded = cases.embedded_inputs(features, model, count=5, longest=6)
    inputs = leaves(dense, embedded)
    states = built.user_side(dense, embedded)
    cut = states._replace(summaries=states.summaries.detach())  # only what X_c reads
    gradients = torch.autograd.grad(built.candidate_side(cut, dense, embedded).sum(), inputs)
    assert gradients[0].abs().gt(0).all()
    for values in gradients[1:]:
        assert values.abs().amax(-1).gt(0).all()


@pytest.mark.parametrize("changes", [{}, {"preset": "paper"}])
def test_every_parameter_gets_a_finite_gradient_that_is_not_zero(changes: dict) -> None:
    features, model = schema(labels=2), options(**changes)
    torch.manual_seed(0)
    built = InterFormer(features, model)
    dense, embedded = cases.embedded_inputs(features, model, count=32, longest=20, dtype=torch.float32)
    built(dense, embedded).square().sum().backward()
    for name, parameter in built.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 1e-9, name


@pytest.mark.parametrize(
    "changes, tensors, numbers, logits",
    [
        ({}, 123, 136802, [0.251138898243, -0.015983752226]),
        ({"preset": "paper", "layers": 3}, 98, 104338, [-0.198525759791, 0.069603647076]),
    ],
)
def test_without_split_the_model_is_what_it_was(changes: dict, tensors: int, numbers: int, logits: list) -> None:
    """Counts and numbers of the model before there was a split; naming candidates alone changes nothing."""
    features = schema(labels=2)
    torch.manual_seed(0)
    built = InterFormer(features, options(**changes, split=False)).double()
    dense, embedded = cases.embedded_inputs(features, options(), count=4, longest=6)
    state = built.state_dict()
    assert {name.split(".")[0] for name in state} == {"preprocess", "cross_archs", "layers", "heads"}
    assert (len(state), sum(weight.numel() for weight in state.values())) == (tensors, numbers)
    torch.testing.assert_close(built(dense, embedded)[0], torch.tensor(logits).double(), rtol=0, atol=1e-7)


def test_wrong_use_is_refused() -> None:
    features, model = schema(), options()
    dense, embedded = cases.embedded_inputs(features, model, count=3)
    built = cases.build(features, model)
    with pytest.raises(InputError, match="3 candidates, but the user's side is given for 2"):
        built.candidate_side(built.user_side(*cases.pick(dense, embedded, [0, 1])), dense, embedded)
    whole = cases.build(features, model.model_copy(update={"split": False}))
    with pytest.raises(InputError, match=r"only with model\.split: true"):
        whole.candidate_side(whole.user_side(dense, embedded), dense, embedded, torch.tensor([0, 0, 1]))
    lone = schema(("f1", "f2", "f3", "f4", "item", "x0", "x1"))
    with pytest.raises(InputError, match="leaves the user's Interaction Arch one token"):
        InterFormer(lone, options(flow="n2s", sequence={"lengths": False}))
