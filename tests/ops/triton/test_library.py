"""The registered operators on interpreted kernels: references, torch.library's own checks, one graph under compile and export."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from benchmarks.kernels import reference
from interformer_rec.ops import library
from interformer_rec.ops.jagged import JaggedLayout
from interformer_rec.ops.triton.attention.operator import Form
from tests.ops.triton.attention import test_operator as attention
from tests.ops.triton.comparison import same, split

CLS, BASE = 2, 100.0
CHECKS = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")


def check(lengths: list[int], window: int | None) -> None:
    """Outputs and gradients in float32 against float64."""
    torch.manual_seed(0)
    layout = JaggedLayout(torch.tensor(lengths), CLS)
    offsets, ages, size = layout.token_offsets, layout.ages, layout.batch_size
    form = Form(CLS, window, 16, BASE)

    def plain_pool(maps: Tensor, values: Tensor) -> Tensor:
        pooled = [reference.attention_pool(maps, part[CLS:]) + 0 * values.sum() for part in split(values, offsets)]
        return torch.stack(pooled)

    def plain_ffn(x: Tensor, w1: Tensor, w2: Tensor) -> Tensor:
        return torch.cat([reference.ffn(part, w1[i], w2[i]) for i, part in enumerate(split(x, offsets))])

    same(
        lambda qk, v: library.jagged_attention(qk, v, offsets, ages, 16, CLS, window, BASE)[0],
        lambda qk, v: attention.plain(offsets, ages, form, qk, v),
        [torch.randn(layout.total, 2, 2, 4), torch.randn(layout.total, 2, 4)],
        torch.float32,
    )
    same(
        lambda x, w1, w2: library.per_sample_ffn(x, w1, w2, offsets),
        plain_ffn,
        [torch.randn(layout.total, 4), torch.randn(size, 4, 3), torch.randn(size, 3, 4)],
        torch.float32,
    )
    if any(lengths):  # without any event every gradient is zero: test_pooling has it
        inputs = [torch.randn(3, 4), torch.randn(layout.total, 4)]
        same(lambda m, x: library.attention_pool(m, x, offsets, CLS)[0], plain_pool, inputs, torch.float32)


@pytest.mark.parametrize("lengths, window", [([2, 0, 1], None), ([0], 3), ([9, 1, 0, 4, 3, 2, 0, 6], 3)])
def test_operators(interpreted, lengths: list[int], window: int | None) -> None:
    interpreted(check, lengths, window)


class Block(nn.Module):
    """All three operators one after another, as a model would call them: J and B are only known when it runs."""

    def __init__(self, max_length: int) -> None:
        super().__init__()
        self.max_length = max_length
        self.maps = nn.Parameter(torch.randn(3, 8))

    def forward(self, qk: Tensor, v: Tensor, w1: Tensor, w2: Tensor, offsets: Tensor, ages: Tensor) -> Tensor:
        out, _, _ = library.jagged_attention(qk, v, offsets, ages, self.max_length, CLS, None, 1e4)
        tokens = library.per_sample_ffn(out.flatten(1), w1, w2, offsets)
        return library.attention_pool(self.maps, tokens + out.flatten(1), offsets, CLS)[0]


def inputs(lengths: list[int]) -> tuple[Tensor, ...]:
    layout = JaggedLayout(torch.tensor(lengths), CLS)
    rows, size = layout.total, len(lengths)
    floats = [torch.randn(*shape) for shape in ((rows, 2, 2, 4), (rows, 2, 4), (size, 8, 4), (size, 4, 8))]
    return *floats, layout.token_offsets, layout.ages


def registrations() -> None:
    qk, v, w1, w2, offsets, ages = inputs([3, 0, 5])
    qk, v, w1, w2 = (x.requires_grad_() for x in (qk, v, w1, w2))
    maps = torch.randn(3, 8, requires_grad=True)
    flat = v.detach().flatten(1).requires_grad_()
    for op, args in (
        (library.jagged_attention, (qk, v, offsets, ages, 8, CLS, None, 1e4)),
        (library.jagged_attention, (qk, v, offsets, None, 8, CLS, 2, 1e4)),
        (library.attention_pool, (maps, flat, offsets, CLS)),
        (library.per_sample_ffn, (flat, w1, w2, offsets)),
    ):
        torch.library.opcheck(op, args, test_utils=CHECKS)


def test_torch_checks_the_registrations(interpreted) -> None:
    interpreted(registrations)


def one_graph() -> None:
    torch.manual_seed(0)
    block, graphs = Block(64), []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., Tensor]:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(block, fullgraph=True, dynamic=True, backend=backend)
    # no two sizes of the first batch are equal by chance, which would tie them together in the graph
    for lengths in ([3, 0, 5, 1, 1], [1, 40], [7] * 9):
        args = inputs(lengths)
        torch.testing.assert_close(compiled(*args), block(*args))
    assert len(graphs) == 1


def test_one_graph_for_every_number_of_tokens_under_compile(interpreted) -> None:
    interpreted(one_graph)


def gradients_through_aot() -> None:
    torch.manual_seed(0)
    block = Block(64)
    compiled = torch.compile(block, fullgraph=True, dynamic=True, backend="aot_eager")
    grads = []
    args = inputs([3, 0, 5])
    for function in (block, compiled):
        leaves = [x.clone().requires_grad_() for x in args[:4]]
        out = function(*leaves, *args[4:]).square().sum()
        grads.append(torch.autograd.grad(out, [*leaves, *block.parameters()]))
    for eager, traced in zip(*grads, strict=True):
        assert eager.abs().sum() > 0
        torch.testing.assert_close(traced, eager)


def test_gradients_through_aot_compile_are_the_eager_ones(interpreted) -> None:
    interpreted(gradients_through_aot)


def exported() -> None:
    torch.manual_seed(0)
    block = Block(64)
    rows, size = torch.export.Dim("rows"), torch.export.Dim("size")
    dims = ({0: rows}, {0: rows}, {0: size}, {0: size}, {0: size + 1}, {0: rows})
    program = torch.export.export(block, inputs([3, 0, 5]), dynamic_shapes=dims)
    called = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert torch.ops.interformer.jagged_attention.default in called
    for lengths in ([1, 40, 0, 2], [2, 2]):
        args = inputs(lengths)
        torch.testing.assert_close(program.module()(*args), block(*args))


def test_export_takes_any_number_of_tokens_and_samples(interpreted) -> None:
    interpreted(exported)
