"""The whole model on interpreted kernels against the whole model on plain torch: logits and the gradients of all weights."""

from __future__ import annotations

import pytest
import torch

from interformer_rec.config.model import ModelConfig
from interformer_rec.model.interformer import InterFormer
from interformer_rec.ops.backend import Choice, using
from tests.model import cases

FORMS = [
    {"d": 16, "heads": 1, "layers": 1},
    {"d": 24, "heads": 2, "layers": 1, "sequence": {"merge": "concat"}, "dropout": 0.0},
    {"preset": "paper", "d": 16, "heads": 2, "layers": 2, "embedding_dim": 16},
]


def run(options: dict, choice: Choice, half: bool) -> list[torch.Tensor]:
    """The logits and each weight's gradient."""
    features, model = cases.schema(), ModelConfig.model_validate({"embedding_dim": 8, **options})
    torch.manual_seed(0)
    built = InterFormer(features, model)
    dense, embedded = cases.embedded_inputs(features, model, count=4, longest=9, dtype=torch.float32)
    with using(choice), torch.autocast("cpu", torch.bfloat16, enabled=half):
        logits = built(dense, embedded)
        gradients = torch.autograd.grad(logits.float().square().sum(), list(built.parameters()), allow_unused=True)
    return [logits.detach(), *(torch.zeros(1) if grad is None else grad for grad in gradients)]


@pytest.mark.parametrize("options", FORMS, ids=["default", "concat", "paper"])
def test_the_model_on_kernels_is_the_model(interpreted, options: dict) -> None:
    for mine, plain in zip(interpreted(run, options, "triton", False), run(options, "torch", False), strict=True):
        torch.testing.assert_close(mine, plain, rtol=2e-4, atol=2e-5)


def test_half_precision_costs_about_what_autocast_costs(interpreted) -> None:
    """Norms and gates give half precision on, where autocast widens to float32: more rounding, not another number."""
    exact, plain = run(FORMS[0], "torch", False), run(FORMS[0], "torch", True)
    mine = interpreted(run, FORMS[0], "triton", True)

    def error(found: list[torch.Tensor]) -> float:
        return sum(float((a.float() - b).square().sum()) for a, b in zip(found, exact, strict=True)) ** 0.5

    assert 0 < error(mine) <= 2.5 * error(plain)
    assert error(mine) <= 0.05 * sum(float(x.square().sum()) for x in exact) ** 0.5
