"""Feature schema: which columns of the user's files are which features, and which embedding tables they read.

In: the `features:` part of a run's YAML. Out: frozen, cross-checked objects that the data path (columns -> Batch) and the
model (Batch -> logits) both read, so that neither has to know the other. No torch here.

Rows of a table (`Table`): row 0 is the *missing* row (null ids); a `vocab` table has row 1 for ids it does not know; real
ids follow. So "null" never looks like an id, and a vocabulary can grow without moving a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Literal, NamedTuple

from pydantic import Field, model_validator

from interformer_rec.config.errors import nearest
from interformer_rec.config.growth import MOST_IDS, Growth
from interformer_rec.config.request import Request, candidate_columns, check_request, with_candidates
from interformer_rec.config.strict import Count, Name, Strict, Width
from interformer_rec.config.text import with_names
from interformer_rec.errors import InputError

MISSING_ROW = 0
UNKNOWN_ROW = 1  # vocab tables only
NULL_GROUP = -(2**63)  # key of rows whose group column is null: they are of no group


class Table(Strict):
    """One embedding table and the map from raw ids (int64 or string) to its rows.

    `hash`: 64-bit hash of the id modulo `num_embeddings`; the same on every machine and version.
    `vocab`: ids seen in the training files at least `min_count` times; `num_embeddings` caps it to the most frequent ones. With `grow`
    ids come and go as training proceeds, and the table has `grow.rows` rows for them throughout.
    `identity`: ids are 0 .. `num_embeddings` - 1 already; others are an error that names the row.
    """

    ids: Literal["hash", "vocab", "identity"] = Field(
        "vocab", description="how ids become rows: by a hash, by the ids of the training files, or as they are"
    )
    num_embeddings: int | None = Field(
        None, ge=1, le=MOST_IDS, description="ids the table holds, special rows not counted"
    )
    embedding_dim: Width | None = Field(None, description="floats a row; default: model.embedding_dim")
    min_count: Count = Field(1, description="vocab only: rarer ids share the unknown row")
    grow: Growth | None = Field(None, description="vocab only: ids come and go; null: those of the start stay")

    @property
    def special_rows(self) -> int:
        """Rows before the first real id."""
        return 2 if self.ids == "vocab" else 1

    @model_validator(mode="after")
    def _check(self) -> Table:
        if self.ids != "vocab" and self.num_embeddings is None:
            raise ValueError(f"ids: {self.ids} needs num_embeddings (how many ids the table holds)")
        if self.ids != "vocab" and self.min_count != 1:
            raise ValueError(f"min_count is for ids: vocab only, not for ids: {self.ids}")
        if self.grow is not None and self.ids != "vocab":
            raise ValueError(f"grow is for ids: vocab only, not for ids: {self.ids}")
        if self.grow is not None and (self.num_embeddings is not None or self.min_count != 1):
            raise ValueError(
                "a table with grow has its size and its least count there: write grow.rows instead of num_embeddings, and "
                "grow.min_count instead of min_count"
            )
        return self


class Feature(Strict):
    """A named input and the column it comes from (default: the column of that name)."""

    name: Name = Field(description="its name in the model, in plans and messages")
    column: Name = Field("", description="column of the files; empty: as the name")


class LookupFeature(Feature):
    """A feature that reads an embedding table (default: the table of that name)."""

    table: Name = Field("", description="table that it reads; empty: as the name")


class DenseFeature(Feature):
    """A number per row. Order of the steps: fill nulls, clip, log1p (sign(x) * log(1 + |x|)), standardise."""

    fill: float | None = Field(
        None, description="value for nulls, in the column's unit; without it a null is a bad row"
    )
    clip: tuple[float, float] | None = Field(None, description="[low, high]: values beyond are set to these")
    log1p: bool = Field(False, description="replace x by sign(x) * log(1 + |x|)")
    standardise: bool = Field(
        False, description="subtract the mean, divide by the deviation, both over the training files"
    )

    @model_validator(mode="after")
    def _check(self) -> DenseFeature:
        if self.clip is not None and not self.clip[0] < self.clip[1]:
            raise ValueError(
                f"clip of dense feature {self.name!r} is {list(self.clip)}; it must be [low, high], low < high"
            )
        return self


class IdFeature(LookupFeature):
    """One id per row. A null reads the missing row (`null: row`) or gives a zero vector (`null: empty`)."""

    null: Literal["row", "empty"] = Field("row", description="a null: the missing row, or a zero vector")


class BagFeature(LookupFeature):
    """A list of ids per row, pooled to one vector. A null list is an empty bag (zero vector) or reads the missing row."""

    pooling: Literal["sum", "mean"] = Field("mean", description="how the vectors of the list become one")
    null: Literal["row", "empty"] = Field("empty", description="a null list: a zero vector, or the missing row")


class SequenceColumn(LookupFeature):
    """One id column of a sequence group: list<int> or list<string>, a list as long as the group's other columns."""


class SequenceGroup(Strict):
    """Aligned list columns, one element an event, oldest first. The newest `max_length` events are kept.

    A null list is an empty history; a null element reads the table's missing row. `timestamp` names an aligned list column of
    integers or timestamps (which become microseconds); its values must not decrease, and they travel in the batch.
    """

    name: Name = Field(description="name of the history")
    columns: tuple[SequenceColumn, ...] = Field(min_length=1)
    max_length: Count = Field(description="newest events that are kept")
    timestamp: Name | None = Field(None, description="list column of the events' times, not decreasing")


class Label(Feature):
    """A target in [0, 1] per row: click, like, ... `weight` is the task's weight in the loss."""

    weight: float = Field(1.0, gt=0, le=1e9, description="of this label in the loss")


class Lookup(NamedTuple):
    """One feature as the embedding collections see it."""

    key: str  # the key in the KeyedJaggedTensor: `name`, or `group.name` for a sequence's column
    table: str
    pooling: Literal["sum", "mean"] | None  # None: one vector per event


class FeatureSchema(Strict):
    """Everything the model reads and is trained on."""

    tables: dict[Name, Table]
    dense: tuple[DenseFeature, ...] = ()
    ids: tuple[IdFeature, ...] = ()
    bags: tuple[BagFeature, ...] = ()
    sequences: tuple[SequenceGroup, ...] = ()
    labels: tuple[Label, ...] = Field(min_length=1)
    weight: Name | None = Field(None, description="column with a weight >= 0 per row")
    group: Name | None = Field(None, description="column whose value groups rows for GAUC, usually the user's id")
    candidate: tuple[Name, ...] = Field(
        (),
        description="names of the dense, ids and bags features of the item shown; the others, and all histories, are the user's or the "
        "request's (model.split)",
    )
    request: Request | None = Field(
        None, description="a row is a request with lists of candidates; null: a row is one candidate's"
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_names(cls, value: object) -> object:
        return with_candidates(with_names(value))

    @model_validator(mode="after")
    def _check(self) -> FeatureSchema:
        self._check_names()
        used = {lookup.table for lookup in (*self.pooled_lookups, *self.jagged_lookups)}
        for lookup in (*self.pooled_lookups, *self.jagged_lookups):
            if lookup.table not in self.tables:
                raise ValueError(
                    f"feature {lookup.key!r} reads table {lookup.table!r}, which is not under features.tables "
                    f"(there: {', '.join(self.tables) or 'none'})"
                )
        for name in self.tables:
            if "." in name or not name:
                raise ValueError(f"table name {name!r} must not be empty or contain a dot")
            if name not in used:
                raise ValueError(
                    f"table {name!r} is not read by any feature; remove it, or name it in a feature's `table`"
                )
        for table in self.tables:
            poolings = {bag.pooling for bag in self.bags if bag.table == table}
            if len(poolings) > 1 and table not in self.sequence_tables:
                raise ValueError(
                    f"bags of table {table!r} use both sum and mean; an EmbeddingBagCollection pools a table in one way"
                )
        if not (self.dense or used):
            raise ValueError("features has no dense, ids, bags or sequences: the model would have no input")
        return self

    def _check_names(self) -> None:
        keys = [feature for _, feature in self._input_columns()]
        keys += [group.name for group in self.sequences]
        for what, names in (("feature", keys), ("label", [label.name for label in self.labels])):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(
                    f"{what} name {twice[0]!r} is used more than once; names must differ (set `column` for the source)"
                )
        known = [feature.name for feature in (*self.dense, *self.ids, *self.bags)]
        for name in self.candidate:
            if name in (group.name for group in self.sequences):
                raise ValueError(f"candidate names {name!r}, a history; all histories are the user's: remove it")
            if name not in known:
                raise ValueError(
                    f"candidate names {name!r}, which is not a feature under dense, ids or bags{nearest(name, known)}"
                )
        check_request(self)
        targets = {label.column for label in self.labels}
        for key, named in (("weight", self.weight), ("group", self.group)):
            if named in targets:
                raise ValueError(
                    f"column {named!r} is a label and {key}: rows would count, or be grouped, by what the model is to find out. Name "
                    f"another column under features.{key}, or leave it out"
                )
        for column, feature in self._input_columns():
            if column in targets:
                raise ValueError(
                    f"column {column!r} is a label and the input of feature {feature!r}: the label would leak"
                )

    @cached_property
    def candidate_columns(self) -> frozenset[str]:
        """With `request`: source columns that hold lists of candidates, labels and weight among them; else none."""
        return candidate_columns(self) if self.request is not None else frozenset()

    def _input_columns(self) -> Iterator[tuple[str, str]]:
        features: tuple[Feature, ...] = (*self.dense, *self.ids, *self.bags)
        for feature in features:
            yield feature.column, feature.name
        for group in self.sequences:
            for column in group.columns:
                yield column.column, f"{group.name}.{column.name}"

    def check_split(self) -> None:
        """Raises InputError unless the user and the candidate have a feature each beside the histories (model.split)."""
        if not self.candidate:
            raise InputError(
                "model.split divides the user's features from the candidate's: list the names of the candidate's (the item shown) "
                "under features.candidate, or set model.split: false"
            )
        if {feature.name for feature in (*self.dense, *self.ids, *self.bags)} <= set(self.candidate):
            raise InputError(
                "features.candidate names every feature under dense, ids and bags: model.split needs at least one of the user or the "
                "context. Remove those from it, or set model.split: false"
            )

    def check_union(self) -> None:
        """Raises InputError unless all histories read the same tables, column by column (model.sequence.merge: union)."""
        first, *others = self.sequences
        for group in others:
            if [column.table for column in group.columns] != [column.table for column in first.columns]:
                raise InputError(
                    f"model.sequence.merge: union lets an event stand in several histories, so {group.name!r} and {first.name!r} must "
                    "have columns of the same tables, in the same order, the first one telling events apart. Change "
                    "features.sequences, or use merge: concat"
                )

    def columns(self, labels: bool = True) -> tuple[str, ...]:
        """Source columns to read, each once, in order; without label and weight columns for prediction."""
        wanted = [column for column, _ in self._input_columns()]
        wanted += [group.timestamp for group in self.sequences if group.timestamp]
        if labels:
            wanted += [label.column for label in self.labels]
            wanted += [self.weight] if self.weight else []
        wanted += [self.group] if self.group else []
        return tuple(dict.fromkeys(wanted))

    @cached_property
    def sequence_tables(self) -> frozenset[str]:
        """Tables that a history reads: they live in the EmbeddingCollection, with every feature that shares them."""
        return frozenset(c.table for g in self.sequences for c in g.columns)

    @cached_property
    def pooled_lookups(self) -> tuple[Lookup, ...]:
        """Keys of `Batch.sparse`, in order: ids and bags whose tables no history reads (EmbeddingBagCollection)."""
        return tuple(lookup for lookup in self._single_lookups() if lookup.table not in self.sequence_tables)

    @cached_property
    def jagged_lookups(self) -> tuple[Lookup, ...]:
        """Keys of `Batch.sequences`, in order: every history column, then the ids and bags that share a history's table."""
        events = [
            Lookup(key=f"{g.name}.{c.name}", table=c.table, pooling=None) for g in self.sequences for c in g.columns
        ]
        return (*events, *(lookup for lookup in self._single_lookups() if lookup.table in self.sequence_tables))

    def _single_lookups(self) -> Iterator[Lookup]:
        for feature in self.ids:
            yield Lookup(key=feature.name, table=feature.table, pooling="sum")
        for bag in self.bags:
            yield Lookup(key=bag.name, table=bag.table, pooling=bag.pooling)
