"""Which feature each part of a dense weight belongs to. In: a schema and a model's options; out: a Slices for every weight.

A warm start (training/start/warm/) puts weights of one model into another one whose features differ: it matches weights by `key` and
parts of them by label. What multiplies a new feature's values starts at zero, in every layer, so that the feature changes no logit
until it is trained. Legend: X the non-sequence tokens, S the tokens of S_sum, n tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from interformer_rec.config.baselines import AnyModelConfig
from interformer_rec.config.features import DenseFeature, FeatureSchema, Lookup
from interformer_rec.config.model import ModelConfig
from interformer_rec.model.build import build_model
from interformer_rec.model.embedding.embedded import field_groups, table_dims
from interformer_rec.model.embedding.ensemble import EmbeddingEnsemble
from interformer_rec.model.interformer import InterFormer
from interformer_rec.model.preprocess import Preprocess

EVENTS = "all histories"  # the one sequence of several histories
MEMBERS = "members."  # of an ensemble: before a member's number and the name of its weight


@dataclass(frozen=True)
class Axis:
    """An axis cut into equal parts, a label each. `reads`: the weight is multiplied with the labels' values; else it makes them."""

    labels: tuple[str, ...]
    reads: bool = True


@dataclass(frozen=True)
class Slices:
    """`key`: the same in two models where it is the same weight. `owner`: the history, label or other thing that the weight exists for;
    "": the model."""

    key: str
    axes: tuple[Axis | None, ...]
    owner: str = ""


def dense_label(feature: DenseFeature) -> str:
    """A dense feature with all that makes its number."""
    return f"{feature.name} {feature.model_dump(exclude={'name'})}"


def slices(features: FeatureSchema, options: AnyModelConfig) -> dict[str, Slices]:
    """Of every weight of `build_model(features, options)`, by its name.

    Of a comparison system, and of an interaction whose norm goes over all tokens (wukong), no part belongs to a feature alone: there the
    key holds all features, and matches only where none has changed.
    """
    with torch.device("meta"):
        model = build_model(features, options)
    if isinstance(model, EmbeddingEnsemble) and isinstance(options, ModelConfig):
        return {
            f"{MEMBERS}{place}.{name}": Slices(f"{MEMBERS}{place}.{found.key}", found.axes, found.owner)
            for place, member in enumerate(model.members)
            for name, found in _of_one(features, options, member).items()
        }
    if isinstance(model, InterFormer) and isinstance(options, ModelConfig):
        return _of_one(features, options, model)
    read = features.model_dump(mode="json", include={"dense", "ids", "bags", "sequences", "candidate"})
    names = [label.name for label in features.labels]
    return {
        name: Slices(f"{name} of {read} for {names}", (None,) * weight.ndim)
        for name, weight in model.named_parameters()
    }


def _of_one(features: FeatureSchema, options: ModelConfig, model: InterFormer) -> dict[str, Slices]:
    found = _InterFormerSlices(features, options, model)
    return {name: found.of(name, weight.ndim) for name, weight in model.named_parameters()}


class _InterFormerSlices:
    """The labels of all axes of one InterFormer."""

    def __init__(self, features: FeatureSchema, options: ModelConfig, model: InterFormer) -> None:
        self._options, self._last_linear = options, len(options.interaction.hidden)
        self._groups = [group.name for group in features.sequences]
        self._lengths = [f"length of {group.name}, at most {group.max_length}" for group in features.sequences]
        self._labels = [label.name for label in features.labels]
        self._merge = options.sequence.merge  # as it is called; of one history all are the same
        self._parts = self._groups if self._merge == "separate" else [EVENTS]
        self._columns = {
            group.name: [f"{column.name} from {column.table}" for column in group.columns]
            for group in features.sequences
        }
        self._dims = table_dims(features, options.embedding_dim)
        groups = field_groups(features, options.embedding_dim)
        self._fields = {dim: [self._field(lookup) for lookup in lookups] for dim, lookups in groups.items()}
        self._dense = [dense_label(feature) for feature in features.dense]
        self._sides = {"": model.side}
        self._x = {"": self._tokens("", model.preprocess)}
        if model.early is not None:
            self._x[""] += [f"pooled {part}" for part in self._parts]
            self._parts_in_layers: list[str] = []
        else:
            self._parts_in_layers = self._parts
        if model.candidate is not None:
            self._sides["candidate."] = model.candidate.side
            self._x["candidate."] = self._tokens("candidate.", model.candidate.preprocess)
        summary = options.summary
        self._summary = [f"X_sum {place}" for place in range(summary.x_tokens)]
        self._s = [label for part in self._parts_in_layers for label in self._s_sum(part)]
        self._read_by_x = self._s if model.flow.x_reads_s else []

    def _field(self, lookup: Lookup) -> str:
        return f"{lookup.key} from {lookup.table}, {self._dims[lookup.table]} wide, {lookup.pooling}"

    def _side_fields(self, side: str, dim: int) -> list[str]:
        return [label for label, mine in zip(self._fields[dim], self._sides[side].fields[dim], strict=True) if mine]

    def _numbers(self, side: str) -> list[str]:
        """The columns of the dense token."""
        mine = [label for label, here in zip(self._dense, self._sides[side].dense, strict=True) if here]
        return mine + (self._lengths if not side and self._options.sequence.lengths else [])

    def _tokens(self, side: str, preprocess: Preprocess) -> list[str]:
        """X^(1), in the order of Preprocess.forward."""
        fields = [label for dim in self._fields for label in self._side_fields(side, dim)]
        return [f"{side}dense"] * (preprocess.dense is not None) + fields

    def _s_sum(self, part: str) -> list[str]:
        """S_sum of one sequence, in the order of SSummary.forward."""
        summary = self._options.summary
        recent_of = self._groups if self._merge == "concat" else [part]
        return [
            *(f"CLS {place} of {part}" for place in range(summary.x_tokens * summary.cls)),
            *(f"PMA {place} of {part}" for place in range(summary.pma_tokens)),
            *(f"recent {place} of {group}" for group in recent_of for place in range(summary.recent_tokens)),
        ]

    def of(self, name: str, ndim: int) -> Slices:
        """A weight's."""
        side = "candidate." if name.startswith("candidate.") else ""
        path = name.removeprefix(side).split(".")
        plain = Slices(name, (None,) * ndim)
        if "interaction" in path:
            return self._interaction(side, path[path.index("interaction") + 1 :], plain)
        match path:
            case ["preprocess", *rest]:
                return self._preprocess(side, name, rest, plain)
            case [*_, "x_summary", "lce", "weight"]:
                return Slices(name, (None, _reads(self._x[side])))
            case ["early", place, *rest]:
                return _owned(plain, f"early.{{}}.{'.'.join(rest)}", self._parts[int(place)])
            case ["cross_archs", layer, ("s_norms" | "s_summaries") as what, place, *rest]:
                return _owned(plain, f"cross_archs.{layer}.{what}.{{}}.{'.'.join(rest)}", self._parts[int(place)])
            case ["layers", layer, "sequence_archs", place, *rest]:
                return _owned(plain, f"layers.{layer}.sequence_archs.{{}}.{'.'.join(rest)}", self._parts[int(place)])
            case ["heads", place, *rest]:
                label = self._labels[int(place)]
                named = _owned(plain, f"heads.{{}}.{'.'.join(rest)}", label)
                return (
                    named
                    if rest[:2] != ["linears", "0"] or ndim < 2
                    else _with(named, 1, _reads(self._read_by_heads()))
                )
        return plain

    def _read_by_heads(self) -> list[str]:
        candidate = [f"candidate's {label}" for label in self._summary] if self._options.split else []
        return self._summary + self._s + candidate

    def _preprocess(self, side: str, name: str, rest: list[str], plain: Slices) -> Slices:
        match rest:
            case ["dense", "0", "weight"]:
                return Slices(name, (None, _reads(self._numbers(side))), "dense token")
            case ["dense", *_]:
                return Slices(name, plain.axes, "dense token")
            case ["fields", width, *last]:
                owner = f"fields {width} wide"
                if last == ["weight"]:
                    return Slices(name, (_makes(self._side_fields(side, int(width))), None, None), owner)
                return Slices(name, plain.axes, owner)
            case ["group_embedding"]:
                return Slices(name, (_makes(self._groups), None), "several histories")
            case ["event_norms", place, *last]:
                owner = EVENTS if self._merge == "union" else self._groups[int(place)]
                return _owned(plain, f"preprocess.event_norms.{{}}.{'.'.join(last)}", owner)
            case ["masknets", place, *last]:
                return self._masknet(int(place), last, plain)
        return plain

    def _masknet(self, place: int, last: list[str], plain: Slices) -> Slices:
        owner = EVENTS if self._merge in ("union", "masknet") else self._groups[place]
        if self._merge == "masknet":
            columns = [f"{group}: {column}" for group in self._groups for column in self._columns[group]]
        else:
            columns = self._columns[self._groups[place]]
        named = _owned(plain, f"preprocess.masknets.{{}}.{'.'.join(last)}", owner)
        if last[0] == "mask":
            named = _with(named, 0, _makes(columns))
        return _with(named, 1, _reads(columns)) if last[1] == "weight" else named

    def _interaction(self, side: str, path: list[str], plain: Slices) -> Slices:
        """`path`: the weight's name inside the layer's interaction."""
        kind, name, parts = self._options.interaction.kind, plain.key, self._options.interaction.parts
        if path[0] == "members":
            kind, path = parts[int(path[1])], path[2:]
        t_out = self._x[side]
        t_in = t_out + (self._x[""] if side else []) + self._read_by_x
        match kind, path:
            case "dhen", ["shortcut", "weight"]:
                return Slices(name, (_makes(t_out), _reads(t_in)))
            case "dhen", ["concat", "weight"]:
                return Slices(name, (_makes(t_out), _reads([f"{n} {t}" for n in range(len(parts)) for t in t_out])))
            case "dcn", ["down", _, "weight"]:
                return Slices(name, (None, _reads(t_in)))
            case "dcn", ["up", _, _]:
                return Slices(name, (_makes(t_in), *plain.axes[1:]))
            case "dcn", ["out", "weight"]:
                return Slices(name, (_makes(t_out), _reads(t_in)))
            case "dot", ["compress", "weight"]:
                return Slices(name, (None, _reads(t_in)))
            case "dot", ["mlp", "linears", place, _]:
                return self._dot(int(place), t_in, t_out, plain)
            case "wukong", _:
                return Slices(f"{name} of {t_in}", plain.axes)
        return plain

    def _dot(self, place: int, t_in: list[str], t_out: list[str], named: Slices) -> Slices:
        if place == self._last_linear:
            named = _with(named, 0, _makes(t_out))
        if place == 0 and len(named.axes) == 2 and len(t_in) <= self._options.interaction.dot_tokens:
            pairs = [" * ".join(sorted((a, b))) for i, a in enumerate(t_in) for b in t_in[i + 1 :]]
            named = _with(named, 1, _reads(pairs))
        return named


def _reads(labels: Sequence[str]) -> Axis:
    return Axis(tuple(labels))


def _makes(labels: Sequence[str]) -> Axis:
    return Axis(tuple(labels), reads=False)


def _owned(plain: Slices, pattern: str, owner: str) -> Slices:
    """A weight whose name counts what `owner` names."""
    return Slices(pattern.format(owner), plain.axes, owner)


def _with(named: Slices, axis: int, labels: Axis) -> Slices:
    axes = [labels if place == axis else one for place, one in enumerate(named.axes)]
    return Slices(named.key, tuple(axes), named.owner)
