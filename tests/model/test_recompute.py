"""model.sequence.recompute: the same logits and gradients, dropout's draws too, with less kept for the backward pass."""

from __future__ import annotations

import pytest
import torch

from interformer_rec.config.model import ModelConfig
from tests.model import cases

CHANGES = [
    {},
    {"preset": "paper", "layers": 3},
    {"layers": 3, "sequence": {"window": 3, "attention_every": 2, "merge": "separate"}},
    {"flow": "s2n", "sequence": {"pffn": "gdpa"}},
    {"flow": "n2s", "overlap": True},
]


def found(changes: dict, recompute: bool) -> tuple[list[torch.Tensor], int]:
    """Logits and gradients of all weights and inputs; bytes that autograd keeps."""
    sequence = {**changes.get("sequence", {}), "recompute": recompute}
    tree = {"embedding_dim": 8, "d": 8, "dropout": 0.4, **changes, "sequence": sequence}
    features, model = cases.schema(labels=2), ModelConfig.model_validate(tree)
    built = cases.build(features, model).train()
    dense, embedded = cases.embedded_inputs(features, model, count=8, longest=12)
    inputs = [dense, *embedded.fields.values(), *(part.values for part in embedded.events.values())]
    for one in inputs:
        one.requires_grad_()
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(1)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = built(dense, embedded)
    weights = torch.linspace(0.5, 2, logits.numel(), dtype=logits.dtype).view_as(logits)
    wanted = [*built.parameters(), *inputs]
    found_gradients = torch.autograd.grad((logits * weights).sum(), wanted, allow_unused=True)
    gradients = [gradient for gradient in found_gradients if gradient is not None]
    return [logits.detach(), *gradients, torch.rand(3)], sum(kept.values())


@pytest.mark.parametrize("changes", CHANGES)
def test_numbers_are_the_same_and_less_is_kept(changes: dict) -> None:
    plain, whole = found(changes, False)
    again, less = found(changes, True)
    for mine, theirs in zip(again, plain, strict=True):  # the last: what comes next from the generator
        assert torch.equal(mine, theirs)
    assert less < whole


def test_nothing_is_kept_for_an_answer() -> None:
    """Without gradients there is no second pass."""
    features, model = cases.schema(), ModelConfig.model_validate({"sequence": {"recompute": True}})
    built = cases.build(features, model).eval()
    calls = []
    built.layers[0].sequence_archs[0].register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        built(*cases.embedded_inputs(features, model, count=4))
    assert len(calls) == 1
