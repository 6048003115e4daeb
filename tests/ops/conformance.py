"""What it means that a backend has an operator: outputs and gradients agree with the plain reference in float64, for every shape.

In: an operator's name, a dtype, a shape; out: nothing, or an AssertionError. Plain functions, so that another process may run them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from triton.runtime import interpreter

from interformer_rec.ops.backend import Choice, using
from interformer_rec.ops.jagged import JaggedLayout
from tests.ops.catalogue import OPERATORS, Operator, Shape

SHAPES = {
    "one without": Shape([0]),
    "all without": Shape([0, 0, 0]),
    "few": Shape([4, 0, 1, 3]),
    "drawn": Shape(torch.randint(0, 40, (6,), generator=torch.Generator().manual_seed(0)).tolist()),
    # more of everything than one tile of a kernel holds, and widths that fill a tile
    "long": Shape([100, 0, 1], cls=40, heads=1, channels=16, rank=40, tokens=70),
    # cuts of the kernels go by the width; for a GPU
    "64": Shape([1024, 0, 1, 200, 17], heads=4, channels=64, rank=64, tokens=40),
    "128": Shape([300, 0, 1, 200, 17], heads=2, channels=128, rank=16),
    "256": Shape([300, 0, 1, 200, 17], heads=1, channels=256, rank=256, tokens=300),
    "4096": Shape([4096, 0, 1, 4095], heads=2, channels=64, rank=64),
}
# Sizes 0 and 1 have graphs of their own; here no two sizes are equal by chance, which would tie them together in a graph.
TRACED = [Shape([9, 0, 7, 9, 1, 2, 5]), SHAPES["few"]]


def operator(name: str) -> Operator:
    return next(one for one in OPERATORS if one.name == name)


def run(call: Callable[..., Tensor], batch: Any, leaves: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """The output, then the gradient of each leaf for a weighted sum of it; an output without a gradient stands alone."""
    leaves = [x.detach().requires_grad_() for x in leaves]
    out = call(batch, *leaves)
    if not out.requires_grad:
        return [out]
    weight = torch.linspace(-1, 2, out.numel(), device=out.device).view(out.shape).to(dtype)
    grads = torch.autograd.grad(out, leaves, weight.to(out.dtype), allow_unused=True)
    return [
        out.detach(),
        *(torch.zeros_like(x) if grad is None else grad for x, grad in zip(leaves, grads, strict=True)),
    ]


def same(mine: list[Tensor], one: Operator, layout: JaggedLayout, leaves: list[Tensor]) -> None:
    """What a backend found is what the reference finds in float64 on the same rounded inputs, as far as the operator's limit goes."""
    dtype = leaves[0].dtype
    expected = run(one.reference, layout, [leaf.double() for leaf in leaves], dtype)
    for i, (x, wanted) in enumerate(zip(mine, expected, strict=False)):  # an exported program has no gradients
        what = f"{layout.lengths.tolist()}: {f'gradient of input {i - 1}' if i else 'output'}"
        assert x.shape == wanted.shape, f"{what}: {x.shape}, not {wanted.shape}"
        assert x.dtype == (dtype if wanted.is_floating_point() else wanted.dtype), f"{what}: {x.dtype}"
        error, size = (x.cpu().double() - wanted).norm(), wanted.double().norm()
        assert error <= one.limit(dtype) * size, f"{what}: {error:.2e} off of {size:.2e}"


def found(name: str, dtype: torch.dtype, shape: Shape, choice: Choice, device: str = "cpu") -> list[Tensor]:
    """Output and gradients of the operator called as the package calls it."""
    one, layout = operator(name), shape.layout()
    there = JaggedLayout(layout.lengths.to(device), layout.cls, layout.parts_BG.to(device), layout.events)
    with using(choice):
        return run(one.call, there, [x.to(device) for x in one.leaves(shape, dtype)], dtype)


def check(name: str, dtype: torch.dtype, shape: Shape, choice: Choice, device: str = "cpu") -> None:
    """They are the reference's."""
    one = operator(name)
    same(found(name, dtype, shape, choice, device), one, shape.layout(), one.leaves(shape, dtype))


def check_kernels(name: str, dtype: torch.dtype, shape: Shape) -> None:
    """The same on kernels, in the process that interprets them; they run wherever there is something to do."""
    ran: list[object] = []
    execute = interpreter.GridExecutor.__call__

    def counted(self: Any, *args: Any, **options: Any) -> None:
        ran.append(self)
        execute(self, *args, **options)

    with patch.object(interpreter.GridExecutor, "__call__", counted):
        check(name, dtype, shape, "triton")
    assert ran or not any(shape.lengths), "no kernel ran"


def check_reference(name: str, dtype: torch.dtype, shape: Shape) -> None:
    """The reference itself in the dtype: the limits are not below what rounding alone costs."""
    one, layout = operator(name), shape.layout()
    leaves = one.leaves(shape, dtype)
    same(run(one.reference, layout, leaves, dtype), one, layout, leaves)


def check_compiled(name: str, dtype: torch.dtype, choice: Choice) -> None:
    """One graph without a break, made from one batch, for every batch, and its gradients."""
    one = operator(name)
    torch.compiler.reset()
    backend = (
        "aot_eager" if choice == "triton" else "eager"
    )  # a kernel's gradient is traced too; a plain form's is autograd's
    compiled = torch.compile(one.call, fullgraph=True, dynamic=True, backend=backend)
    for number, shape in enumerate(TRACED):
        layout, leaves = shape.layout(), one.leaves(shape, dtype)
        _ = (
            layout.ages,
            layout.group_ends,
            layout.event_rows,
        )  # made before: Dynamo cannot enter the lock of a cached_property
        with using(choice), torch._dynamo.config.patch(error_on_recompile=number > 0):
            mine = run(compiled, layout, leaves, dtype)
        same(mine, one, layout, leaves)


class _Module(nn.Module):
    def __init__(self, call: Callable[..., Tensor], cls: int) -> None:
        super().__init__()
        self.call, self.cls = call, cls

    def forward(self, lengths: Tensor, parts: Tensor, events: int, leaves: list[Tensor]) -> Tensor:
        return self.call(JaggedLayout(lengths, self.cls, parts, events), *leaves)


def check_exported(name: str, dtype: torch.dtype, choice: Choice) -> None:
    """One program, made from one batch, for every batch; it has no gradients."""
    one = operator(name)
    layouts, leaves = [shape.layout() for shape in TRACED], [one.leaves(shape, dtype) for shape in TRACED]
    first = {0: torch.export.Dim.AUTO}
    varies = [first if x.shape[0] != y.shape[0] else None for x, y in zip(*leaves, strict=True)]
    dims = {"lengths": first, "parts": first, "events": torch.export.Dim.DYNAMIC, "leaves": varies}
    inputs = [(a.lengths, a.parts_BG, a.events, b) for a, b in zip(layouts, leaves, strict=True)]
    with using(choice):
        program = torch.export.export(_Module(one.call, layouts[0].cls), inputs[0], dynamic_shapes=dims).module()
        for layout, given in zip(layouts, inputs, strict=True):
            same([program(*given).detach()], one, layout, given[-1])
