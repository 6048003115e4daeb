"""The same model the way padded frameworks write it: the alternative that jagged layouts are measured against.

In: an InterFormer, whose weights it shares, and histories padded to the longest allowed; out: the same logits. Events are
aligned at the newest (padding on the left), so ages and rotary angles are the same for all rows. Legend: B rows, T events of
the padded history, c CLS tokens, N = c + T, d channels, H heads, C channels a head.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interformer_rec.config.model import ModelConfig
from interformer_rec.errors import InputError
from interformer_rec.model.candidate_side import UserStates
from interformer_rec.model.cross_arch import CrossArch
from interformer_rec.model.embedding.embedded import Embedded, Events
from interformer_rec.model.interformer import InterFormer
from interformer_rec.model.pffn import GDPA, TwoLayerPFFN
from interformer_rec.model.sequence_arch import SequenceArch


class PaddedSequence(NamedTuple):
    """Tokens of one sequence: CLS tokens, then T places for events."""

    values: Tensor  # (B, N, d)
    visible: Tensor  # (B, N) bool: CLS tokens and events
    parts: tuple[tuple[int, Tensor], ...]  # of each group: its places T_g, and (B,) lengths
    turns: tuple[Tensor, Tensor]  # cosine and sine, (N, C / 2)


def pad_events(events: Mapping[str, Events], longest: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Events of each group -> (B, longest, k * w) values, newest at the end, zeros before the oldest; and (B,) lengths."""
    padded = {}
    for name, group in events.items():
        lengths = group.lengths
        rows = torch.arange(lengths.numel(), device=lengths.device).repeat_interleave(lengths)
        ends = lengths.cumsum(0)
        place = torch.arange(rows.numel(), device=lengths.device) - ends[rows] + longest
        values = group.values.detach().new_zeros(lengths.numel(), longest, group.values.shape[1])
        values[rows, place] = group.values.detach()
        padded[name] = values.requires_grad_(), lengths
    return padded


class PaddedInterFormer(nn.Module):
    """InterFormer on (B, N, d) tensors with masks."""

    def __init__(self, model: InterFormer, options: ModelConfig) -> None:
        super().__init__()
        if options.sequence.merge == "union":
            raise InputError(
                "merge: union has no padded form: drawn vectors have no ids by which events are the same; use another merge"
            )
        self.model = model
        self.heads = options.heads
        self.base = options.sequence.rope_base
        self.recent = options.summary.recent_tokens

    def forward(self, dense_BM: Tensor, fields: dict[int, Tensor], events: dict[str, tuple[Tensor, Tensor]]) -> Tensor:
        """(B, tasks) logits."""
        model = self.model
        embedded = Embedded(fields, {})
        x = self._fields(*model.side.take(dense_BM, embedded), [events[name][1] for name in model.preprocess.names])
        x_n = model.cross_archs[0].x_norm(x)
        x_sum = model.cross_archs[0].x_summary(x_n)
        sequences = [self._prepend(x_sum, values, parts) for values, parts in self._events(events)]
        s_n, s_sum = self._summaries(model.cross_archs[0], sequences)
        reads = []
        for layer, cross in zip(model.layers, model.cross_archs[1:], strict=True):
            if model.candidate is not None:
                reads.append(torch.cat([x_n, s_sum], dim=1))
            x = layer.interaction_arch(x, x_n, s_sum)
            sequences = [
                self._sequence_arch(arch, x_sum, s, normed)
                for arch, s, normed in zip(layer.sequence_archs, sequences, s_n, strict=True)
            ]
            x_n = cross.x_norm(x)
            x_sum = cross.x_summary(x_n)
            s_n, s_sum = self._summaries(cross, sequences)
        states = UserStates(tuple(reads), torch.cat([x_sum, s_sum], dim=1))
        return model.candidate_side(states, dense_BM, embedded)

    def _fields(self, dense_BM: Tensor, embedded: Embedded, lengths: list[Tensor]) -> Tensor:
        pre = self.model.preprocess
        if pre.lengths is not None:
            dense_BM = torch.cat([dense_BM, pre.lengths(lengths, dense_BM.dtype)], 1)
        tokens = [] if pre.dense is None else [pre.dense(dense_BM)[:, None]]
        tokens += [pre.fields[str(width)](values) for width, values in embedded.fields.items()]
        return torch.cat(tokens, dim=1)

    def _events(self, events: dict[str, tuple[Tensor, Tensor]]) -> list[tuple[Tensor, tuple[tuple[int, Tensor], ...]]]:
        pre = self.model.preprocess
        normed = [norm(events[name][0].flatten(0, 1)) for norm, name in zip(pre.event_norms, pre.names, strict=True)]
        lengths = [events[name][1] for name in pre.names]
        rows, longest = events[pre.names[0]][0].shape[:2]
        if pre.merge == "masknet":
            merged = pre.masknets[0](torch.cat(normed, 1)).view(rows, longest, -1)
            return [(merged, ((longest, torch.stack(lengths).amax(0)),))]
        values = [net(v).view(rows, longest, -1) for net, v in zip(pre.masknets, normed, strict=True)]
        if pre.group_embedding is None:
            return [(v, ((longest, n),)) for v, n in zip(values, lengths, strict=True)]
        named = [v + name for v, name in zip(values, pre.group_embedding, strict=True)]
        return [(torch.cat(named, 1), tuple((longest, n) for n in lengths))]

    def _prepend(self, x_sum_BCD: Tensor, values: Tensor, parts: tuple[tuple[int, Tensor], ...]) -> PaddedSequence:
        rows, cls, _ = x_sum_BCD.shape
        places = [torch.arange(size, device=values.device) for size, _ in parts]
        shown = [at >= size - n[:, None] for at, (size, n) in zip(places, parts, strict=True)]
        visible = torch.cat([torch.ones(rows, cls, dtype=torch.bool, device=values.device), *shown], 1)
        ages = torch.cat([torch.zeros(cls, device=values.device), *(len(at) - 1.0 - at for at in places)])
        channels = values.shape[-1] // self.heads
        frequency = self.base ** (-torch.arange(0, channels, 2, device=values.device) / channels)
        angle = ages[:, None] * frequency
        turns = angle.cos().to(values.dtype), angle.sin().to(values.dtype)
        return PaddedSequence(torch.cat([x_sum_BCD, values], 1), visible, parts, turns)

    def _summaries(self, cross: CrossArch, sequences: list[PaddedSequence]) -> tuple[list[Tensor], Tensor]:
        normed = [norm(s.values) for norm, s in zip(cross.s_norms, sequences, strict=True)]
        found = []
        for summary, s, values in zip(cross.s_summaries, sequences, normed, strict=True):
            cls = summary.cls_tokens
            tokens = [values[:, :cls]] if summary.keep_cls else []
            if summary.pma is not None:
                tokens.append(self._pool(summary.pma, values, s, cls))
            end = cls
            for size, lengths in s.parts:
                end += size
                newest = values[:, end - self.recent : end].flip(1)
                there = torch.arange(self.recent, device=values.device) < lengths[:, None]
                tokens.append(newest * there[..., None])
            found.append(summary.gating(torch.cat(tokens, 1)))
        return normed, torch.cat(found, 1)

    @staticmethod
    def _pool(pma: nn.Module, values: Tensor, s: PaddedSequence, cls: int) -> Tensor:
        (count, d), heads = pma.queries.shape, pma.heads
        channels = d // heads
        queries = pma.queries.view(count, heads, channels) / math.sqrt(channels)
        maps = torch.einsum("phc,hcd->phd", queries, pma.key.view(heads, channels, d)).reshape(count * heads, d)
        events, shown = values[:, cls:], s.visible[:, None, cls:]
        scores = F.linear(events, maps).transpose(1, 2)
        weights = scores.masked_fill(~shown, torch.finfo(scores.dtype).min).softmax(-1) * shown
        pooled = (weights @ events).view(-1, count, heads, d)
        value = torch.einsum("bphd,hcd->bphc", pooled, pma.value.view(heads, channels, d))
        return pma.out(value.reshape(-1, count, d))

    def _sequence_arch(self, arch: SequenceArch, x_sum: Tensor, s: PaddedSequence, normed: Tensor) -> PaddedSequence:
        pffn = arch.pffn
        if isinstance(pffn, TwoLayerPFFN | GDPA):
            w1, w2 = pffn.weights(x_sum)
            values = torch.bmm(F.gelu(torch.bmm(normed, w1)), w2)
        else:
            values = torch.bmm(pffn.w(normed), x_sum)
        values = s.values + values if arch.pffn_residual else values
        attended = self._attend(arch.attention, arch.attention_norm(values), s)
        return s._replace(values=values + attended if arch.attention_residual else attended)

    def _attend(self, attention: nn.Module, values: Tensor, s: PaddedSequence) -> Tensor:
        def split(x: Tensor) -> Tensor:
            return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, N, C)

        q, k = attention.qk(values).chunk(2, -1)
        q, k, v = (
            self._turn(split(q), s.turns),
            self._turn(split(k), s.turns),
            split(attention.v(values)),
        )
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=s.visible[:, None, None, :])
        return attention.out(out.transpose(1, 2).flatten(2))

    @staticmethod
    def _turn(x: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
        cosine, sine = turns
        even, odd = x[..., 0::2], x[..., 1::2]
        return torch.stack([even * cosine - odd * sine, even * sine + odd * cosine], -1).flatten(-2)


def padded_events(lengths: Mapping[str, np.ndarray], longest: int) -> int:
    """Places for events, padding included."""
    return sum(len(rows) * longest for rows in lengths.values())
