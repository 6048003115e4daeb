"""The whole model after the lookup, against the per-sample reference, and its invariances."""

from __future__ import annotations

import pytest
import torch

from interformer_rec.config.model import Flow, FlowName, ModelConfig
from interformer_rec.errors import InputError
from interformer_rec.model.embedding.embedded import Embedded, Events
from interformer_rec.model.interformer import InterFormer
from interformer_rec.ops.padding import buckets
from tests.model import cases
from tests.model.reference import Reference

SCHEMAS = [
    cases.schema(),
    cases.schema(groups=(("watch", 2), ("like", 2)), odd_dim=6, labels=2),
    cases.schema(groups=(("watch", 1),), ids=1, dense=0),  # two token streams at their smallest
    cases.schema(groups=(("watch", 1), ("like", 1)), ids=0, dense=3),
]


@pytest.mark.parametrize("seed", range(40))
def test_agrees_with_the_per_sample_reference(seed: int) -> None:
    features, model = SCHEMAS[seed % len(SCHEMAS)], cases.random_config(seed)
    if seed % len(SCHEMAS) >= 2:  # one token: it needs the sequences'
        model = model.model_copy(update={"flow": "int"})
    built = cases.build(features, model, seed)
    dense, embedded = cases.embedded_inputs(features, model, count=6, longest=7, seed=seed)
    reference = Reference(features, model, built.state_dict())
    expected = torch.stack([reference.logits(cases.single(dense, embedded, i)) for i in range(6)])
    torch.testing.assert_close(built(dense, embedded), expected, rtol=1e-12, atol=1e-9)
    dense32, embedded32 = cases.embedded_inputs(features, model, count=6, longest=7, seed=seed, dtype=torch.float32)
    torch.testing.assert_close(built.float()(dense32, embedded32).double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", range(10))
def test_a_union_of_histories_agrees_with_the_per_sample_reference(seed: int) -> None:
    features = cases.schema(groups=(("watch", 2), ("like", 2), ("buy", 2))[: 2 + seed % 2], labels=2)
    drawn = cases.random_config(seed)
    model = drawn.model_copy(update={"sequence": drawn.sequence.model_copy(update={"merge": "union"})})
    built = cases.build(features, model, seed)
    dense, embedded = cases.embedded_inputs(features, model, count=8, longest=7, seed=seed)
    reference = Reference(features, model, built.state_dict())
    expected = torch.stack([reference.logits(cases.single(dense, embedded, i)) for i in range(8)])
    logits = built(dense, embedded)
    torch.testing.assert_close(logits, expected, rtol=1e-12, atol=1e-9)
    for some in ([3], [7, 0, 5]):  # other samples' events of the same ids change nothing
        torch.testing.assert_close(built(*cases.pick(dense, embedded, some)), logits[some], rtol=0, atol=1e-11)


@pytest.mark.parametrize("preset", ["default", "paper"])
@pytest.mark.parametrize("longest", [0, 1, 50])
def test_presets_agree_with_the_reference_for_empty_one_event_and_full_histories(preset: str, longest: int) -> None:
    features, model = cases.schema(), ModelConfig.model_validate({"preset": preset, "embedding_dim": 16, "layers": 2})
    built = cases.build(features, model)
    dense, embedded = cases.embedded_inputs(features, model, count=4, longest=longest)
    reference = Reference(features, model, built.state_dict())
    expected = torch.stack([reference.logits(cases.single(dense, embedded, i)) for i in range(4)])
    torch.testing.assert_close(built(dense, embedded), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("merge", ["masknet", "separate", "concat"])
@pytest.mark.parametrize("pffn", ["two_layer", "gdpa", "appendix"])
def test_a_logit_depends_on_its_own_sample_only(merge: str, pffn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    features = cases.schema()
    model = ModelConfig.model_validate(
        {"embedding_dim": 8, "d": 8, "layers": 2, "sequence": {"merge": merge, "pffn": pffn}}
    )
    built = cases.build(features, model)
    dense, embedded = cases.embedded_inputs(features, model, count=40, longest=30)
    together = built(dense, embedded)
    for some in ([3], [7, 0, 21], list(range(39, -1, -1))):  # alone, fewer, another order
        torch.testing.assert_close(built(*cases.pick(dense, embedded, some)), together[some], rtol=0, atol=1e-11)
    # further padding: one bucket pads everyone to the batch's longest
    monkeypatch.setattr(buckets, "plan_buckets", lambda widths: [(len(widths), widths[-1])])
    torch.testing.assert_close(built(dense, embedded), together, rtol=0, atol=1e-11)
    monkeypatch.setattr(buckets, "plan_buckets", lambda widths: [(len(widths), widths[-1] + 13)])
    torch.testing.assert_close(built(dense, embedded), together, rtol=0, atol=1e-11)


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_gradients_do_not_depend_on_padding(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    features, model = (
        cases.schema(),
        ModelConfig.model_validate({"preset": preset, "embedding_dim": 8, "d": 8, "layers": 2}),
    )
    built = cases.build(features, model)
    dense, embedded = cases.embedded_inputs(features, model, count=12, longest=20)
    gradients = []
    for extra in (0, 5):
        if extra:
            monkeypatch.setattr(buckets, "plan_buckets", lambda widths: [(len(widths), widths[-1] + 5)])
        built.zero_grad()
        built(dense, embedded).square().sum().backward()
        gradients.append([p.grad.clone() for p in built.parameters()])
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-11)


def test_an_event_is_known_by_its_age_not_by_its_place() -> None:
    # The loader keeps the newest events; what came before them must not shift the positions of those that stay.
    features = cases.schema(groups=(("watch", 1),))
    model = ModelConfig.model_validate({"embedding_dim": 8, "d": 8, "layers": 2})
    built = cases.build(features, model)
    dense, embedded = cases.embedded_inputs(features, model, count=5, longest=12)
    x, events = built.preprocess(dense, embedded)
    sequence = built.prepend(x[:, :4], events[0])
    longer = events[0]._replace(
        values=torch.cat(
            [
                part
                for rows in events[0].values.split(events[0].lengths_BG[:, 0].tolist())
                for part in (rows[:0], torch.ones(3, 8), rows)
            ]
        ),
        lengths_BG=events[0].lengths_BG + 3,
    )
    shifted = built.prepend(x[:, :4], longer)
    for i, length in enumerate(events[0].lengths_BG[:, 0].tolist()):
        end, shifted_end = int(sequence.layout.token_offsets[i + 1]), int(shifted.layout.token_offsets[i + 1])
        for mine, moved in ((sequence.rotary.ages, shifted.rotary.ages), (sequence.rotary.table, shifted.rotary.table)):
            assert torch.equal(mine[end - length : end], moved[shifted_end - length : shifted_end])


@pytest.mark.parametrize(
    "options", [{}, {"preset": "paper"}, {"sequence": {"merge": "concat"}}, {"interaction": {"kind": "wukong"}}]
)
def test_every_parameter_gets_a_finite_gradient_that_is_not_zero(options: dict) -> None:
    features = cases.schema(labels=2)
    torch.manual_seed(0)
    model = ModelConfig.model_validate({"layers": 2, **options})
    built = InterFormer(features, model)
    dense, embedded = cases.embedded_inputs(features, model, count=32, longest=20, dtype=torch.float32)
    built(dense, embedded).square().sum().backward()
    for name, parameter in built.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 1e-9, name


@pytest.mark.parametrize(
    "options", [{}, {"preset": "paper"}, {"preset": "paper", "layers": 3}, {"sequence": {"merge": "concat"}}]
)
def test_tokens_keep_their_scale_through_the_first_layer(options: dict) -> None:
    features, model = cases.schema(ids=20), ModelConfig.model_validate({"layers": 2, **options})
    torch.manual_seed(0)
    built = InterFormer(features, model)
    dense, embedded = cases.embedded_inputs(features, model, count=64, longest=50, dtype=torch.float32)
    x, events = built.preprocess(dense, embedded)
    cross_arch, layer = built.cross_archs[0], built.layers[0]
    before = [built.prepend(cross_arch.x_summary(cross_arch.x_norm(x)), part) for part in events]
    x_n, s_n = cross_arch.norms(x, before)
    x_sum, s_sum = cross_arch(x_n, s_n)
    x_after = layer.interaction_arch(x, x_n, s_sum)
    ratios = [x_after.norm(dim=-1).mean() / x.norm(dim=-1).mean()]
    for arch, s, normed in zip(layer.sequence_archs, before, s_n, strict=True):
        ratios.append(arch(x_sum, s, normed).values.norm(dim=-1).mean() / s.values.norm(dim=-1).mean())
    assert all(0.1 <= ratio <= 10 for ratio in ratios), ratios
    logits = built(dense, embedded)
    assert logits.abs().max() < 10 and logits.std() > 1e-3


def test_same_seed_same_bits() -> None:
    features, model = cases.schema(), ModelConfig.model_validate({"embedding_dim": 8, "layers": 2})
    dense, embedded = cases.embedded_inputs(features, model, count=20, longest=20, dtype=torch.float32)
    runs = []
    for _ in range(2):
        torch.manual_seed(3)
        built = InterFormer(features, model)
        logits = built(dense, embedded)
        logits.sum().backward()
        runs.append([logits.detach(), *(p.grad for p in built.parameters())])
    assert all(torch.equal(first, second) for first, second in zip(*runs, strict=True))


def test_histories_and_fields_inform_each_other() -> None:
    features, model = cases.schema(), ModelConfig.model_validate({"embedding_dim": 8, "d": 8, "layers": 2})
    built = cases.build(features, model)
    dense, embedded = cases.embedded_inputs(features, model, count=8, longest=6)
    embedded.fields[8].requires_grad_()
    for part in embedded.events.values():
        part.values.requires_grad_()
    built(dense, embedded).sum().backward()
    assert embedded.fields[8].grad.abs().amax(-1).gt(0).all()
    for part in embedded.events.values():
        assert part.values.grad.abs().amax(-1).gt(0).all()  # every event, the oldest too


def test_half_precision_autocast_stays_close() -> None:
    features, model = cases.schema(), ModelConfig.model_validate({"embedding_dim": 16, "layers": 2})
    torch.manual_seed(0)
    built = InterFormer(features, model)
    dense, embedded = cases.embedded_inputs(features, model, count=64, longest=20, dtype=torch.float32)
    exact = built(dense, embedded)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = built(dense, embedded)
    rounded.float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in built.parameters())
    # against the spread of the logits, which are all near zero before training
    assert (rounded.float() - exact).square().mean().sqrt() < 0.02 * exact.std()


@pytest.mark.parametrize(
    "flow, x_reads_s, s_reads_x",
    [("int", True, True), ("n2s", False, True), ("s2n", True, False), ("sep", False, False)],
)
def test_flow_is_cut_where_it_says(flow: FlowName, x_reads_s: bool, s_reads_x: bool) -> None:
    """Change one mode before layer 1: does the other mode's next layer differ?"""
    features = cases.schema()
    built = cases.build(features, ModelConfig.model_validate({"embedding_dim": 8, "d": 8, "layers": 1, "flow": flow}))
    seen: dict[str, list[torch.Tensor]] = {"x": [], "s": []}

    def keep(module: torch.nn.Module, args: tuple, out: tuple) -> None:
        seen["x"].append(out[0])
        seen["s"].append(out[1][0].values)

    built.layers[0].register_forward_hook(keep)
    dense, embedded = cases.embedded_inputs(features, cases.random_config(0).model_copy(update={"embedding_dim": 8}), 3)
    assert Flow.of(flow) == Flow(x_reads_s, s_reads_x)
    built(dense, embedded)
    events = {name: Events(part.values + 1, part.lengths) for name, part in embedded.events.items()}
    built(dense, Embedded(embedded.fields, events))
    assert torch.equal(seen["x"][0], seen["x"][1]) != x_reads_s
    built(dense + 1, Embedded({dim: values + 1 for dim, values in embedded.fields.items()}, embedded.events))
    assert torch.equal(seen["s"][0], seen["s"][2]) != s_reads_x


def test_a_lone_field_without_what_the_sequences_say_is_an_error() -> None:
    features = cases.schema(groups=(("watch", 1),), ids=1, dense=0)
    model = ModelConfig.model_validate({"layers": 2, "flow": "sep", "sequence": {"lengths": False}})
    with pytest.raises(InputError, match="flow sep leaves the Interaction Arch one token"):
        InterFormer(features, model)
