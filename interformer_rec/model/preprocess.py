"""Preprocessing (paper, Eq. 5-6 and the text before): raw and looked-up features become tokens of one width d.

All dense columns are ONE token, every id or bag is one token, every event is one token. RMSNorm follows each lookup, whatever
the preset: products of tiny embeddings would vanish. Legend: B samples, n tokens, E events, k columns of width w, d channels.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from interformer_rec.config.features import SequenceGroup
from interformer_rec.errors import InputError
from interformer_rec.model.embedding.embedded import Embedded, Events, United
from interformer_rec.model.layers import Linear, RMSNorm, fan_in_
from interformer_rec.ops.gating import mask_gate
from interformer_rec.ops.glue import glue_by_age, glue_in_turn, union
from interformer_rec.ops.jagged import JaggedLayout, take_rows
from interformer_rec.ops.rectangle import RectangleLayout


class EventTokens(NamedTuple):
    """One sequence before its CLS tokens: events of G groups, one group after another inside a sample."""

    values: Tensor  # (E, d) or (B, T, d)
    lengths_BG: Tensor  # (B, G)
    places: tuple[int, ...] = ()  # of each group in the rectangle; jagged: none

    def layout(self, cls: int, parts: bool = True) -> JaggedLayout | RectangleLayout:
        """With so many CLS tokens in front. `parts`: the newest events are each group's, not those of all as one history."""
        if self.places:
            return RectangleLayout(self.lengths_BG, self.places, cls, parts)
        return JaggedLayout(self.lengths_BG.sum(1), cls, self.lengths_BG if parts else None, self.values.shape[0])


class HistoryLengths(nn.Module):
    """(B,) counts of G histories -> (B, G) numbers from -1, no event, to 1, `longest` events: 2 log(1 + n) / log(1 + longest) - 1."""

    def __init__(self, longest: list[int]) -> None:
        super().__init__()
        self.register_buffer("scale", 2 / torch.tensor(longest, dtype=torch.float64).log1p(), persistent=False)

    def forward(self, lengths: list[Tensor], dtype: torch.dtype) -> Tensor:
        """Of all histories, in `dtype`."""
        return torch.stack(lengths, 1).to(dtype).log1p() * self.scale.to(dtype) - 1


class FieldTokens(nn.Module):
    """(B, F, w) -> (B, F, d): normalised, then projected by a map of each field's own where w is not d."""

    def __init__(self, fields: int, width: int, d: int) -> None:
        super().__init__()
        self.norm = RMSNorm(width)
        self.weight = nn.Parameter(fan_in_(torch.empty(fields, width, d), width)) if width != d else None

    def forward(self, fields_BFW: Tensor) -> Tensor:
        """Fields to tokens."""
        x = self.norm(fields_BFW)
        return x if self.weight is None else torch.bmm(x.transpose(0, 1), self.weight).transpose(0, 1)


class EventNorm(nn.Module):
    """(..., k * w) -> (..., k * w): each column normalised by itself."""

    def __init__(self, columns: int, width: int) -> None:
        super().__init__()
        self.shape = (columns, width)
        self.norm = RMSNorm(width)

    def forward(self, events_EK: Tensor) -> Tensor:
        """Normalise after the lookup."""
        return self.norm(events_EK.unflatten(-1, self.shape)).flatten(-2)


class MaskNet(nn.Module):
    """S = MLP_lce(S_cat * MLP_mask(S_cat)), kd -> kd -> d (paper, Eq. 5-6). The mask starts around 1."""

    def __init__(self, width: int, d: int) -> None:
        super().__init__()
        self.mask = Linear(width, width)
        nn.init.ones_(self.mask.bias)
        self.lce = Linear(width, d)
        fan_in_(self.lce.weight, 2 * width)  # the product of x and its mask, 1 + N(0, 1), has twice the power of x

    def forward(self, s_cat_EK: Tensor) -> Tensor:
        """Merge aligned columns."""
        return self.lce(mask_gate(s_cat_EK, self.mask.weight, self.mask.bias))


class Preprocess(nn.Module):
    """(dense, Embedded) -> X^(1) (B, n, d) and one EventTokens for each sequence of the chosen merge (no sequences: none)."""

    def __init__(
        self,
        dense: int,
        field_counts: dict[int, int],
        sequences: tuple[SequenceGroup, ...],
        event_width: int,
        d: int,
        merge: str,
        lengths: bool,
    ) -> None:
        super().__init__()
        columns = {group.name: len(group.columns) for group in sequences}
        self.lengths = HistoryLengths([group.max_length for group in sequences]) if lengths else None
        numbers = dense + (len(columns) if lengths else 0)
        self.dense = nn.Sequential(Linear(numbers, d), RMSNorm(d)) if numbers else None
        self.fields = nn.ModuleDict({str(width): FieldTokens(count, width, d) for width, count in field_counts.items()})
        self.merge = merge if len(columns) > 1 else "separate"  # of one group, all merges are the same
        counts = list(columns.values())[: 1 if self.merge == "union" else None]
        self.event_norms = nn.ModuleList(EventNorm(count, event_width) for count in counts)
        widths = [count * event_width for count in counts]
        self.masknets = nn.ModuleList(
            MaskNet(width, d) for width in ([sum(widths)] if self.merge == "masknet" else widths)
        )
        self.group_embedding = nn.Parameter(torch.randn(len(columns), d)) if self.merge in ("concat", "union") else None
        self.names = tuple(columns)
        self.tokens = (self.dense is not None) + sum(field_counts.values())  # n
        # groups inside each sequence
        self.groups = {"masknet": [1], "separate": [1] * len(columns), "concat": [len(columns)], "union": [1]}[
            self.merge
        ]

    def forward(self, dense_BM: Tensor, embedded: Embedded) -> tuple[Tensor, list[EventTokens]]:
        """Make all tokens."""
        if self.lengths is not None:
            lengths = self.lengths([embedded.events[name].lengths for name in self.names], dense_BM.dtype)
            dense_BM = torch.cat([dense_BM, lengths], dim=1)
        tokens = [] if self.dense is None else [self.dense(dense_BM)[:, None]]
        tokens += [self.fields[str(width)](fields) for width, fields in embedded.fields.items()]
        if self.merge == "union":
            if embedded.united is not None:
                return torch.cat(tokens, dim=1), [self._named(embedded.united)]
            return torch.cat(tokens, dim=1), [self._union([embedded.events[name] for name in self.names])]
        groups = [
            (norm(embedded.events[name].values), embedded.events[name].lengths)
            for norm, name in zip(self.event_norms, self.names, strict=True)
        ]
        return torch.cat(tokens, dim=1), self._events(groups)

    def _union(self, groups: list[Events]) -> EventTokens:
        """Every event once; a token says by sums of group embeddings which histories it stands in."""
        if any(group.ids is None for group in groups):
            raise InputError(
                "merge: union needs the events' ids, and these inputs have vectors only: use another merge"
            )
        rows, lengths, marks = union([(group.ids, group.lengths) for group in groups])
        values = take_rows(torch.cat([group.values for group in groups]), rows)
        return self._named(United(values, lengths, marks))

    def _named(self, united: United) -> EventTokens:
        tokens = self.masknets[0](self.event_norms[0](united.values))
        return EventTokens(
            tokens + united.marks.to(tokens.dtype) @ self.group_embedding, united.lengths[:, None], _places(tokens)
        )

    def _events(self, groups: list[tuple[Tensor, Tensor]]) -> list[EventTokens]:
        if self.merge == "masknet":
            glued, lengths = glue_by_age(groups)
            return [EventTokens(self.masknets[0](glued), lengths[:, None], _places(glued))]
        merged = [(masknet(values), lengths) for masknet, (values, lengths) in zip(self.masknets, groups, strict=True)]
        if self.group_embedding is None:
            return [EventTokens(values, lengths[:, None], _places(values)) for values, lengths in merged]
        named = [(values + name, lengths) for (values, lengths), name in zip(merged, self.group_embedding, strict=True)]
        places = tuple(place for values, _ in merged for place in _places(values))
        return [EventTokens(*glue_in_turn(named), places)]


def _places(values: Tensor) -> tuple[int, ...]:
    """Of the one group in (B, T, d); jagged values have none."""
    return (values.shape[1],) if values.ndim == 3 else ()
