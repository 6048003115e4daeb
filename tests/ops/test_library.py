"""The registered operators on a CPU: float64 references, torch.library's own checks, one graph under compile and export."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from interformer_rec.ops import library, reference
from interformer_rec.ops.jagged import JaggedLayout

CLS, BASE = 2, 100.0
LENGTHS = [[2, 0, 1], [0], [9, 1, 0, 4, 3, 2, 0, 6, 1, 9, 3], [300, 1, 40]]
CHECKS = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")


@pytest.fixture(params=LENGTHS, ids=str)
def layout(request: pytest.FixtureRequest) -> JaggedLayout:
    torch.manual_seed(0)
    return JaggedLayout(torch.tensor(request.param), CLS)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def same(op: Callable[..., Tensor], plain: Callable[..., Tensor], *inputs: Tensor) -> None:
    results = []
    for function in (op, plain):
        leaves = [x.clone().requires_grad_() for x in inputs]
        out = function(*leaves)
        weight = torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view_as(out)
        results.append([out.detach(), *torch.autograd.grad((out * weight).sum(), leaves)])
    for mine, expected in zip(*results, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-9, atol=1e-9)


def plain_attention(layout: JaggedLayout, window: int | None) -> Callable[..., Tensor]:
    def one(qk: Tensor, v: Tensor, ages: Tensor) -> Tensor:
        q, k = (
            torch.stack([reference.rotate(x, max(int(age), 0), BASE) for x, age in zip(part, ages, strict=True)])
            for part in qk.unbind(1)
        )
        if window is None:
            return reference.attention(q, k, v)
        rows = []
        for i in range(len(v)):
            seen = [j for j in range(len(v)) if abs(i - j) <= window or i < CLS or j < CLS]
            scores = torch.einsum("hc,jhc->hj", q[i], k[seen]) / math.sqrt(q.shape[2])
            rows.append(torch.einsum("hj,jhc->hc", scores.softmax(1), v[seen]))
        return torch.stack(rows)

    def all_samples(qk: Tensor, v: Tensor, *gate: Tensor) -> Tensor:
        parts = zip(*(x.split(layout.tokens.tolist()) for x in (qk, v, layout.ages)), strict=True)
        out = torch.cat([one(*part) for part in parts])
        return out * gate[0].sigmoid() if gate else out

    return all_samples


@pytest.mark.parametrize("window, gated", [(None, False), (None, True), (3, True)])
def test_jagged_attention(layout: JaggedLayout, window: int | None, gated: bool) -> None:
    if window and layout.total > 100:
        pytest.skip("the loop over queries is slow")
    longest = int(layout.tokens.max())

    def op(qk: Tensor, v: Tensor, *gate: Tensor) -> Tensor:
        return library.jagged_attention(
            *(qk, v, layout.token_offsets, layout.ages, gate[0] if gate else None, longest, CLS, window, BASE)
        )[0]

    gate = [normal(layout.total, 2, 4)] if gated else []
    same(op, plain_attention(layout, window), normal(layout.total, 2, 2, 4), normal(layout.total, 2, 4), *gate)


def test_attention_pool(layout: JaggedLayout) -> None:
    def plain(maps: Tensor, values: Tensor) -> Tensor:
        parts = values.split(layout.tokens.tolist())
        return torch.stack([reference.attention_pool(maps, part[CLS:]) + 0 * values.sum() for part in parts])

    same(
        lambda maps, values: library.attention_pool(maps, values, layout.token_offsets, CLS)[0],
        plain,
        normal(3, 4),
        normal(layout.total, 4),
    )


@pytest.mark.parametrize("normed", [False, True])
def test_per_sample_ffn(layout: JaggedLayout, normed: bool) -> None:
    size, eps = layout.batch_size, 1e-6

    def op(x: Tensor, w1: Tensor, w2: Tensor, *gains: Tensor) -> Tensor:
        return library.per_sample_ffn(x, w1, w2, layout.token_offsets, *(gains or (None, None)), CLS, eps)[0]

    def plain(x: Tensor, w1: Tensor, w2: Tensor, *gains: Tensor) -> Tensor:
        out = []
        for i, part in enumerate(x.split(layout.tokens.tolist())):
            inner = torch.nn.functional.gelu(part @ w1[i])
            if gains:
                inner = reference.rms_norm(inner, gains[0], eps)
            out.append(reference.rms_norm(inner @ w2[i], gains[1], eps) if gains else inner @ w2[i])
        return torch.cat(out)

    gains = [normal(3), normal(4)] if normed else []
    same(op, plain, normal(layout.total, 4), normal(size, 4, 3), normal(size, 3, 4), *gains)


class Block(nn.Module):
    """All three operators one after another, as a model would call them: J and B are only known when it runs."""

    def __init__(self, max_length: int) -> None:
        super().__init__()
        self.max_length = max_length
        self.maps = nn.Parameter(torch.randn(3, 8))
        self.gains = nn.ParameterList([torch.ones(4), torch.ones(8)])

    def forward(self, qk: Tensor, v: Tensor, w1: Tensor, w2: Tensor, offsets: Tensor, ages: Tensor) -> Tensor:
        out, _, _ = library.jagged_attention(qk, v, offsets, ages, v, self.max_length, CLS, None, 1e4)
        tokens, _, _ = library.per_sample_ffn(out.flatten(1), w1, w2, offsets, *self.gains, CLS, 1e-6)
        return library.attention_pool(self.maps, tokens + out.flatten(1), offsets, CLS)[0]


def inputs(lengths: list[int]) -> tuple[Tensor, ...]:
    layout = JaggedLayout(torch.tensor(lengths), CLS)
    rows, size = layout.total, len(lengths)
    floats = [torch.randn(*shape) for shape in ((rows, 2, 2, 4), (rows, 2, 4), (size, 8, 4), (size, 4, 8))]
    return *floats, layout.token_offsets, layout.ages


def test_torch_checks_the_registrations() -> None:
    qk, v, w1, w2, offsets, ages = inputs([3, 0, 5])
    qk, v, w1, w2 = (x.requires_grad_() for x in (qk, v, w1, w2))
    maps, gains = torch.randn(3, 8, requires_grad=True), [torch.ones(4), torch.ones(8)]
    flat = v.detach().flatten(1).requires_grad_()
    for op, args in (
        (library.jagged_attention, (qk, v, offsets, ages, v, 8, CLS, None, 1e4)),
        (library.jagged_attention, (qk, v, offsets, None, None, 8, CLS, 2, 1e4)),
        (library.attention_pool, (maps, flat, offsets, CLS)),
        (library.per_sample_ffn, (flat, w1, w2, offsets, *gains, CLS, 1e-6)),
        (library.per_sample_ffn, (flat, w1, w2, offsets, None, None, CLS, 1e-6)),
    ):
        torch.library.opcheck(op, args, test_utils=CHECKS)


def test_one_graph_for_every_number_of_tokens_under_compile() -> None:
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


def test_gradients_through_aot_compile_are_the_eager_ones() -> None:
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


def test_export_takes_any_number_of_tokens_and_samples() -> None:
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
