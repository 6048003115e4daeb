"""How a jagged batch is padded: token counts come in; buckets of samples of similar length, each padded to its own longest, go out.

    samples of 3, 1 and 2 tokens    [[C]] [[C d]] [[C a b]]   samples by length, at most MAX_BUCKETS buckets

Every token has exactly one slot, so padding and unpadding, and their gradients, are gathers: no scatter-add anywhere.
Legend: B samples, J tokens in all, N slots of the padded form.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

MAX_BUCKETS = 8
BUCKET_COST = 256  # slots that one more bucket must save to be worth its kernel launches
_CANDIDATES = 64  # widths the plan chooses from; more would not lower the waste by much


def offsets_of(lengths: Tensor) -> Tensor:
    """(B,) lengths -> (B + 1,) offsets, int64."""
    offsets = lengths.new_zeros(lengths.numel() + 1, dtype=torch.int64)
    torch.cumsum(lengths, 0, out=offsets[1:])
    return offsets


def plan_buckets(widths: Sequence[int], max_buckets: int = MAX_BUCKETS) -> list[tuple[int, int]]:
    """Ascending widths of B samples -> (samples, width) a bucket, the cheapest division: dynamic programming over widths.

    A bucket costs samples x width + BUCKET_COST. With many different widths the ends of buckets are chosen among quantiles.
    """
    total = len(widths)
    ends = [i + 1 for i in range(total) if i + 1 == total or widths[i + 1] > widths[i]]
    if len(ends) > _CANDIDATES:
        ends = [ends[(i + 1) * len(ends) // _CANDIDATES - 1] for i in range(_CANDIDATES)]
    starts = torch.tensor([0, *ends[:-1]], dtype=torch.float64)
    ends_f = torch.tensor(ends, dtype=torch.float64)
    width = torch.tensor([widths[end - 1] for end in ends], dtype=torch.float64)
    # cost[i, j]: one bucket from candidate i to candidate j, both included
    cost = ((ends_f[None, :] - starts[:, None]) * width[None, :] + BUCKET_COST).masked_fill(
        torch.ones(len(ends), len(ends), dtype=torch.bool).tril(-1), float("inf")
    )
    best, choices = cost[0], [torch.zeros(len(ends), dtype=torch.int64)]
    rounds = [best]
    for _ in range(min(max_buckets, len(ends)) - 1):
        before = torch.cat([best.new_tensor([float("inf")]), best[:-1]])  # best division that ends just before i
        best, choice = (before[:, None] + cost).min(0)
        rounds.append(best)
        choices.append(choice)
    used = int(torch.stack([row[-1] for row in rounds]).argmin())
    plan, last = [], len(ends) - 1
    for step in range(used, -1, -1):
        first = int(choices[step][last])
        begin = ends[first - 1] if first else 0
        plan.append((ends[last] - begin, int(widths[ends[last] - 1])))
        last = first - 1
    return plan[::-1]


class Gather(torch.autograd.Function):
    """x[index], whose gradient is grad[inverse] with the rows `holes` zero: for an index that takes each row once.

    Rows that `index` takes again only fill padding; their gradient is dropped, because nothing reads padding.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, inverse: Tensor, holes: Tensor | None) -> Tensor:
        """The rows."""
        ctx.save_for_backward(inverse, holes)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Their gradients, back in place."""
        inverse, holes = ctx.saved_tensors
        grad = grad.index_select(0, inverse)
        return (grad if holes is None else grad.index_fill_(0, holes, 0)), None, None, None


class Buckets:
    """Where the padded form of B samples with `tokens` tokens each (at least one) lies.

    The plan is made on the host: on a GPU it costs a synchronisation a batch, whatever the number of layers.
    """

    def __init__(self, tokens_B: Tensor, offsets_B1: Tensor, total: int) -> None:
        device, size = tokens_B.device, tokens_B.numel()
        self.tokens, self.total = tokens_B, total
        sorted_tokens, self.order = tokens_B.sort(stable=True)
        self.plan = plan_buckets(sorted_tokens.tolist())
        counts = torch.tensor([rows for rows, _ in self.plan], device=device)
        widths = torch.tensor([width for _, width in self.plan], device=device).repeat_interleave(
            counts, output_size=size
        )
        self.inverse_order = torch.empty_like(self.order).index_copy_(0, self.order, torch.arange(size, device=device))
        slots = sum(rows * width for rows, width in self.plan)
        starts = offsets_of(widths)[:-1]
        position = torch.arange(slots, device=device) - starts.repeat_interleave(widths, output_size=slots)
        last = (sorted_tokens - 1).repeat_interleave(widths, output_size=slots)
        first_row = offsets_B1[self.order].repeat_interleave(widths, output_size=slots)
        self.valid_slots = position <= last  # (N,)
        self.row_of_slot = first_row + torch.minimum(position, last)  # a padding slot repeats its sample's last token
        shift = (starts[self.inverse_order] - offsets_B1[:-1]).repeat_interleave(tokens_B, output_size=total)
        self.slot_of_row = shift + torch.arange(total, device=device)
        self.holes = None if slots == total else (~self.valid_slots).nonzero().squeeze(1)

    def split(self, values_N: Tensor) -> list[Tensor]:
        """(N, ...) -> (samples, width, ...) a bucket."""
        parts = values_N.split([rows * width for rows, width in self.plan])
        return [part.view(*shape, *values_N.shape[1:]) for part, shape in zip(parts, self.plan, strict=True)]

    @cached_property
    def masks(self) -> list[Tensor | None]:
        """(samples, width) bool for each bucket, True at tokens; None where nothing is padded."""
        masks = self.split(self.valid_slots)
        exact = torch.stack([m.all() for m in masks]).tolist()
        return [None if full else m for m, full in zip(masks, exact, strict=True)]

    def pad(self, values_J: Tensor) -> list[Tensor]:
        """(J, ...) -> (samples, width, ...) a bucket. Padding holds copies of real tokens: mask it or drop it."""
        return self.split(Gather.apply(values_J, self.row_of_slot, self.slot_of_row, None))

    def unpad(self, parts: list[Tensor]) -> Tensor:
        """The inverse of `pad`: (samples, width, ...) a bucket -> (J, ...)."""
        flat = parts[0].flatten(0, 1) if len(parts) == 1 else torch.cat([part.flatten(0, 1) for part in parts])
        return Gather.apply(flat, self.slot_of_row, self.row_of_slot, self.holes)

    def bucket(self, values_B: Tensor) -> list[Tensor]:
        """(B, ...) in the batch's order -> (samples, ...) a bucket."""
        permuted = Gather.apply(values_B, self.order, self.inverse_order, None)
        return list(permuted.split([rows for rows, _ in self.plan]))

    def unbucket(self, parts: list[Tensor]) -> Tensor:
        """The inverse of `bucket`."""
        return Gather.apply(torch.cat(parts), self.inverse_order, self.order, None)
