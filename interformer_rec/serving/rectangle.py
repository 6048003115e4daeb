"""What a graph reads, and the rectangle on the host. In: a schema, jagged events; out: named inputs in order, places in (B, T).

A graph holds the dense part of a model alone: table rows are looked up before it, and the union of histories is made before it, so
its inputs are vectors, dense columns and counts. Legend: B rows, m dense columns, F fields of width w, G groups, T places, E events.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from interformer_rec.config.baselines import AnyModelConfig
from interformer_rec.config.features import FeatureSchema, Lookup, SequenceGroup
from interformer_rec.config.model import ModelConfig
from interformer_rec.model.embedding.embedded import field_groups, table_dims

FEWEST_PLACES = 2  # a graph is traced with more than one, so that it does not take one for a special case
SPARSE = 64  # times as many possible ids as events: from there on sorting ids costs less than a mark for each of them


@dataclass(frozen=True)
class Reads:
    """The inputs of one graph: `dense` (B, m), `fields_W` (B, F, W), `events_g` (B, T_g, columns * w), `counts` (B, G).

    Of a union the events are one input `events_0`, its `marks` (B, T, G) say which histories an event stands in, and `counts` has the
    union's number of events last.
    """

    dense: tuple[str, ...]
    fields: dict[int, tuple[Lookup, ...]]  # width -> fields, in the order of embedded.field_groups; none empty
    groups: tuple[SequenceGroup, ...]
    event_widths: tuple[int, ...]  # floats of an event of each `events_g`
    union: bool
    together: bool = False  # every group needs as many places as the others (merge: masknet)
    fixed: bool = False  # every group has its max_length of places: a step of the graph for each of them (recurrence)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the inputs, in order."""
        events = [f"events_{g}" for g in range(1 if self.union else len(self.groups))]
        return (
            *(["dense"] if self.dense else []),
            *(f"fields_{width}" for width in self.fields),
            *events,
            *(["counts"] if self.groups else []),
            *(["marks"] if self.union else []),
        )

    @property
    def longest(self) -> tuple[int, ...]:
        """Events of each `events_g`, at most."""
        lengths = [group.max_length for group in self.groups]
        return (sum(lengths),) if self.union else tuple(lengths)

    def places(self, counts_BG: np.ndarray) -> list[int]:
        """T of each group, for histories of these lengths."""
        if self.fixed:
            return [max(FEWEST_PLACES, longest) for longest in self.longest]
        if self.together:
            return [places_of(counts_BG)] * len(self.groups)
        return [places_of(counts) for counts in counts_BG.T]


def is_split(model: AnyModelConfig) -> bool:
    """Whether one user's work serves all candidates of a request (model.split)."""
    return isinstance(model, ModelConfig) and model.split


def reads_of(features: FeatureSchema, model: AnyModelConfig) -> tuple[Reads, ...]:
    """Of the user's graph and the candidate's, where the model is split; else of its one graph."""
    members = model.ensemble_members
    groups = field_groups(features, model.embedding_dim, members)
    merge = model.sequence.merge if isinstance(model, ModelConfig) and len(features.sequences) > 1 else "separate"

    dims = table_dims(features, model.embedding_dim, members)
    widths = tuple(sum(dims[column.table] for column in group.columns) for group in features.sequences)

    shown = set(features.candidate) if is_split(model) else set()

    def side(sequences: tuple[SequenceGroup, ...], of_candidate: bool) -> Reads:
        dense = tuple(feature.name for feature in features.dense if (feature.name in shown) == of_candidate)
        fields = {
            width: tuple(f for f in fields if (f.key in shown) == of_candidate) for width, fields in groups.items()
        }
        kept = {width: lookups for width, lookups in fields.items() if lookups}
        union = merge == "union" and bool(sequences)
        read = widths[: 1 if union else len(sequences)]
        return Reads(dense, kept, sequences, read, union, merge == "masknet", model.kind == "dien")

    whole = side(features.sequences, False)
    return (whole, side((), True)) if is_split(model) else (whole,)


def places_of(lengths: np.ndarray) -> int:
    """T for a batch of histories of these lengths."""
    return max(FEWEST_PLACES, int(lengths.max(initial=0)))


def slots(lengths: np.ndarray, places: int) -> np.ndarray:
    """(E,) places of the events among B * T: each sample's at the new end."""
    shift = np.arange(1, len(lengths) + 1) * places - np.cumsum(lengths)
    return np.arange(int(lengths.sum())) + np.repeat(shift, lengths)


def padded(values: np.ndarray, lengths: np.ndarray, places: int) -> np.ndarray:
    """(E, w) -> (B, T, w), zeros where no event is."""
    if len(values) == len(lengths) * places:
        return values.reshape(len(lengths), places, *values.shape[1:])
    out = np.zeros((len(lengths) * places, *values.shape[1:]), values.dtype)
    out[slots(lengths, places)] = values
    return out.reshape(len(lengths), places, *values.shape[1:])


def union(groups: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What ops/glue.py's `union` gives, without torch: (ids (E_g,), lengths (N,)) a group -> rows (E,), lengths (N,), marks (E, G).

    `rows` are places among the groups' events, one group after another. A sample's events are those of the last group first; an event
    that stands in an earlier group too is kept there.
    """
    samples, last_first = len(groups[0][1]), range(len(groups) - 1, -1, -1)
    starts = np.cumsum([0, *(len(ids) for ids, _ in groups)])
    places = np.concatenate([np.arange(starts[g], starts[g + 1]) for g in last_first])
    group = np.array(last_first).repeat([len(groups[g][0]) for g in last_first])
    codes = np.concatenate([groups[g][0] for g in last_first])
    possible = 1 + int(codes.max(initial=0))
    owners = np.zeros(0, np.int64)
    if samples != 1:
        owners = np.concatenate([np.arange(samples).repeat(groups[g][1]) for g in last_first])
        codes, possible = owners * possible + codes, samples * possible
    if possible > SPARSE * len(codes):
        distinct, codes = np.unique(codes, return_inverse=True)
        possible = len(distinct)
    earliest = np.empty(possible, np.int64)
    earliest[codes] = group  # the last one counts, which is of the first group
    kept = np.flatnonzero(earliest[codes] == group)
    stands = np.zeros((possible, len(groups)), bool)
    stands[codes, group] = True
    lengths = np.array([len(kept)])
    if samples != 1:
        lengths = np.bincount(owners[kept], minlength=samples)
        kept = kept[owners[kept].argsort(kind="stable")]
    return places[kept], lengths, stands[codes[kept]]
