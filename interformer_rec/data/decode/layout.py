"""Which decoded columns make which keys of a Batch. In: the feature schema; out: the order that decode fills and collate reads."""

from __future__ import annotations

from typing import NamedTuple

from interformer_rec.config.features import BagFeature, FeatureSchema, IdFeature, Lookup, SequenceGroup


class Singles(NamedTuple):
    """Neighbouring keys with exactly one id a row: rows start .. stop-1 of Columns.singles."""

    start: int
    stop: int


class Events(NamedTuple):
    """A key with a list of ids a row: column `column` of Columns.jagged[group]."""

    group: int
    column: int


class Layout:
    """Decoded columns in the order of `FeatureSchema.pooled_lookups` and `jagged_lookups`."""

    def __init__(self, features: FeatureSchema) -> None:
        ids = {feature.name: feature for feature in features.ids}
        keys = [lookup.key for lookup in (*features.pooled_lookups, *features.jagged_lookups)]
        self.singles: list[IdFeature] = [ids[key] for key in keys if key in ids and ids[key].null == "row"]
        self.jagged: list[SequenceGroup | BagFeature | IdFeature] = [
            *features.sequences,
            *features.bags,
            *(feature for feature in features.ids if feature.null == "empty"),
        ]
        self._events = {
            f"{group.name}.{column.name}": Events(g, c)
            for g, group in enumerate(features.sequences)
            for c, column in enumerate(group.columns)
        }
        self._events |= {f.name: Events(g, 0) for g, f in enumerate(self.jagged) if not isinstance(f, SequenceGroup)}
        self.sparse = self._order(features.pooled_lookups)
        self.sequences = self._order(features.jagged_lookups)
        self.sparse_keys = [lookup.key for lookup in features.pooled_lookups]
        self.sequence_keys = [lookup.key for lookup in features.jagged_lookups]

    def _order(self, lookups: tuple[Lookup, ...]) -> list[Singles | Events]:
        place = {feature.name: i for i, feature in enumerate(self.singles)}
        order: list[Singles | Events] = []
        for lookup in lookups:
            if lookup.key not in place:
                order.append(self._events[lookup.key])
            elif order and isinstance(order[-1], Singles):
                order[-1] = Singles(order[-1].start, place[lookup.key] + 1)
            else:
                order.append(Singles(place[lookup.key], place[lookup.key] + 1))
        return order
