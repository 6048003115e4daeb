"""Counts what a model does while it runs. In: a call of a module; out: FLOPs and operators, and bytes that autograd keeps, by block.

The one place where FLOPs are counted: for the planner, for benchmarks and for the quality study. Formulas are those of
torch.utils.flop_counter; its mode is not used, because it tracks modules in a way that fails for a parameter that is a module's
input, and does not know the attention kernel of a CPU.
"""

import functools
import re
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

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
SEQUENCES = "sequence_archs"  # the block that model.sequence.recompute computes again
# Gradients under way while a part's backward pass runs, as a share of what it keeps: 0.7 to 0.85 measured on CPU.
GRADIENTS = 0.7
_ARCH = re.compile(rf"(.*layers\.\d+)\.{SEQUENCES}\.\d+")


class Blocks:
    """Which block of a model runs now. A block is a child of the model; its copies in other layers count as the same block."""

    def __init__(self, model: nn.Module, outside: str) -> None:
        self._running = [(outside, outside)]
        for path, module in model.named_modules():
            if path:
                module.register_forward_pre_hook(self._begin(block_name(path), path))
                module.register_forward_hook(self._end, always_call=True)

    @property
    def current(self) -> str:
        """The innermost one."""
        return self._running[-1][0]

    @property
    def path(self) -> str:
        """Of the innermost module."""
        return self._running[-1][1]

    def _begin(self, name: str, path: str) -> Callable[..., None]:
        return lambda *_: self._running.append((name, path))

    def _end(self, *_: object) -> None:
        self._running.pop()


def block_name(path: str) -> str:
    """`layers.1.interaction_arch.norm` -> `interaction_arch`; `members.0.heads.0` -> `heads`; `layers.0` -> `layers`."""
    words = [word for word in path.split(".") if not word.isdigit()]
    return next((word for word in words if word not in LISTS), words[0])


class Product(NamedTuple):
    """One matrix product, or one attention of several."""

    flops: float
    bytes: float  # of what it reads and writes
    head_dim: int = 0  # of an attention


class Operators(TorchDispatchMode):
    """Matrix products and their FLOPs by block, bytes that other operators move, and how many start a kernel (views do not).

    With `multiply` False the products are not computed: their results are zeros of the right shape, for a caller who asks for costs
    alone. Nothing that the models of this package keep or multiply depends on the value of a product.
    """

    def __init__(self, block: Callable[[], str] = lambda: "", multiply: bool = True) -> None:
        super().__init__()
        self._multiply = multiply
        self.flops: dict[str, int] = defaultdict(int)
        self.products: list[Product] = []
        self.moved = 0
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
            out = _unmultiplied(function, args, kwargs)
        if _is_view(function):
            return out
        self.count += 1
        if formula is None:
            self.moved += _bytes(args, kwargs, out)
            return out
        flops = formula(*args, **kwargs, out_val=out)
        self.flops[self._block()] += flops
        attends = "attention" in str(function)
        self.products.append(Product(flops, _bytes(args, kwargs, out), args[0].shape[-1] if attends else 0))
        return out


def _bytes(*arguments: Any) -> int:
    """Of all tensors, each once."""
    tensors = {id(tensor): tensor for tensor in _tensors(arguments)}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _tensors(value: Any) -> Iterator[Tensor]:
    """Those of an operator's arguments or results, which are nested in nothing but these."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


@functools.cache
def _is_view(function: Any) -> bool:
    return any(word in str(function) for word in VIEWS)


def _unmultiplied(function: Any, args: Any, kwargs: Any) -> Any:
    """Zeros as the product's result. Of the plain products the shape is known, of others torch's meta kernels give it."""
    if function in (torch.ops.aten.mm.default, torch.ops.aten.bmm.default):
        left, right = args
        return left.new_zeros((*left.shape[:-1], right.shape[-1]))
    if function is torch.ops.aten.addmm.default:
        return args[1].new_zeros((args[1].shape[0], args[2].shape[1]))
    device = next(_tensors(args)).device

    def zeros(shape: Tensor) -> Tensor:
        return torch.empty_strided(shape.shape, shape.stride(), dtype=shape.dtype, device=device).zero_()

    return tree_map_only(Tensor, zeros, function(*_on_meta(args), **_on_meta(kwargs)))


def _on_meta(arguments: Any) -> Any:
    """Shapes without numbers."""
    return tree_map_only(Tensor, lambda tensor: tensor.to("meta"), arguments)


def forward_flops(call: Callable[[], object]) -> int:
    """FLOPs of the matrix products of `call`, which are not computed, without gradients.

    torch's encoder layers run without the fused operator that they have for evaluation: no formula knows it.
    """
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), Operators(multiply=False) as counter:
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


class Live(TorchDispatchMode):
    """The most bytes of tensors that a call makes and holds at once; each storage once."""

    def __init__(self) -> None:
        super().__init__()
        self.most = self._now = 0
        self._storages: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run it and see what it makes."""
        out = function(*args, **(kwargs or {}))
        if not _is_view(function):
            given = {id(tensor.untyped_storage()) for tensor in _tensors((args, kwargs))}
            for tensor in _tensors(out):
                if id(tensor.untyped_storage()) not in given:
                    self._made(tensor.untyped_storage())
        return out

    def _made(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self._storages:
            return

        def freed(_: object) -> None:
            self._now -= size
            del self._storages[key]

        self._storages[key] = weakref.ref(storage, freed)
        self._now += size
        self.most = max(self.most, self._now)


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


def sequence_parts(whole: Mapping[str, int]) -> dict[str, int]:
    """Bytes of each Sequence Arch, of those that a pass without recomputing keeps, by path."""
    found: dict[str, int] = defaultdict(int)
    for path, count in whole.items():
        if match := _ARCH.match(path):
            found[match[0]] += count
    return dict(found)


def alive_again(kept: Mapping[str, int], whole: Mapping[str, int]) -> int:
    """Bytes at the peak beyond what the forward pass keeps. By path: `kept` with recomputing (model.sequence.recompute), `whole` without.

    A layer's Sequence Arch runs again when the backward pass reaches it: then its activations are alive, their gradients come, and what
    later layers kept is gone. Paths stand in the order in which the forward pass first kept something in them.
    """
    until, total = {}, 0  # bytes kept when each path is left behind
    for path, count in kept.items():
        total += count
        until[path] = total
    of_arch = sequence_parts(whole)
    first, *later = of_arch.values() or (0,)
    # made for all layers by the first, as what a window hides: never gone
    once = max(0, first - max(later, default=first))
    # a layer keeps its Sequence Archs' inputs itself, under its own path
    peaks = [until.get(_layer(arch), total) + round((1 + GRADIENTS) * count) for arch, count in of_arch.items()]
    return max(0, once + max(peaks, default=0) - total)


def _layer(arch: str) -> str:
    match = _ARCH.match(arch)
    assert match is not None
    return match[1]
