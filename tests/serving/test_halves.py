"""The rectangle is the same model: logits of every kind, preset, merge, flow and form agree with the jagged form."""

import random

import pytest
import torch

from interformer_rec.serving.halves import halves
from tests.model.cases import random_config, schema
from tests.model.golden_cases import cases
from tests.serving.rectangles import Case, parameters_everywhere

CASES = cases()


@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_the_jagged_form(name):
    for dtype, bound, places, junk in ((torch.float64, 1e-9, None, 0.0), (torch.float32, 1e-5, 14, float("nan"))):
        case = Case(CASES[name], dtype)
        parameters_everywhere(case.model, 0.05)
        expected = case.jagged()
        assert expected.std() > 0
        # places: more than any history has; junk: what stands there
        found = case.ask(halves(case.model, case.reads), places, junk)
        torch.testing.assert_close(found, expected, rtol=0, atol=bound)


@pytest.mark.parametrize(
    "name", ["default", "merge masknet", "merge union", "split", "two sets", "kind dien", "kind transact"]
)
def test_a_row_does_not_depend_on_the_others(name):
    case = Case(CASES[name])
    graphs = halves(case.model, case.reads)
    together = case.ask(graphs)
    for row in range(len(together)):
        inputs = [[tensor[row : row + 1] for tensor in part] for part in case.inputs()]
        with torch.no_grad():
            alone = graphs[0](*inputs[0])
            if len(graphs) > 1:
                alone = graphs[1](alone, torch.zeros(1, dtype=torch.int64), *(one[:, None] for one in inputs[1]))[0]
        torch.testing.assert_close(alone[0], together[row], rtol=0, atol=1e-12)


def test_candidates_of_one_user_share_its_state():
    case = Case(CASES["split paper"])
    user, candidate = halves(case.model, case.reads)
    of_user, of_candidate = case.inputs()
    owners = torch.tensor([2, 0, 5])
    with torch.no_grad():
        blocks = candidate(user(*of_user), owners, *(part.unflatten(0, (3, 2)) for part in of_candidate))
        users = user(*(part[owners.repeat_interleave(2)] for part in of_user))
        alone = candidate(users, torch.arange(6), *(part[:, None] for part in of_candidate))
    torch.testing.assert_close(blocks.flatten(0, 1), alone.flatten(0, 1), rtol=0, atol=1e-12)


@pytest.mark.release
@pytest.mark.parametrize("seed", range(40))
def test_random_configs(seed):
    draw = random.Random(seed)
    options = random_config(seed).model_dump()
    options["ensemble_members"] = draw.choice([1, 1, 2])
    options["split"] = options["flow"] in ("int", "n2s") and draw.random() < 0.5
    if draw.random() < 0.3:
        options["sequence"]["merge"] = "union"
    features = random_schema(draw, options)
    case = Case(options, rows=5, longest=1 + seed % 12, seed=seed, features=features)
    parameters_everywhere(case.model, 0.05)
    found = case.ask(halves(case.model, case.reads), places=12, junk=float("inf"))
    torch.testing.assert_close(found, case.jagged(), rtol=1e-9, atol=1e-9)


def random_schema(draw, options):
    """Histories of random columns; fields, with and without dense columns and bags; the candidate's, where the model is split."""
    columns = draw.choice([1, 2])
    names = ["watch", "like", "buy"][: draw.choice([1, 2, 3])]
    union = options["sequence"]["merge"] == "union"
    groups = tuple((name, columns if union else draw.choice([1, 2, 3])) for name in names)
    features = schema(groups, ids=draw.choice([4, 5]), dense=draw.choice([0, 2]), labels=draw.choice([1, 2]))
    return features.model_copy(update={"candidate": ("item", "f1")}) if options["split"] else features
