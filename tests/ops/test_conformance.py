"""One suite for all operators: backend x dtype x shape, each against the plain reference in float64, gradients included.

What an operator lacks on a backend, by the data it carries (backend.Runs), is a strict xfail: it fails as soon as it works.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch

from interformer_rec.ops.backend import Runs
from interformer_rec.ops.operators import OPERATORS as LISTED
from interformer_rec.ops.padding import buckets, windowed
from tests.ops import catalogue, conformance

F64, F32, BF16, F16 = torch.float64, torch.float32, torch.bfloat16, torch.float16
EDGES = ("one without", "all without")
ON_GPU = (*EDGES, "few", "drawn", "long", "64", "128", "256", "4096")
ANY = "any"  # one graph for the batches of conformance.TRACED
Plan = dict[torch.dtype, tuple[str, ...]]


class Backend(NamedTuple):
    """A way to run an operator: what is tried, whether an operator has it, and how one case is checked."""

    plan: Plan
    has: Callable[[Runs], bool]
    check: Callable[..., None]
    options: tuple[Any, ...] = ()
    # in the process in which Triton interprets; what traces too, so that one process alone loads Dynamo
    interpreted: bool = False
    gpu: bool = False


BACKENDS = {
    "reference": Backend({BF16: ("few",), F16: ("few",)}, lambda _: True, conformance.check_reference),
    "plain": Backend(
        {F64: (*EDGES, "few", "drawn", "long"), F32: ("few",), BF16: ("drawn",)},
        lambda runs: runs.plain,
        conformance.check,
        ("torch",),
    ),
    "triton": Backend(
        {F32: ("few", "one without", "long"), BF16: ("few",), F16: ("few",)},
        lambda runs: runs.kernel,
        conformance.check_kernels,
        interpreted=True,
    ),
    "gpu": Backend(
        {F32: ON_GPU, BF16: ON_GPU, F16: ON_GPU},
        lambda runs: runs.kernel,
        conformance.check,
        ("auto", "cuda"),
        gpu=True,
    ),
    "compile": Backend(
        {F32: (ANY,)}, lambda runs: runs.compiled == "plain", conformance.check_compiled, ("torch",), interpreted=True
    ),
    "compile, kernel": Backend(
        {F32: (ANY,)}, lambda runs: runs.compiled == "kernel", conformance.check_compiled, ("triton",), interpreted=True
    ),
    "export": Backend(
        {F32: (ANY,)}, lambda runs: runs.exported == "plain", conformance.check_exported, ("torch",), interpreted=True
    ),
    "export, kernel": Backend(
        {F32: (ANY,)}, lambda runs: runs.exported == "kernel", conformance.check_exported, ("triton",), interpreted=True
    ),
}
LACKS = {"plain": 1, "triton": 1, "compile": 1, "export": 1}  # cases tried of what an operator lacks
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch.cuda.is_available() is False: no CUDA device")


def cases() -> Iterator[Any]:
    """Of what an operator has every case, of what it lacks one; of a variant those in one dtype."""
    for backend, one in BACKENDS.items():
        for operator in catalogue.OPERATORS:
            has = one.has(operator.function.runs)
            every = [(dtype, shape) for dtype, shapes in one.plan.items() for shape in shapes]
            if operator.variant:
                every = [(dtype, shape) for dtype, shape in every if dtype == every[0][0] and has and shape != ANY]
            if not has:
                every = every[: LACKS.get(backend, 0)] if operator.function.runs.plain or backend == "plain" else []
            if operator.variant and one.interpreted:
                every = every[:1]
            for dtype, shape in every:
                marks = [pytest.mark.gpu, NO_GPU] if one.gpu else []
                marks += [pytest.mark.slow] if shape == ANY else []  # compiled or exported: a second each
                if not has:
                    marks.append(pytest.mark.xfail(strict=True, reason=f"{operator.name} is not for: {backend}"))
                case = (backend, operator.name, dtype, shape)
                yield pytest.param(*case, marks=marks, id="-".join((*case[:2], str(dtype)[6:], shape)))


@pytest.mark.parametrize("backend, name, dtype, shape", cases())
def test_operator(
    backend: str,
    name: str,
    dtype: torch.dtype,
    shape: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(buckets, "BUCKET_COST", 1)  # several buckets in a small batch
    for setting, size in (("SMALLEST", 2), ("LARGEST", 3), ("DENSE", 3)):  # blocks in a small window
        monkeypatch.setattr(windowed, setting, size)
    one = BACKENDS[backend]
    shapes = () if shape == ANY else (conformance.SHAPES[shape],)
    if one.interpreted:
        request.getfixturevalue("interpreted")(one.check, name, dtype, *shapes, *one.options)
    else:
        one.check(name, dtype, *shapes, *one.options)


def test_each_listed_operator_is_in_the_catalogue() -> None:
    """So that what `interformer doctor` prints is what is proved here."""
    proved = {id(operator.function) for operator in catalogue.OPERATORS}
    assert proved == {id(function) for function in LISTED.values()}
    assert len({operator.name for operator in catalogue.OPERATORS}) == len(catalogue.OPERATORS)
