"""Inputs changed across rows. In: the decoded columns of all rows; out: the same with something permuted or taken out; nothing in place.

A feature is its column of the decoded rows, so one that shares its table with another is permuted by itself. The columns of a group, and
those of a history, move together. Only what is changed is copied.

    events of a row, oldest first    e4 e3 e2 e1          age: 1 is the newest
    in an age 2-4 of all rows        an event changes places with another row's of the same age; its columns stay together
"""

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from interformer_rec.config.features import FeatureSchema, SequenceGroup
from interformer_rec.data.decode.columns import Columns
from interformer_rec.data.decode.jagged import Jagged
from interformer_rec.data.decode.layout import Layout


class Changes:
    """Of the rows of one schema."""

    def __init__(self, features: FeatureSchema) -> None:
        layout = Layout(features)
        self._dense = {feature.name: place for place, feature in enumerate(features.dense)}
        self._singles = {feature.name: place for place, feature in enumerate(layout.singles)}
        self._jagged = {feature.name: place for place, feature in enumerate(layout.jagged)}
        self._columns = {group.name: [column.name for column in group.columns] for group in features.sequences}

    def permuted(self, names: Collection[str], columns: Columns, random: np.random.Generator) -> Columns:
        """Every row gets these features and histories of another row, all of them of the same one."""
        order = random.permutation(len(columns.weights))
        dense, singles, jagged = columns.dense, columns.singles, list(columns.jagged)
        if places := [self._dense[name] for name in names if name in self._dense]:
            dense = dense.copy()
            dense[:, places] = columns.dense[order[:, None], places]
        if places := [self._singles[name] for name in names if name in self._singles]:
            singles = singles.copy()
            singles[:, places] = columns.singles[order[:, None], places]
        for place in (self._jagged[name] for name in names if name in self._jagged):
            jagged[place] = jagged[place].take(order)
        return replace(columns, dense=dense, singles=singles, jagged=jagged)

    def field_permuted(self, history: str, column: str, columns: Columns, random: np.random.Generator) -> Columns:
        """Every event of a history gets this column of another event, of any row and age."""
        old = columns.jagged[self._jagged[history]]
        place, events = self._columns[history].index(column), old.events.copy()
        events[:, place] = old.events[random.permutation(len(events)), place]
        return self._with(columns, history, replace(old, events=events))

    def ages_permuted(
        self, history: str, ages: tuple[int, int], columns: Columns, random: np.random.Generator
    ) -> Columns:
        """Every event of these ages (first and last) gets all columns of another row's event of its age; times stay where they are."""
        old = columns.jagged[self._jagged[history]]
        age = ages_of(old)
        chosen = np.flatnonzero((age >= ages[0]) & (age <= ages[1]))
        targets = chosen[np.argsort(age[chosen], kind="stable")]
        sources = chosen[np.lexsort((random.random(len(chosen)), age[chosen]))]
        events = old.events.copy()
        events[targets] = old.events[sources]
        return self._with(columns, history, replace(old, events=events))

    def ages_removed(self, history: str, ages: tuple[int, int], columns: Columns) -> Columns:
        """The history without its events of these ages: older ones move up."""
        old = columns.jagged[self._jagged[history]]
        age = ages_of(old)
        stay = (age < ages[0]) | (age > ages[1])
        lengths = np.where(
            old.lengths > ages[1], old.lengths - (ages[1] - ages[0] + 1), np.minimum(old.lengths, ages[0] - 1)
        )
        times = None if old.timestamps is None else old.timestamps[stay]
        return self._with(columns, history, Jagged(lengths, old.events[stay], times))

    def of(self, columns: Columns, history: SequenceGroup) -> Jagged:
        """The events of a history."""
        return columns.jagged[self._jagged[history.name]]

    def _with(self, columns: Columns, history: str, events: Jagged) -> Columns:
        jagged = list(columns.jagged)
        jagged[self._jagged[history]] = events
        return replace(columns, jagged=jagged)


def ages_of(history: Jagged) -> np.ndarray:
    """(events,) 1 for the newest event of a row, 2 for the one before it, ..."""
    return np.repeat(history.offsets[1:], history.lengths) - np.arange(len(history.events))
