"""One operator at one shape: inputs, reference and alternatives come in; what differs from the reference, and functions to time, go out.

Kinds of inputs and outputs: "tokens" (J, ...) rows of all samples, "events" (E, ...) the same without CLS tokens, "samples" (B, ...)
one thing a sample, "shared" one thing for all. An alternative may hold them in a form of its own (Padded), which it is given
before the clock starts: what a model that is padded throughout would hold.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import lengths as length_distributions
from interformer_rec.ops.backend import using
from interformer_rec.ops.jagged import JaggedLayout

CLS = 4  # tokens a sample, as the model's default
LEAST_SAMPLES = 8
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# ||alternative - reference|| / ||reference||, the reference in float64 on the same rounded inputs; eager half precision rounds
# between operators.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 4e-2, torch.float16: 5e-3}


@dataclass(frozen=True)
class Shape:
    """Of one case. `tokens`: about how many in all; `rank`: inner width of the per-sample FFN."""

    tokens: int
    longest: int
    distribution: str
    fill: float
    d: int
    heads: int
    rank: int
    dtype: torch.dtype
    device: torch.device

    @cached_property
    def lengths(self) -> Tensor:
        """(B,) events of each sample."""
        mean = max(1.0, float(length_distributions.draw(self.distribution, 4096, self.longest, self.fill).mean()))
        samples = max(LEAST_SAMPLES, round(self.tokens / (mean + CLS)))
        drawn = length_distributions.draw(self.distribution, samples, self.longest, self.fill, seed=1)
        return torch.from_numpy(drawn).to(self.device)

    @cached_property
    def layout(self) -> JaggedLayout:
        """Where the tokens lie, CLS tokens included."""
        return JaggedLayout(self.lengths, CLS)

    def normal(self, *sizes: int, scale: float = 1.0) -> Tensor:
        """Random numbers; the same for the same shape."""
        seed = int(np.prod(sizes)) % (1 << 31)
        generator = torch.Generator(self.device).manual_seed(seed)
        drawn = torch.randn(*sizes, generator=generator, device=self.device)
        return (drawn * scale).to(self.dtype)


class AsGiven:
    """The jagged form itself."""

    def of(self, x: Tensor, kind: str) -> Tensor:
        """The case's form -> this form."""
        return x

    def back(self, x: Tensor, kind: str) -> Tensor:
        """This form -> the case's form."""
        return x


class Padded(AsGiven):
    """(J, ...) tokens as (B, T, ...), zeros after each sample's last; T the longest sample of the batch."""

    def __init__(self, tokens: Tensor) -> None:
        self.samples, self.width = tokens.numel(), int(tokens.max())
        place = torch.arange(self.width, device=tokens.device)
        self.mask = place < tokens[:, None]  # (B, T) True at tokens
        self.slots = self.mask.flatten().nonzero().squeeze(1)

    def of(self, x: Tensor, kind: str) -> Tensor:
        """Tokens are padded, the rest stays."""
        if kind not in ("tokens", "events"):
            return x
        padded = x.new_zeros(self.samples * self.width, *x.shape[1:]).index_copy_(0, self.slots, x)
        return padded.view(self.samples, self.width, *x.shape[1:])

    def back(self, x: Tensor, kind: str) -> Tensor:
        """Padding is dropped."""
        return x.flatten(0, 1).index_select(0, self.slots) if kind in ("tokens", "events") else x


@dataclass
class Alternative:
    """A way to compute the operator: run(*leaves) in its form."""

    run: Callable[..., Tensor]
    form: AsGiven = field(default_factory=AsGiven)


@dataclass
class Case:
    """An operator at a shape. `alternatives` are made when asked for: one that is not available says so then."""

    leaves: list[Tensor]
    kinds: list[str]
    out_kind: str
    reference: Callable[..., Tensor]  # of one piece: slices of the leaves -> slice of the output
    pieces: list[Mapping[str, slice]]  # kind -> slice
    alternatives: dict[str, Callable[[], Alternative]]
    flops: float  # of the forward's matrix products on real tokens
    bytes_forward: float  # each input read once, each output written once
    bytes_step: float
    bound: str  # "matmul" or "copy": the ceiling it is held against

    @cached_property
    def expected(self) -> list[Tensor]:
        """float64: the output, then the gradient of each leaf for the weight `grad`."""
        wide = [x.double() for x in self.leaves]
        grads = [torch.zeros_like(x) for x in wide]
        outs = []
        for part, piece in self._pieces(wide):
            leaves = [x.clone().requires_grad_() for x in part]
            out = self.reference(*leaves)
            weight = self._cut(self.grad, self.out_kind, piece).double()
            # a piece without a token of some kind does not reach that leaf
            found = torch.autograd.grad(out, leaves, weight, allow_unused=True)
            for total, kind, grad in zip(grads, self.kinds, found, strict=True):
                if grad is not None:
                    self._cut(total, kind, piece).add_(grad)
            outs.append(out.detach())
        return [torch.cat(outs), *grads]

    @cached_property
    def grad(self) -> Tensor:
        """A weight for each number of the output: what the backward starts from."""
        with torch.no_grad():
            part, _ = next(self._pieces(self.leaves))
            tail = self.reference(*part).shape[1:]
        shape = (self.pieces[-1][self.out_kind].stop, *tail)
        generator = torch.Generator(self.leaves[0].device).manual_seed(0)
        return torch.randn(shape, generator=generator, device=self.leaves[0].device).to(self.leaves[0].dtype)

    def looped(self) -> Alternative:
        """The reference itself as an alternative."""
        return Alternative(lambda *leaves: torch.cat([self.reference(*part) for part, _ in self._pieces(leaves)]))

    def _pieces(self, leaves: Any) -> Iterator[tuple[list[Tensor], Mapping[str, slice]]]:
        for piece in self.pieces:
            yield [self._cut(x, kind, piece) for x, kind in zip(leaves, self.kinds, strict=True)], piece

    @staticmethod
    def _cut(x: Tensor, kind: str, piece: Mapping[str, slice]) -> Tensor:
        return x if kind == "shared" else x[piece[kind]]


class Ready:
    """An alternative with its leaves in its own form: forward() and step() are what is timed."""

    def __init__(self, case: Case, alternative: Alternative) -> None:
        self.case, self.alternative = case, alternative
        form = alternative.form
        self.leaves = [
            form.of(x, kind).detach().requires_grad_() for x, kind in zip(case.leaves, case.kinds, strict=True)
        ]
        self.grad = form.of(case.grad, case.out_kind)

    def forward(self) -> Tensor:
        """The output, without gradients."""
        with torch.no_grad():
            return self.alternative.run(*self.leaves)

    def step(self) -> tuple[Tensor, ...]:
        """The output and the gradients of all leaves."""
        out = self.alternative.run(*self.leaves)
        return out, *torch.autograd.grad(out, self.leaves, self.grad)

    def wrong(self) -> str | None:
        """What differs from the reference, in words; None: nothing beyond rounding."""
        form, kinds = self.alternative.form, [self.case.out_kind, *self.case.kinds]
        names = ["the output", *(f"the gradient of input {i}" for i in range(len(self.leaves)))]
        limit = TOLERANCE[self.case.leaves[0].dtype]
        for name, kind, x, expected in zip(names, kinds, self.step(), self.case.expected, strict=True):
            found = form.back(x.detach(), kind).double()
            if found.shape != expected.shape:
                return f"{name} has shape {tuple(found.shape)}, not {tuple(expected.shape)}"
            error = float((found - expected).norm() / expected.norm().clamp(min=1e-30))
            if not error <= limit:
                return f"{name} is off by {error:.1e} of its size, more than {limit:.0e}"
        return None


def sample_pieces(layout: JaggedLayout) -> list[Mapping[str, slice]]:
    """One piece a sample, for references that take one sample at a time."""
    token_ends, event_ends = layout.token_offsets[1:].tolist(), layout.lengths.cumsum(0).tolist()
    tokens, events = [0, *token_ends], [0, *event_ends]
    return [
        {
            "tokens": slice(tokens[i], tokens[i + 1]),
            "events": slice(events[i], events[i + 1]),
            "samples": slice(i, i + 1),
        }
        for i in range(layout.batch_size)
    ]


def ours(shape: Shape, run: Callable[..., Tensor]) -> dict[str, Callable[[], Alternative]]:
    """The package's operator as the model calls it; on CUDA its plain torch form beside it."""

    def plain(*leaves: Tensor) -> Tensor:
        with using("torch"):
            return run(*leaves)

    found = {"ours": lambda: Alternative(run)}
    return {**found, "ours, plain torch": lambda: Alternative(plain)} if shape.device.type == "cuda" else found


def compiled(run: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Through torch.compile, for these shapes alone."""
    return torch.compile(run, dynamic=False)


def fbgemm() -> Any:
    """FBGEMM's operators. Raises ImportError where it is not installed."""
    import fbgemm_gpu  # noqa: F401  registers torch.ops.fbgemm

    return torch.ops.fbgemm
