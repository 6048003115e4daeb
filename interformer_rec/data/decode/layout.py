"""Which decoded columns make which keys of a Batch. In: the feature schema; out: the order that decode fills and collate reads."""

from typing import NamedTuple

import numpy as np

from interformer_rec.config.features import BagFeature, FeatureSchema, IdFeature, Lookup, SequenceGroup
from interformer_rec.config.request import sides


class Singles(NamedTuple):
    """Neighbouring keys with exactly one id a row: rows start .. stop-1 of Columns.singles."""

    start: int
    stop: int


class IdLists(NamedTuple):
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
            f"{group.name}.{column.name}": IdLists(g, c)
            for g, group in enumerate(features.sequences)
            for c, column in enumerate(group.columns)
        }
        self._events |= {f.name: IdLists(g, 0) for g, f in enumerate(self.jagged) if not isinstance(f, SequenceGroup)}
        self._singles = {feature.name: i for i, feature in enumerate(self.singles)}
        self.sparse = self._order(features.pooled_lookups)
        self.sequences = self._order(features.jagged_lookups)
        self.sparse_keys = [lookup.key for lookup in features.pooled_lookups]
        self.sequence_keys = [lookup.key for lookup in features.jagged_lookups]

    def item(self, key: str) -> Singles | IdLists:
        """Where a key's ids are."""
        place = self._singles.get(key)
        return self._events[key] if place is None else Singles(place, place + 1)

    def _order(self, lookups: tuple[Lookup, ...]) -> list[Singles | IdLists]:
        """The keys' items; neighbouring keys with one id a row are one item."""
        order: list[Singles | IdLists] = []
        for item in (self.item(lookup.key) for lookup in lookups):
            if isinstance(item, Singles) and order and isinstance(order[-1], Singles):
                order[-1] = Singles(order[-1].start, item.stop)
            else:
                order.append(item)
        return order


Place = tuple[bool, Singles | IdLists]  # whether a key is the candidates', and where its ids are


class RequestLayout:
    """Layout's counterpart: the keys of the whole schema, and of each the side and the place of its ids."""

    def __init__(self, features: FeatureSchema) -> None:
        self._layouts = [Layout(side) for side in sides(features)]
        self._shown = set(features.candidate)
        self.sparse_keys = [lookup.key for lookup in features.pooled_lookups]
        self.sequence_keys = [lookup.key for lookup in features.jagged_lookups]
        shown = np.array([feature.name in self._shown for feature in features.dense], bool)
        self.dense = (np.flatnonzero(~shown), np.flatnonzero(shown))  # columns of the requests, of the candidates

    def place(self, key: str) -> Place:
        """A key's side and place."""
        shown = key in self._shown
        return shown, self._layouts[shown].item(key)
