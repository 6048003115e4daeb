"""FLOPs against torch's own counter; zeros in the place of products change no count; blocks by their names."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from interformer_rec.planning.cost.counter import Blocks, Kept, NormAsOneKernel, Operators, block_name, forward_flops


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 16)
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(16, 2, 12, 0.0, batch_first=True) for _ in range(2))
        self.head = nn.Linear(16, 1)

    def forward(self, x):
        x = self.first(x)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


@pytest.mark.parametrize("backend", [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION])
@pytest.mark.parametrize("multiply", [True, False])
def test_flops_are_those_of_torchs_counter_with_either_attention(backend, multiply):
    model, x = Model().train(), torch.randn(4, 5, 8)
    with FlopCounterMode(display=False) as expected, sdpa_kernel(SDPBackend.MATH):
        model(x)
    with Operators(multiply=multiply) as found, sdpa_kernel(backend):
        assert model(x).shape == (4, 5, 1)
    assert found.total_flops == expected.get_total_flops() > 0


def test_without_products_a_backward_pass_counts_the_same_operators():
    counts = []
    for multiply in (True, False):
        with Operators(multiply=multiply) as counter:
            Model().train()(torch.randn(4, 5, 8)).sum().backward()
        counts.append((counter.count, counter.total_flops))
    assert counts[0] == counts[1] and counts[0][0] > 50


def test_evaluation_counts_what_training_does():
    """In evaluation torch may run a whole encoder layer as one operator that no formula knows."""
    model, x = Model(), torch.randn(4, 5, 8)
    assert forward_flops(lambda: model.eval()(x)) == forward_flops(lambda: model.train()(x)) > 0
    assert torch.backends.mha.get_fastpath_enabled()


def test_each_block_has_its_share():
    model, x = Model(), torch.randn(4, 5, 8)
    blocks = Blocks(model, "other")
    with Operators(lambda: blocks.current) as counter:
        model.train()(x)
    assert counter.flops["first"] == 2 * 20 * 8 * 16 and counter.flops["head"] == 2 * 20 * 16
    assert blocks.current == "other"


@pytest.mark.parametrize(
    "path, name",
    [
        ("layers.1.interaction_arch.norm", "interaction_arch"),
        ("members.0.layers.1.heads.2", "heads"),
        ("layers.0", "layers"),
        ("cross_archs.0.lce", "cross_archs"),
    ],
)
def test_a_block_is_a_child_of_the_model(path, name):
    assert block_name(path) == name


def test_a_storage_is_kept_once_and_what_is_named_is_not():
    weight, x = torch.randn(8, 8, requires_grad=True), torch.randn(4, 8)
    kept = Kept(lambda: "here", [weight])
    with kept:
        (x @ weight).sum(), (x @ weight).exp().sum()
    assert kept.bytes == {"here": 2 * 4 * 8 * 4}  # x once, and what exp gave


def test_rms_norm_keeps_its_input_and_a_number_a_row():
    x, gain = torch.randn(6, 32, dtype=torch.bfloat16, requires_grad=True), torch.ones(32, requires_grad=True)
    kept = Kept(lambda: "", [gain])
    with NormAsOneKernel(), kept:
        out = torch.nn.functional.rms_norm(x, (32,), gain.to(x.dtype), 1e-6)
    torch.testing.assert_close(
        out.float(), torch.nn.functional.rms_norm(x.float(), (32,), gain, 1e-6), atol=0.05, rtol=0.05
    )
    assert kept.bytes[""] == 6 * 32 * 2 + 6 * 4 + 32 * 2
    out.sum().backward()
    assert x.grad is not None and gain.grad is not None
