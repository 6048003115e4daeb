"""Auxiliary losses against plain loops, and their way into the objective."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from interformer_rec.model.baselines.auxiliary import Supervised, next_event_loss
from interformer_rec.model.baselines.padded import PaddedLayout
from interformer_rec.model.task import CTRTask, WeightedBCE, build_task
from tests.model import cases
from tests.model.baselines import reference_events, systems
from tests.model.test_task import make_batch, rows_of

FEATURES = cases.schema(groups=(("watch", 2),))
WITH_LOSS = ["dien", "dmin", "dmr"]


def test_the_loss_of_the_next_event_is_the_mean_over_a_samples_steps() -> None:
    lengths = torch.tensor([3, 0, 1, 2])
    states, events = torch.randn(2, 6, 4, dtype=torch.float64)
    torch.manual_seed(5)
    found = next_event_loss(states, events, PaddedLayout(lengths, 6))
    torch.manual_seed(5)
    drawn = iter(events[torch.randint(6, (3,))])
    expected, start = [], 0
    for length in lengths.tolist():
        steps = []
        for t in range(start, start + length - 1):
            right, wrong = torch.sigmoid(states[t] @ events[t + 1]), torch.sigmoid(states[t] @ next(drawn))
            steps.append(-torch.log(right) - torch.log(1 - wrong))
        expected.append(sum(steps) / len(steps) if steps else torch.zeros((), dtype=torch.float64))
        start += length
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["dien", "dmin"])
def test_states_of_the_next_event_loss_are_the_references(kind: str) -> None:
    config = systems.options(kind, auxiliary=0.5)
    model = systems.build(FEATURES, config).train()
    dense, embedded = cases.embedded_inputs(FEATURES, config, count=6, longest=7)
    plain = {"dien": reference_events.DIEN, "dmin": reference_events.DMIN}[kind](FEATURES, config, model.state_dict())
    states_of = plain.interests if kind == "dien" else plain.refined
    part = embedded.events["watch"]
    states = [s for e in part.values.split(part.lengths.tolist()) for s in states_of("inputs.readers.0", e)]
    torch.manual_seed(1)
    expected = 0.5 * next_event_loss(torch.stack(states), part.values, PaddedLayout(part.lengths, len(part.values)))
    torch.manual_seed(1)
    output = model(dense, embedded)
    torch.testing.assert_close(output.auxiliary, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(output.logits, model.eval()(dense, embedded), rtol=0, atol=1e-12)


def test_the_match_loss_of_dmr_compares_the_user_before_the_newest_event_with_it() -> None:
    config = systems.options("dmr", auxiliary=0.5, negatives=3)
    model = systems.build(FEATURES, config).train()
    dense, embedded = cases.embedded_inputs(FEATURES, config, count=6, longest=7)
    part, name = embedded.events["watch"], "inputs.readers.0.user_to_item"
    plain = reference_events.DMR(FEATURES, config, model.state_dict())
    torch.manual_seed(1)
    output = model(dense, embedded)
    torch.manual_seed(1)
    others = [plain.linear(f"{name}.item", e) for e in part.values[torch.randint(len(part.values), (3,))]]
    expected = []
    for events in part.values.split(part.lengths.tolist()):
        if len(events) < 2:
            expected.append(torch.zeros((), dtype=torch.float64))
            continue
        scores = plain.scores(f"{name}.scores", events, None)  # ages count from the newest of all
        user = plain.user(name, events[:-1], scores[:-1])
        right = -torch.log(torch.sigmoid(user @ plain.linear(f"{name}.item", events[-1])))
        wrong = sum(-torch.log(torch.sigmoid(-(user @ other))) for other in others) / 3
        expected.append(0.5 * (right + wrong))
    torch.testing.assert_close(output.auxiliary, torch.stack(expected), rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", WITH_LOSS)
def test_only_training_adds_a_loss_and_a_weight_of_zero_adds_none(kind: str) -> None:
    config = systems.options(kind)
    dense, embedded = cases.embedded_inputs(FEATURES, config, count=4)
    model = systems.build(FEATURES, config)
    assert isinstance(model(dense, embedded), torch.Tensor)
    assert isinstance(model.train()(dense, embedded), Supervised)
    without = systems.build(FEATURES, systems.options(kind, auxiliary=0.0)).train()
    assert isinstance(without(dense, embedded), torch.Tensor)


def test_an_auxiliary_loss_moves_the_weights_but_not_the_reported_number() -> None:
    loss = WeightedBCE([2.0])
    logits = torch.tensor([[0.3], [-1.0]], requires_grad=True)
    auxiliary = torch.tensor([5.0, 7.0], requires_grad=True)
    labels, weights = torch.tensor([[1.0], [0.0]]), torch.tensor([0.5, 2.0])
    value, shown = loss(Supervised(logits, auxiliary), labels, weights, 4.0, torch.zeros(2, dtype=torch.int64))
    plain, _ = loss(logits, labels, weights, 4.0, torch.zeros(2, dtype=torch.int64))
    assert value.item() == plain.item() and torch.equal(shown, logits) and not shown.requires_grad
    expected = 2 * weights @ F.binary_cross_entropy_with_logits(logits, labels, reduction="none")[:, 0] / 4
    torch.testing.assert_close(value, expected)
    value.backward()
    torch.testing.assert_close(auxiliary.grad, weights / 4)
    assert logits.grad is not None and logits.grad.abs().min() > 0


def make_task(kind: str) -> CTRTask:
    torch.manual_seed(0)
    return build_task(FEATURES, systems.options(kind), rows_of(FEATURES), device=torch.device("cpu")).train()


@pytest.mark.parametrize("kind", [*systems.FIELD_KINDS, *systems.EVENT_KINDS])
def test_a_filler_batch_adds_nothing(kind: str) -> None:
    task = make_task(kind)
    loss, logits = task(make_batch(1, filler=True, features=FEATURES))
    loss.backward()
    assert loss.item() == 0 and logits.isfinite().all()
    for name, parameter in task.named_parameters():
        assert parameter.grad is not None and not parameter.grad.any(), name


@pytest.mark.parametrize("kind", WITH_LOSS)
def test_through_the_real_lookup_the_auxiliary_loss_reaches_the_tables(kind: str) -> None:
    batch = make_batch(8, features=FEATURES)
    gradients = []
    for training in (True, False):
        task = make_task(kind).train(training)
        torch.manual_seed(3)
        loss, _ = task(batch)
        loss.backward()
        gradients.append((loss.item(), [p.grad for p in task.embeddings.parameters()]))
    (with_loss, first), (without, second) = gradients
    assert with_loss == pytest.approx(without, abs=1e-6)
    assert not all(torch.allclose(a, b) for a, b in zip(first, second, strict=True))
