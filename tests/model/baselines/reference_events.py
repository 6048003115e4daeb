"""The candidate-aware systems written a second time: one sample, one event at a time, no padding."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from interformer_rec.model.embedding.embedded import field_groups
from tests.model.baselines.reference import Reference


class EventsReference(Reference):
    """`read(name, group, events, candidate)` -> what one history gives; a subclass a kind."""

    def candidate(self, group: str, sample: dict) -> Tensor:
        """The candidate's fields by the history's tables; zeros for a column no field shares."""
        groups = field_groups(self.features, self.options.embedding_dim)
        place = {f.key: sample["fields"][dim][i] for dim, fields in groups.items() for i, f in enumerate(fields)}
        sequence = next(g for g in self.features.sequences if g.name == group)
        width = sample["events"][group].shape[1] // len(sequence.columns)
        parts = []
        for column in sequence.columns:
            sharing = [f.name for f in (*self.features.ids, *self.features.bags) if f.table == column.table]
            parts.append(place[sharing[0]] if sharing else torch.zeros(width, dtype=torch.float64))
        return torch.cat(parts)

    def inputs(self, sample: dict) -> Tensor:
        parts = [self.flat(sample, histories=False)]
        for i, group in enumerate(self.features.sequences):
            events, candidate = sample["events"][group.name], self.candidate(group.name, sample)
            parts.append(self.read(f"inputs.readers.{i}", group.max_length, events, candidate))
        return torch.cat(parts)

    def logits(self, sample: dict) -> Tensor:
        return self.last_tower("head", self.inputs(sample))

    def unit(self, name: str, query: Tensor, key: Tensor, activation: str) -> Tensor:
        x = self.linear(f"{name}.first", torch.cat([query, key, query - key, query * key]))
        x = self.activation(f"{name}.rest.0", x, activation)
        return self.tower(f"{name}.rest.1", x, len(self.options.attention) - 1, activation)[0]

    def position(self, name: str, age: int) -> Tensor:
        return self.w(f"{name}.rows")[age]

    def layer_norm(self, name: str, x: Tensor) -> Tensor:
        centred = x - x.mean()
        return centred / torch.sqrt((centred**2).mean() + 1e-5) * self.w(f"{name}.weight") + self.w(f"{name}.bias")

    def block(self, name: str, tokens: list[Tensor], heads: int, activation) -> list[Tensor]:
        """One transformer block with the norms after the residuals."""
        width = len(tokens[0])
        weight, bias = self.w(f"{name}.self_attn.in_proj_weight"), self.w(f"{name}.self_attn.in_proj_bias")
        q, k, v = ([(weight @ t + bias).view(3, heads, -1)[part] for t in tokens] for part in range(3))
        out = []
        for i, token in enumerate(tokens):
            merged = []
            for h in range(heads):
                scores = torch.stack([q[i][h] @ k[j][h] / math.sqrt(width // heads) for j in range(len(tokens))])
                merged.append(sum(a * v[j][h] for j, a in enumerate(scores.softmax(0))))
            x = self.layer_norm(f"{name}.norm1", token + self.linear(f"{name}.self_attn.out_proj", torch.cat(merged)))
            update = self.linear(f"{name}.linear2", activation(self.linear(f"{name}.linear1", x)))
            out.append(self.layer_norm(f"{name}.norm2", x + update))
        return out


def weighted(weights: Tensor, values: list[Tensor] | Tensor, width: int) -> Tensor:
    total = torch.zeros(width, dtype=torch.float64)
    for weight, value in zip(weights, values, strict=True):
        total = total + weight * value
    return total


class DIN(EventsReference):
    def read(self, name: str, longest: int, events: Tensor, candidate: Tensor) -> Tensor:
        scores = [self.unit(f"{name}.unit", candidate, e, self.options.activation) for e in events]
        return weighted(scores, events, events.shape[1])


class DIEN(EventsReference):
    def interests(self, name: str, events: Tensor) -> list[Tensor]:
        """A GRU step by step."""
        h, states, width = torch.zeros(events.shape[1], dtype=torch.float64), [], events.shape[1]
        of_input, of_state = (self.w(f"{name}.extractor.weight_{part}_l0") for part in ("ih", "hh"))
        bias_input, bias_state = (self.w(f"{name}.extractor.bias_{part}_l0") for part in ("ih", "hh"))
        for e in events:
            i_r, i_z, i_n = (of_input @ e + bias_input).split(width)
            h_r, h_z, h_n = (of_state @ h + bias_state).split(width)
            z = torch.sigmoid(i_z + h_z)
            h = (1 - z) * torch.tanh(i_n + torch.sigmoid(i_r + h_r) * h_n) + z * h
            states.append(h)
        return states

    def read(self, name: str, longest: int, events: Tensor, candidate: Tensor) -> Tensor:
        width = events.shape[1]
        states = self.interests(name, events)
        h = torch.zeros(width, dtype=torch.float64)
        if not states:
            return h
        attention = torch.stack([s @ self.w(f"{name}.attention") @ candidate for s in states]).softmax(0)
        gates, state = self.w(f"{name}.evolution.gates.weight"), self.w(f"{name}.evolution.state.weight")
        for s, a in zip(states, attention, strict=True):
            i_u, i_r, i_h = self.linear(f"{name}.evolution.inputs", s).split(width)
            h_u, h_r = (gates @ h).split(width)
            new = torch.tanh(i_h + torch.sigmoid(i_r + h_r) * (state @ h))
            u = a * torch.sigmoid(i_u + h_u)
            h = (1 - u) * h + u * new
        return h


class BST(EventsReference):
    def read(self, name: str, longest: int, events: Tensor, candidate: Tensor) -> Tensor:
        count = len(events)
        tokens = [e + self.position(f"{name}.positions", count - 1 - t) for t, e in enumerate(events)]
        tokens.append(candidate + self.w(f"{name}.candidate_position"))
        for i in range(self.options.layers):
            tokens = self.block(f"{name}.blocks.layers.{i}", tokens, self.options.heads, F.leaky_relu)
        if self.options.pooling == "candidate":
            return tokens[-1]
        if self.options.pooling == "mean":
            return sum(tokens) / len(tokens)
        newest_first = tokens[::-1]  # the candidate, then events by age
        return torch.cat(newest_first + [torch.zeros_like(candidate)] * (longest + 1 - len(newest_first)))


class TransAct(EventsReference):
    def read(self, name: str, longest: int, events: Tensor, candidate: Tensor) -> Tensor:
        tokens = [torch.cat([e, candidate]) for e in events]
        tokens = tokens or [torch.cat([torch.zeros_like(candidate), candidate])]
        for i in range(self.options.layers):
            tokens = self.block(f"{name}.blocks.layers.{i}", tokens, self.options.heads, F.relu)
        newest = tokens[::-1][: self.options.newest] if len(events) else []
        newest += [torch.zeros_like(tokens[0])] * (self.options.newest - len(newest))
        return torch.cat([*newest, self.linear(f"{name}.out", torch.stack(tokens).amax(0))])

    def logits(self, sample: dict) -> Tensor:
        return self.parallel("head", self.inputs(sample))


class DMIN(EventsReference):
    def heads(self, name: str, x: list[Tensor]) -> list[list[Tensor]]:
        """[event][head] of causal attention."""
        heads = self.options.heads
        rows = [self.linear(f"{name}.qkv", e).view(3, heads, -1) for e in x]
        out = []
        for t in range(len(x)):
            merged = []
            for h in range(heads):
                channels = rows[t].shape[2]
                scores = torch.stack([rows[t][0, h] @ rows[j][1, h] / math.sqrt(channels) for j in range(t + 1)])
                merged.append(sum(a * rows[j][2, h] for j, a in enumerate(scores.softmax(0))))
            out.append(merged)
        return out

    def feed_forward(self, name: str, x: Tensor, attended: Tensor) -> Tensor:
        y = self.layer_norm(f"{name}.norm", x + attended)
        return y + self.tower(f"{name}.mlp", y, 1, "relu")

    def refined(self, name: str, events: Tensor) -> list[Tensor]:
        attended = [
            self.linear(f"{name}.refiner_out", torch.cat(h)) for h in self.heads(f"{name}.refiner", list(events))
        ]
        return [self.feed_forward(f"{name}.refiner_feed_forward", e, a) for e, a in zip(events, attended, strict=True)]

    def read(self, name: str, longest: int, events: Tensor, candidate: Tensor) -> Tensor:
        width, count = events.shape[1], len(events)
        refined = self.refined(name, events)
        heads, parts = self.heads(f"{name}.extractor", refined), []
        for i in range(self.options.heads):
            one = f"{name}.interests.{i}"
            z = [
                self.feed_forward(f"{one}.feed_forward", e, self.linear(f"{one}.out", head[i]))
                for e, head in zip(refined, heads, strict=True)
            ]
            scores = []
            for t, e in enumerate(z):
                position = self.position(f"{one}.positions", count - 1 - t)
                query = self.linear(f"{one}.of_candidate", candidate) + self.linear(f"{one}.of_position", position)
                scores.append(self.unit(f"{one}.unit", query, e, "relu"))
            parts.append(weighted(torch.stack(scores).softmax(0) if scores else [], z, width))
        return torch.cat(parts)


class DMR(EventsReference):
    def scores(self, name: str, events: Tensor, candidate: Tensor | None) -> list[Tensor]:
        found = []
        for t, e in enumerate(events):
            position = self.position(f"{name}.positions", len(events) - 1 - t)
            inner = self.linear(f"{name}.of_event", e) + self.linear(f"{name}.of_position", position)
            inner = inner if candidate is None else inner + self.linear(f"{name}.of_candidate", candidate)
            found.append(self.linear(f"{name}.z", torch.tanh(inner))[0])
        return found

    def user(self, name: str, events: Tensor, scores: list[Tensor]) -> Tensor:
        pooled = weighted(torch.stack(scores).softmax(0) if scores else [], events, events.shape[1])
        return self.activation(f"{name}.user.1", self.linear(f"{name}.user.0", pooled), "prelu")

    def read(self, name: str, longest: int, events: Tensor, candidate: Tensor) -> Tensor:
        u2i = f"{name}.user_to_item"
        user = self.user(u2i, events, self.scores(f"{u2i}.scores", events, None))
        relevance = user @ self.linear(f"{u2i}.item", candidate)
        scores = self.scores(f"{name}.item_to_item", events, candidate)
        interest = weighted(torch.stack(scores).softmax(0) if scores else [], events, events.shape[1])
        total = sum(scores) if scores else torch.zeros((), dtype=torch.float64)
        return torch.cat([interest, total[None], relevance[None]])
