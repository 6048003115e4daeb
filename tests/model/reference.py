"""InterFormer written a second time: one sample at a time, loops, no batching, no padding, no shared code with model/ but the
plain references of ops/. It reads the weights of a built model by name (`weights`, the state dict).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.kernels import reference as ops
from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.model import ModelConfig
from interformer_rec.ops.norm import EPS

ACTIVATIONS = {"silu": F.silu, "gelu": F.gelu, "relu": F.relu}


class Reference:
    """logits(sample) of one sample: {"dense": (m,), "fields": {w: (F, w)}, "events": {group: (T, k * w)}}."""

    def __init__(self, features: FeatureSchema, model: ModelConfig, weights: dict[str, Tensor]) -> None:
        self.features, self.model = features, model
        self.weights = {name: weight.detach().double() for name, weight in weights.items()}
        self.merge = model.sequence.merge if len(features.sequences) > 1 else "separate"

    def w(self, name: str) -> Tensor | None:
        return self.weights.get(name)

    # --- parts -------------------------------------------------------------------------------------------------------
    def linear(self, name: str, x: Tensor) -> Tensor:
        y = x @ self.w(f"{name}.weight").T
        return y if self.w(f"{name}.bias") is None else y + self.w(f"{name}.bias")

    def norm(self, name: str, x: Tensor) -> Tensor:
        gain = self.w(f"{name}.gain")
        return x if gain is None else ops.rms_norm(x, gain, EPS)

    def mlp(self, name: str, x: Tensor) -> Tensor:
        depth = sum(key.startswith(f"{name}.linears.") and key.endswith(".weight") for key in self.weights)
        for i in range(depth):
            x = self.linear(f"{name}.linears.{i}", x)
            x = ACTIVATIONS[self.model.activation](x) if i + 1 < depth else x
        return x

    def lce(self, name: str, x_ND: Tensor) -> Tensor:
        weight = self.w(f"{name}.weight")
        return torch.stack([sum(weight[i, j] * x_ND[j] for j in range(len(x_ND))) for i in range(len(weight))])

    def gating(self, name: str, x: Tensor) -> Tensor:
        kind = self.model.summary.gating
        if kind == "none":
            return x
        gate = self.mlp(f"{name}.mlp", x)
        if kind == "swish":
            return x * torch.sigmoid(gate)
        return {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "identity": lambda y: y}[kind](x * gate)

    # --- preprocessing -----------------------------------------------------------------------------------------------
    def tokens(self, sample: dict, name: str = "preprocess", lengths: bool = True) -> Tensor:
        rows = []
        numbers = list(sample["dense"])
        if lengths and self.model.sequence.lengths:
            for group in self.features.sequences:
                share = math.log1p(len(sample["events"][group.name])) / math.log1p(group.max_length)
                numbers.append(torch.tensor(2 * share - 1, dtype=torch.float64))
        if numbers:
            rows.append(self.norm(f"{name}.dense.1", self.linear(f"{name}.dense.0", torch.stack(numbers))))
        for width, fields in sample["fields"].items():
            projections = self.w(f"{name}.fields.{width}.weight")
            for i, field in enumerate(fields):
                token = self.norm(f"{name}.fields.{width}.norm", field)
                rows.append(token if projections is None else token @ projections[i])
        return torch.stack(rows)

    def masknet(self, i: int, s_cat: Tensor) -> Tensor:
        name = f"preprocess.masknets.{i}"
        return self.linear(f"{name}.lce", s_cat * self.linear(f"{name}.mask", s_cat))

    def sequences(self, sample: dict) -> list[list[tuple[Tensor, list[int]]]]:
        """For every sequence its groups, each (events (T, d), their ages)."""
        if self.merge == "union":
            return [[self.union(sample)]]
        normed = []
        for i, group in enumerate(self.features.sequences):
            columns = sample["events"][group.name].chunk(len(group.columns), dim=1)
            normed.append(torch.cat([self.norm(f"preprocess.event_norms.{i}.norm", column) for column in columns], 1))
        if self.merge == "masknet":
            longest = max(len(s) for s in normed)
            rows = [F.pad(s, (0, 0, longest - len(s), 0)) for s in normed]  # aligned at the newest event
            normed = [torch.cat(rows, 1)]
        merged = [self.masknet(i, s) for i, s in enumerate(normed)]
        if self.merge == "concat":
            merged = [s + self.w("preprocess.group_embedding")[i] for i, s in enumerate(merged)]
        aged = [(s, [len(s) - 1 - t for t in range(len(s))]) for s in merged]
        return [aged] if self.merge == "concat" else [[group] for group in aged]

    def union(self, sample: dict) -> tuple[Tensor, list[int]]:
        """Every event once, the first group's last, with the embeddings of all groups it stands in."""
        ids, names = sample["ids"], [group.name for group in self.features.sequences]
        tokens = []
        for g, (name, group) in enumerate(zip(names, self.features.sequences, strict=True)):
            older = []
            for event, one in zip(sample["events"][name], ids[name], strict=True):
                if any(one in ids[other] for other in names[:g]):
                    continue
                columns = event.chunk(len(group.columns))
                token = self.masknet(0, torch.cat([self.norm("preprocess.event_norms.0.norm", c) for c in columns]))
                for other, mark in zip(names, self.w("preprocess.group_embedding"), strict=True):
                    token = token + mark * (one in ids[other])
                older.append(token)
            tokens = older + tokens
        rows = torch.stack(tokens) if tokens else torch.zeros(0, self.model.d, dtype=torch.float64)
        return rows, [len(tokens) - 1 - t for t in range(len(tokens))]

    # --- Cross Arch --------------------------------------------------------------------------------------------------
    def pma(self, name: str, events: Tensor) -> Tensor:
        """Textbook multi-head attention of the learned queries, with a key and a value for every event."""
        queries, heads = self.w(f"{name}.queries"), self.model.heads
        if len(events) == 0:
            return torch.zeros_like(queries)
        key, value = events @ self.w(f"{name}.key").T, events @ self.w(f"{name}.value").T
        shape = (-1, heads, self.model.d // heads)
        pooled = ops.attention(queries.view(shape), key.view(shape), value.view(shape))
        return self.linear(f"{name}.out", pooled.flatten(1))

    def s_summary(self, name: str, s: Tensor, counts: list[int]) -> Tensor:
        summary = self.model.summary
        cls, events = s[: summary.x_tokens], s[summary.x_tokens :]
        rows = [cls] if summary.cls else []
        if summary.pma_tokens:
            rows.append(self.pma(f"{name}.pma", events))
        for group in events.split(counts):
            for age in range(summary.recent_tokens):
                rows.append(group[len(group) - 1 - age][None] if age < len(group) else torch.zeros_like(cls[:1]))
        return self.gating(f"{name}.gating", torch.cat(rows))

    def x_side(self, layer: int, x: Tensor) -> tuple[Tensor, Tensor]:
        name = f"cross_archs.{layer}"
        x = self.norm(f"{name}.x_norm", x)
        return x, self.gating(f"{name}.x_summary.gating", self.lce(f"{name}.x_summary.lce", x))

    # --- Interaction Arch --------------------------------------------------------------------------------------------
    def interaction(self, kind: str, name: str, z: Tensor, n: int) -> Tensor:
        d, options = self.model.d, self.model.interaction
        if kind == "dot":
            kept = z if len(z) <= options.dot_tokens else self.lce(f"{name}.compress", z)
            pairs = [kept[i] @ kept[j] / math.sqrt(d) for i in range(len(kept)) for j in range(i + 1, len(kept))]
            return self.mlp(f"{name}.mlp", torch.stack(pairs)).view(n, d)
        if kind == "dcn":
            first = x = z.flatten()
            for i in range(options.dcn_layers):
                x = first * self.linear(f"{name}.up.{i}", self.linear(f"{name}.down.{i}", x)) + x
            return self.lce(f"{name}.out", x.view_as(z))
        if kind == "wukong":
            products = z @ (z.T @ self.w(f"{name}.y"))
            blocks = [self.mlp(f"{name}.mlp", self.norm(f"{name}.fm_norm", products.flatten())).view(-1, d)]
            if len(blocks[0]) < n:
                blocks.append(self.lce(f"{name}.lcb", z))
            return self.norm(f"{name}.norm", torch.cat(blocks) + self.lce(f"{name}.shortcut", z))
        outputs = [self.interaction(part, f"{name}.members.{i}", z, n) for i, part in enumerate(options.parts)]
        merged = sum(outputs) if options.merge == "sum" else self.lce(f"{name}.concat", torch.cat(outputs))
        return self.norm(f"{name}.norm", merged + self.lce(f"{name}.shortcut", z))

    # --- Sequence Arch -----------------------------------------------------------------------------------------------
    def pffn(self, name: str, x_sum: Tensor, s: Tensor) -> Tensor:
        d, rank, form = self.model.d, self.model.sequence.pffn_rank, self.model.sequence.pffn
        if form == "appendix":
            matrix = x_sum.T @ self.w(f"{name}.w.weight")  # (d x c) (c x d)
            return torch.stack([matrix @ token for token in s])
        if form == "gdpa":  # token by token, key by key
            keys = self.w(f"{name}.keys") + self.lce(f"{name}.key_mix", self.linear(f"{name}.key", x_sum))
            values = self.w(f"{name}.values") + self.lce(f"{name}.value_mix", self.linear(f"{name}.value", x_sum))
            out = [sum(F.gelu(token @ k) * v for k, v in zip(keys, values, strict=True)) for token in s]
            return torch.stack(out)
        w1 = self.linear(f"{name}.w1", x_sum.flatten()).view(d, rank)
        w2 = self.linear(f"{name}.w2", x_sum.flatten()).view(rank, d)
        return ops.ffn(s, w1, w2)

    def attention(self, name: str, s: Tensor, ages: list[int]) -> Tensor:
        shape = (len(s), self.model.heads, -1)
        q, k = (part.view(shape) for part in (s @ self.w(f"{name}.qk.weight").T).chunk(2, dim=1))
        base = self.model.sequence.rope_base
        q, k = (ops.rotate(part, torch.tensor(ages), base) for part in (q, k))
        v = (s @ self.w(f"{name}.v.weight").T).view(shape)
        window, cls = self.model.sequence.window, self.model.summary.x_tokens
        seen = [
            [window is None or i < cls or j < cls or abs(i - j) <= window for j in range(len(s))] for i in range(len(s))
        ]
        return ops.attention(q, k, v, torch.tensor(seen)).flatten(1) @ self.w(f"{name}.out.weight").T

    def sequence_arch(self, name: str, x_sum: Tensor, s: Tensor, s_in: Tensor, ages: list[int]) -> Tensor:
        options = self.model.sequence
        y = self.pffn(f"{name}.pffn", x_sum, s_in)
        y = s + y if options.pffn_residual else y
        if self.w(f"{name}.attention.v.weight") is None:
            return y
        z = self.attention(f"{name}.attention", self.norm(f"{name}.attention_norm", y), ages)
        return y + z if options.attention_residual else z

    def early(self, i: int, events: Tensor) -> Tensor:
        """Flow sole: one history's token."""
        name, kind = f"early.{i}", self.model.pooling
        if kind == "mha":
            return self.pma(f"{name}.pma", events)[0]
        if kind == "mean":
            return events.sum(0) / max(1, len(events))
        newest = [
            events[len(events) - 1 - a] if a < len(events) else torch.zeros_like(events[:1].sum(0)) for a in range(8)
        ]
        return self.mlp(f"{name}.mlp", torch.cat(newest))

    # --- Algorithm 1 -------------------------------------------------------------------------------------------------
    def logits(self, sample: dict) -> Tensor:
        summaries = self.summaries(sample)[0].flatten()
        return torch.cat([self.mlp(f"heads.{t}", summaries) for t in range(len(self.features.labels))])

    def summaries(self, sample: dict) -> tuple[Tensor, list[Tensor]]:
        """The last [X_sum ; S_sum], and what the Interaction Arch of each layer reads."""
        x, reads = self.tokens(sample), []
        groups = self.sequences(sample)
        flow = self.model.flow
        if flow == "sole":
            x = torch.cat([x, *(self.early(i, torch.cat([e for e, _ in s]))[None] for i, s in enumerate(groups))])
            groups = []
        updates = self.model.layers if self.model.final_cross else self.model.layers - 1
        cls = self.model.summary.x_tokens
        counts = [[len(events) for events, _ in s] for s in groups]
        ages = [[-1] * cls + [age for _, part in s for age in part] for s in groups]
        sequences: list[Tensor] = []
        for layer in range(updates + 1):
            x_in, x_sum = self.x_side(layer, x)
            told = self.w("untold") if flow in ("s2n", "sep") else x_sum
            if layer == 0:
                sequences = [torch.cat([told, *(events for events, _ in s)]) for s in groups]
            name = f"cross_archs.{layer}"
            s_in = [self.norm(f"{name}.s_norms.{i}", s) for i, s in enumerate(sequences)]
            parts = [self.s_summary(f"{name}.s_summaries.{i}", s, counts[i]) for i, s in enumerate(s_in)]
            s_sum = torch.cat([x[:0], *parts])
            if layer == updates:
                break
            arch = f"layers.{layer}.interaction_arch"
            read = torch.cat([x_in, s_sum]) if flow in ("int", "s2n") else x_in
            z = self.interaction(self.model.interaction.kind, f"{arch}.interaction", read, len(x))
            reads.append(read)
            update = self.mlp(f"{arch}.mlp", z)
            x = x + update if self.model.interaction.residual else update
            sequences = [
                self.sequence_arch(f"layers.{layer}.sequence_archs.{i}", told, s, s_in[i], ages[i])
                for i, s in enumerate(sequences)
            ]
        return torch.cat([x_sum, s_sum]), reads
