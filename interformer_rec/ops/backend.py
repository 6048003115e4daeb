"""Which implementation of an operator runs: a tensor comes in, whether the Triton kernels take it goes out; one place decides.

On CUDA in float32, bfloat16 or float16 the kernels run, elsewhere plain torch. INTERFORMER_OPS=torch in the environment, or
`using("torch")` in a program, keeps a GPU on plain torch; `using("triton")` sends CPU tensors to the kernels too, for tests
in Triton's interpreter (TRITON_INTERPRET=1). Never run on a GPU yet.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from interformer_rec.errors import InputError

Choice = Literal["auto", "torch", "triton"]
Form = Literal["plain", "kernel"]
F = TypeVar("F", bound=Callable[..., Any])
VARIABLE = "INTERFORMER_OPS"
HAS_TRITON = find_spec("triton") is not None
WIDEST = 256  # channels (a head, a token) that a kernel's tile holds
MISSING = (
    "the jagged operators need the package triton on a GPU and it is not installed: pip install triton, in the version that "
    f"torch's CUDA build asks for, or set the environment variable {VARIABLE}=torch"
)
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class Runs(NamedTuple):
    """Where an operator runs, as data on it: `interformer doctor` prints it, the conformance suite of tests/ops proves it."""

    plain: bool = True  # in plain torch, on any device
    kernel: bool = False  # in Triton kernels, on CUDA
    # which form torch.compile makes one graph of, for all lengths; None: it breaks the graph
    compiled: Form | None = None
    exported: Form | None = None  # the same for torch.export


def runs(**where: Any) -> Callable[[F], F]:
    """A decorator that puts Runs(**where) on an operator as its attribute `runs`."""

    def mark(operator: F) -> F:
        operator.runs = Runs(**where)  # type: ignore[attr-defined]
        return operator

    return mark


IN_GRAPHS: dict[str, Any] = {"compiled": "plain", "exported": "plain"}
KERNEL_IN_GRAPHS: dict[str, Any] = {"kernel": True, "compiled": "kernel", "exported": "kernel"}


def _from_environment() -> Choice:
    named = os.environ.get(VARIABLE, "auto")
    if named not in ("auto", "torch"):
        raise InputError(f"environment variable {VARIABLE} = {named!r}: it is auto (kernels on a GPU) or torch (none)")
    return "torch" if named == "torch" else "auto"


_choice: list[Choice] = [_from_environment()]


@contextmanager
def using(choice: Choice) -> Iterator[None]:
    """Within the block operators run on the given backend, in all threads (a backward pass has its own)."""
    before, _choice[0] = _choice[0], choice
    try:
        yield
    finally:
        _choice[0] = before


def kept_on_torch() -> bool:
    """Whether no kernel runs, by the environment or by `using`."""
    return _choice[0] == "torch"


def takes_triton(x: Tensor, width: int = 1) -> bool:
    """Whether the Triton kernels take x, `width` channels wide. Raises InputError on a GPU without triton."""
    if kept_on_torch() or x.dtype not in _DTYPES or width > WIDEST:
        return False
    if _choice[0] == "auto" and x.device.type != "cuda":
        return False
    if not HAS_TRITON:
        raise InputError(MISSING)
    return True


def takes_row_kernels(x: Tensor, width: int = 1) -> bool:
    """As takes_triton, for operators whose plain form torch.compile fuses by itself: not while it traces."""
    return not torch.compiler.is_compiling() and takes_triton(x, width)
