"""A GPU that is not there: tensors that say they are on cuda:0 and hold their values on the CPU, for tests of device handling.

Within `pretended_gpu()` whatever is made on, or copied to, cuda:0 is such a tensor. Operators compute on the CPU; one that gets tensors of
both devices raises, as on a GPU. What a GPU does beyond that is not shown: streams, kernels, and the backward pass, whose engine asks
CUDA for a device's threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

GPU = torch.device("cuda", 0)
# These may read from both: copies by what they are, indices and scalars by torch's own rules.
COPIES = (torch.ops.aten._to_copy, torch.ops.aten.copy_)
INDEXED = (torch.ops.aten.index, torch.ops.aten.index_put, torch.ops.aten.index_put_)


class OnGPU(torch.Tensor):
    """A tensor on cuda:0 as far as anybody asks; its values are `held`."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> OnGPU:
        one = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=GPU,
        )
        one.held = held
        return one

    def tolist(self) -> Any:
        """As a tensor on a GPU: a copy."""
        return self.held.tolist()

    # torch asks CUDA for the device before it dispatches these.

    def __getitem__(self, index: Any) -> Any:
        return _on_gpu(self.held[tree_map(_values, index)])

    def __int__(self) -> int:
        return int(self.held)

    def __float__(self) -> float:
        return float(self.held)

    def __bool__(self) -> bool:
        return bool(self.held)

    def __invert__(self) -> Any:
        return _on_gpu(~self.held)

    def nonzero(self) -> Any:
        """As of a tensor on a GPU."""
        return _on_gpu(self.held.nonzero())

    def contiguous(self) -> Any:
        """As of a tensor on a GPU."""
        return _on_gpu(self.held.contiguous())

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with _PretendedGPU():
            return func(*args, **(kwargs or {}))


class _PretendedGPU(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
        on_gpu = [one for one in tensors if isinstance(one, OnGPU)]
        if on_gpu and func.overloadpacket not in COPIES + INDEXED:
            for one in tensors:
                if not isinstance(one, OnGPU) and one.dim():
                    raise RuntimeError(f"{func}: tensors on cuda:0 and on the CPU, there {tuple(one.shape)}")
        result_on_gpu = bool(on_gpu)
        if func.overloadpacket in INDEXED or func.overloadpacket is torch.ops.aten.copy_:
            result_on_gpu = isinstance(args[0], OnGPU)
        if kwargs.get("device") is not None:
            result_on_gpu = torch.device(kwargs["device"]).type == "cuda"
            kwargs["device"] = torch.device("cpu") if result_on_gpu else kwargs["device"]
        args, kwargs = tree_map(_values, (args, kwargs))
        result = func(*args, **kwargs)
        return tree_map(_on_gpu, result) if result_on_gpu else result


def _values(one: Any) -> Any:
    return one.held if isinstance(one, OnGPU) else one


def _on_gpu(one: Any) -> Any:
    return OnGPU(one) if isinstance(one, torch.Tensor) and one.device.type == "cpu" else one


_made_here = torch.tensor


def _tensor(data: Any, *, device: Any = None, **options: Any) -> torch.Tensor:
    """torch.tensor asks CUDA as an index does."""
    made = _made_here(data, **options)
    return made if device is None else made.to(device)


@contextmanager
def pretended_gpu() -> Iterator[torch.device]:
    """cuda:0, pretended. Use the device with its index: without one torch asks CUDA which is current."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    # Module.to puts a parameter's new memory under the old object otherwise, which is no OnGPU.
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with (
            mock.patch.multiple(torch.cuda, _lazy_init=mock.DEFAULT, current_stream=mock.DEFAULT),
            mock.patch.object(torch, "tensor", _tensor),
            _PretendedGPU(),
        ):
            yield GPU
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)
