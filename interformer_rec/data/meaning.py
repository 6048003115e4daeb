"""What columns mean to a model. In: the feature schema and the training files; out: a record that is kept with what was fitted, and the
comparison of every other file with it.

An embedding table that was trained on integers gives a string some row as well (`ids: hash`), only not the row of the same id. So a file
may hold another width of integer or another layout of strings and lists than the training files, but no other kind of value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from interformer_rec.config.difference import differences
from interformer_rec.config.features import FeatureSchema
from interformer_rec.data.decode.kinds import columns_of, value_kind
from interformer_rec.data.files.source import Source
from interformer_rec.errors import InputError

NO_VALUES = "null"  # a column of Arrow's null type: it contradicts no kind
ONLY_LOSS = {"features.labels.*.weight"}  # keys of the schema that no column's meaning depends on


@dataclass(frozen=True)
class Meaning:
    """What a model was trained on. `features` has columns, transforms, tables and id forms; `kinds` the kind of value of every column."""

    features: FeatureSchema
    kinds: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {"features": self.features.model_dump(mode="json"), "kinds": self.kinds}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Meaning:
        """The inverse of `to_dict`. Raises KeyError, TypeError or pydantic's ValidationError."""
        kinds = {column: str(kind) for column, kind in {**values["kinds"]}.items()}
        return cls(FeatureSchema.model_validate(values["features"]), kinds)


def meaning_of(source: Source, features: FeatureSchema) -> Meaning:
    """The record of the training files; a label's, weight's or group's column that they lack is left out."""
    return Meaning(features, _kinds(source, features, labels=True))


def require_meaning(meaning: Meaning, source: Source, features: FeatureSchema, labels: bool) -> None:
    """Raises InputError where `source`, read as `features`, means something else than what the model was trained on.

    It names the column, the file and both kinds of value, or the key of the schema and both values.
    """
    changed = [c for c in differences(meaning.features, features, "features") if c.pattern not in ONLY_LOSS]
    if changed:
        raise InputError(
            f"the model was fitted on other features than it is to read now: {'; '.join(map(str, changed))}. Restore these keys, or "
            "train a new model"
        )
    for column, kind in _kinds(source, features, labels).items():
        trained = meaning.kinds.get(column, kind)
        if kind != trained and NO_VALUES not in (kind, trained):
            raise InputError(
                f"column {column!r} of {_file(source, column, kind)!r} holds {kind} values, and the model was trained on {trained} values "
                f"there ({_readers(features, column)}): the same thing would not be recognised. Write the column as {trained} values, or "
                "train a new model on such files"
            )


def _kinds(source: Source, features: FeatureSchema, labels: bool) -> dict[str, str]:
    """Column -> kind of value; where a column is read as a number and not as an id, every sort of number is one kind."""
    found = {}
    for column in columns_of(features, labels):
        try:
            kind = value_kind(source.require((column,)).field(column).type)
        except InputError:  # the loader says so, where it needs the column
            continue
        numeric = kind in ("integer", "number")
        found[column] = "number" if numeric and column not in _id_columns(features) else kind
    return found


def _id_columns(features: FeatureSchema) -> set[str]:
    """Columns whose values are distinguished: of ids, bags, sequences, times and the group."""
    columns = {feature.column for feature in (*features.ids, *features.bags)}
    columns |= {column.column for group in features.sequences for column in group.columns}
    columns |= {group.timestamp for group in features.sequences if group.timestamp}
    return columns | ({features.group} if features.group else set())


def _file(source: Source, column: str, kind: str) -> str:
    """The first file in which the column has this kind; a partition's column is in none."""
    for file, schema in zip(source.files, source.schemas, strict=True):
        if any(value_kind(schema.field(place).type) == kind for place in schema.get_all_field_indices(column)):
            return file
    return source.files[0]


def _readers(features: FeatureSchema, column: str) -> str:
    """What reads a column, for messages."""
    single = (*features.ids, *features.bags)
    found = [f"dense feature {feature.name!r}" for feature in features.dense if feature.column == column]
    found += [f"feature {f.name!r}, table {f.table!r}" for f in single if f.column == column]
    for group in features.sequences:
        found += [f"sequence '{group.name}.{c.name}', table {c.table!r}" for c in group.columns if c.column == column]
        found += [f"timestamp of sequence {group.name!r}"] if group.timestamp == column else []
    found += [f"label {label.name!r}" for label in features.labels if label.column == column]
    found += [what for what, of in (("weight", features.weight), ("group", features.group)) if of == column]
    return "; ".join(found)
