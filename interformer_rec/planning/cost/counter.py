"""Counts what a model does while it runs. In: a call of a module; out: FLOPs and operators, and bytes that autograd keeps, by block.

The one place where FLOPs are counted: for the planner, for benchmarks and for the quality study. Formulas are those of
torch.utils.flop_counter; its mode is not used, because it tracks modules in a way that fails for a parameter that is a module's
input, and does not know the attention kernel of a CPU.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import flop_registry

FORMULAS: dict[Any, Callable[..., int]] = {
    **flop_registry,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: flop_registry[
        torch.ops.aten._scaled_dot_product_flash_attention
    ],
}
# They start no kernel.
VIEWS = (
    "view", "reshape", "transpose", "expand", "slice", "select.int", "unbind", "split", "detach", "as_strided", "permute",
    "squeeze", "aten.t.", "alias", "_local_scalar",
)  # fmt: skip
# Lists whose items are blocks of several kinds: a block is named by what is inside.
LISTS = ("layers", "members")


class Blocks:
    """Which block of a model runs now. A block is a child of the model; its copies in other layers count as the same block."""

    def __init__(self, model: nn.Module, outside: str) -> None:
        self._running = [outside]
        for path, module in model.named_modules():
            if path:
                module.register_forward_pre_hook(self._begin(block_name(path)))
                module.register_forward_hook(self._end, always_call=True)

    @property
    def current(self) -> str:
        """The innermost one."""
        return self._running[-1]

    def _begin(self, name: str) -> Callable[..., None]:
        return lambda *_: self._running.append(name)

    def _end(self, *_: object) -> None:
        self._running.pop()


def block_name(path: str) -> str:
    """`layers.1.interaction_arch.norm` -> `interaction_arch`; `members.0.heads.0` -> `heads`; `layers.0` -> `layers`."""
    words = [word for word in path.split(".") if not word.isdigit()]
    return next((word for word in words if word not in LISTS), words[0])


class Operators(TorchDispatchMode):
    """FLOPs of matrix products by block, and the operators that start a kernel (views do not).

    With `multiply` False the products are not computed: their results are zeros of the right shape, for a caller who asks for costs
    alone. Nothing that the models of this package keep or multiply depends on the value of a product.
    """

    def __init__(self, block: Callable[[], str] = lambda: "", multiply: bool = True) -> None:
        super().__init__()
        self._multiply = multiply
        self.flops: dict[str, int] = defaultdict(int)
        self.count = 0
        self._block = block

    @property
    def total_flops(self) -> int:
        """Of all blocks."""
        return sum(self.flops.values())

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run it and count it."""
        kwargs = kwargs or {}
        formula = FORMULAS.get(function._overloadpacket)
        if formula is None or self._multiply:
            out = function(*args, **kwargs)
        else:
            out = tree_map_only(Tensor, _zeros, function(*_on_meta(args), **_on_meta(kwargs)))
        self.count += not _is_view(function)
        if formula is not None:
            self.flops[self._block()] += formula(*args, **kwargs, out_val=out)
        return out


@functools.cache
def _is_view(function: Any) -> bool:
    return any(word in str(function) for word in VIEWS)


def _on_meta(arguments: Any) -> Any:
    """Shapes without numbers."""
    return tree_map_only(Tensor, lambda tensor: tensor.to("meta"), arguments)


def _zeros(shape: Tensor) -> Tensor:
    """On the CPU."""
    return torch.empty_strided(shape.shape, shape.stride(), dtype=shape.dtype).zero_()


def forward_flops(call: Callable[[], object]) -> int:
    """FLOPs of the matrix products of `call`, without gradients.

    torch's encoder layers run without the fused operator that they have for evaluation: no formula knows it.
    """
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), Operators() as counter:
            call()
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return counter.total_flops


class Kept(torch.autograd.graph.saved_tensors_hooks):
    """Bytes of the tensors that autograd keeps for the backward pass, by the block that kept them first; each storage once."""

    def __init__(self, block: Callable[[], str], without: Iterable[Tensor]) -> None:
        """`without`: tensors that are counted elsewhere, as parameters and the batch."""
        self.bytes: dict[str, int] = defaultdict(int)
        self._seen = {tensor.untyped_storage().data_ptr() for tensor in without}
        self._block = block
        super().__init__(self._pack, lambda tensor: tensor)

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.bytes[self._block()] += storage.nbytes()
        return tensor


class _Norm(torch.autograd.Function):
    """RMSNorm that keeps its input and one number a row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, eps: float) -> Tensor:
        scale = (x.float().square().mean(-1, keepdim=True) + eps).rsqrt()
        ctx.save_for_backward(x, gain, scale)
        return (x * scale * gain).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, gain, scale = ctx.saved_tensors
        grad_x = torch.nn.functional.rms_norm(grad, (x.shape[-1],), gain)  # as many passes as the real one
        return grad_x * scale.to(x.dtype), (grad * x).flatten(0, -2).sum(0), None


class NormAsOneKernel(TorchFunctionMode):
    """torch's rms_norm as on CUDA: one kernel. In bf16 on a CPU it is composed of several, which keep more."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Replace that one function."""
        kwargs = kwargs or {}
        if function is torch.nn.functional.rms_norm:
            return _Norm.apply(args[0], kwargs["weight"], kwargs["eps"])
        return function(*args, **kwargs)
