"""Operators called on a batch as the package calls them, and the same by plain loops over its samples. In: a layout, inputs; out: a tensor.

A layout's events are of two groups. Legend: B samples, J tokens, E events, H heads, C channels a head, d = H * C.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from benchmarks.kernels import reference
from interformer_rec.ops import attention as attention_ops
from interformer_rec.ops import glue, pooling, rotary
from interformer_rec.ops.jagged import JaggedLayout

MAPS, RECENT, BASE, WINDOW = 20, 3, 100.0, 4
GATED = 300  # columns of a gate: more than a kernel's tile has
LONGEST = 5_000  # events of the longest history there can be


def tokens_of(layout: JaggedLayout, values_J: Tensor) -> tuple[Tensor, ...]:
    """Rows of each sample, CLS tokens first."""
    return values_J.split(layout.tokens.tolist())


def samples_of(layout: JaggedLayout, *groups: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Rows of each of the two groups in each sample."""
    parts = (values.split(counts.tolist()) for values, counts in zip(groups, layout.parts_BG.unbind(1), strict=True))
    return zip(*parts, strict=True)


def ages_of(layout: JaggedLayout) -> Tensor:
    """(J,) newest event of a group 0; CLS tokens -1."""
    groups = [age for n in layout.parts_BG.tolist() for age in ([-1] * layout.cls, *(range(m - 1, -1, -1) for m in n))]
    return torch.tensor([age for group in groups for age in group])


# attention


def attention(layout: JaggedLayout, qk: Tensor, v: Tensor, window: int | None = None) -> Tensor:
    turns = attention_ops.rotary_of(layout, v.shape[1], v.shape[2], BASE, LONGEST, v)
    return attention_ops.jagged_attention(qk, v, layout, turns, window)


def attention_plain(layout: JaggedLayout, qk: Tensor, v: Tensor, window: int | None = None) -> Tensor:
    ages = ages_of(layout)
    q, k = (reference.rotate(x, ages, BASE) for x in qk.unbind(1))
    parts = zip(*(tokens_of(layout, x) for x in (q, k, v)), strict=True)
    return torch.cat(
        [
            reference.attention(*part, *(() if window is None else (near(part[0], layout.cls, window),)))
            for part in parts
        ]
    )


def near(x_T: Tensor, cls: int, window: int) -> Tensor:
    """(T, T) bool: what sees what with a window; CLS tokens see and are seen by all."""
    place = torch.arange(x_T.shape[0])
    is_cls = place < cls
    return ((place[:, None] - place).abs() <= window) | is_cls | is_cls[:, None]


def windowed(layout: JaggedLayout, qk: Tensor, v: Tensor) -> Tensor:
    return attention(layout, qk, v, WINDOW)


def unturned(layout: JaggedLayout, qkv: Tensor) -> Tensor:
    """Queries, keys and values as slices of one tensor."""
    return attention_ops.jagged_attention(qkv[:, :2], qkv[:, 2], layout)


def unturned_plain(layout: JaggedLayout, qkv: Tensor) -> Tensor:
    return torch.cat([reference.attention(*part.unbind(1)) for part in tokens_of(layout, qkv)])


def pool_plain(layout: JaggedLayout, maps: Tensor, values: Tensor) -> Tensor:
    return torch.stack([reference.attention_pool(maps, part[layout.cls :]) for part in tokens_of(layout, values)])


# groups and unions


def groups_of(layout: JaggedLayout, *values: Tensor) -> list[tuple[Tensor, Tensor]]:
    return list(zip(values, layout.parts_BG.unbind(1), strict=True))


def by_age_plain(layout: JaggedLayout, a: Tensor, b: Tensor) -> Tensor:
    out = []
    for sample in samples_of(layout, a, b):
        for age in range(max(map(len, sample)) - 1, -1, -1):
            out.append(torch.cat([x[len(x) - 1 - age] if age < len(x) else x.new_zeros(x.shape[1]) for x in sample]))
    return torch.stack(out) if out else torch.cat([a, b], 1)


def union_groups(layout: JaggedLayout, a: Tensor, b: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Two groups whose events have few different ids, and one more that repeats the first in another order."""
    one, two = groups_of(layout, *((x[:, 0].abs() * 4).to(torch.int64) for x in (a, b)))
    return [two, one, (one[0].flip(0), one[1].flip(0))]


def united(layout: JaggedLayout, a: Tensor, b: Tensor) -> Tensor:
    found = glue.union(union_groups(layout, a, b))
    return torch.cat([found.rows_E, found.lengths_B, found.marks_EG.flatten().to(torch.int64)])


def united_plain(layout: JaggedLayout, a: Tensor, b: Tensor) -> Tensor:
    rows, sizes, marks, start, groups = [], [], [], 0, []
    for ids, lengths in union_groups(layout, a, b):
        events = list(zip(ids.tolist(), range(start, start + len(ids)), strict=True))
        ends = lengths.cumsum(0).tolist()
        groups.append([events[end - n : end] for end, n in zip(ends, lengths.tolist(), strict=True)])
        start += len(ids)
    for sample in zip(*groups, strict=True):
        found: list[tuple[int, int]] = []
        has = [{event for event, _ in group} for group in sample]
        for g, group in enumerate(sample):
            found = [one for one in group if not any(one[0] in earlier for earlier in has[:g])] + found
        rows += [row for _, row in found]
        sizes.append(len(found))
        marks += [event in group for event, _ in found for group in has]
    return torch.tensor([*rows, *sizes, *marks])


# tokens


def prepend_plain(layout: JaggedLayout, cls: Tensor, events: Tensor) -> Tensor:
    parts = zip(cls, events.split(layout.lengths.tolist()), strict=True)
    return torch.cat([row for pair in parts for row in pair])


def summary_plain(layout: JaggedLayout, values: Tensor) -> Tensor:
    out = []
    for sample, counts in zip(tokens_of(layout, values), layout.parts_BG.tolist(), strict=True):
        cls, *groups = sample.split([layout.cls, *counts])
        newest = [
            torch.cat([part.flip(0)[:RECENT], part.new_zeros(max(0, RECENT - len(part)), part.shape[1])])
            for part in groups
        ]
        out.append(torch.cat([cls, *newest]))
    return torch.stack(out)


# rows and samples


def turned(layout: JaggedLayout, x_JHC: Tensor) -> Tensor:
    wide = torch.float64 if x_JHC.dtype == torch.float64 else torch.float32
    table = rotary.rotary_table(layout.ages, *x_JHC.shape[1:], BASE, wide)
    return rotary.rotate(x_JHC.flatten(1), table).view(x_JHC.shape)


def ffn_plain(layout: JaggedLayout, x: Tensor, w1: Tensor, w2: Tensor) -> Tensor:
    return torch.cat([reference.ffn(part, w1[i], w2[i]) for i, part in enumerate(tokens_of(layout, x))])


def linear_plain(layout: JaggedLayout, x: Tensor, w: Tensor) -> Tensor:
    return torch.cat([part @ w[i] for i, part in enumerate(tokens_of(layout, x))])


def pooled(how: str) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    def plain(layout: JaggedLayout, x: Tensor) -> Tensor:
        return torch.stack([reference.segment_pool(part, how == "mean") for part in x.split(layout.lengths.tolist())])

    return lambda layout, x: pooling.segment_pool(x, layout.lengths, how), plain


def pairs_of(x: Tensor) -> Tensor:
    first, second = torch.triu_indices(x.shape[1], x.shape[1], offset=1, device=x.device)
    return first * x.shape[1] + second


def reversal(x: Tensor) -> Tensor:
    return torch.arange(x.shape[0] - 1, -1, -1, device=x.device)
