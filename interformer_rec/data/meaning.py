"""What columns mean to a model. In: the feature schema and the training files; out: a record that is kept with what was fitted, and the
comparison of every other file with it.

An embedding table that was trained on integers gives a string some row as well (`ids: hash`), only not the row of the same id. So a file
may hold another width of integer or another layout of strings and lists than the training files, but no other kind of value.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from interformer_rec.config.difference import differences
from interformer_rec.config.features import FeatureSchema
from interformer_rec.data.decode.arrays import is_list
from interformer_rec.data.decode.kinds import columns_of, value_kind
from interformer_rec.data.files.source import Source
from interformer_rec.data.files.type_names import type_of, type_text
from interformer_rec.data.files.unify import bare
from interformer_rec.errors import InputError

NO_VALUES = "null"  # a column of Arrow's null type: it contradicts no kind
ONLY_LOSS = {"features.labels.*.weight"}  # keys of the schema that no column's meaning depends on


@dataclass(frozen=True)
class Meaning:
    """What a model was trained on. `features` has columns, transforms, tables and id forms; `types` the Arrow type of every column, the
    widest that any of the training files has."""

    features: FeatureSchema
    types: dict[str, pa.DataType]

    @property
    def kinds(self) -> dict[str, str]:
        """Column -> kind of value; where a column is read as a number and not as an id, every sort of number is one kind."""
        return {column: _kind(type_, column, self.features) for column, type_ in self.types.items()}

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types; a label, weight or group of a type that no feature has is left out."""
        types = {column: type_text(type_) for column, type_ in self.types.items()}
        return {
            "features": self.features.model_dump(mode="json"),
            "types": {column: text for column, text in types.items() if text is not None},
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Meaning:
        """The inverse of `to_dict`. Raises KeyError, TypeError, ValueError or pydantic's ValidationError."""
        types = {column: type_of(text) for column, text in {**values["types"]}.items()}
        return cls(FeatureSchema.model_validate(values["features"]), types)


def meaning_of(source: Source, features: FeatureSchema) -> Meaning:
    """The record of the training files; a label's, weight's or group's column that they lack is left out."""
    return Meaning(features, _types(source, features, labels=True))


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
    for column, type_ in _types(source, features, labels).items():
        kind = _kind(type_, column, features)
        trained = _kind(meaning.types.get(column, type_), column, meaning.features)
        if kind != trained and NO_VALUES not in (kind, trained):
            raise InputError(
                f"column {column!r} of {_file(source, column, kind)!r} holds {kind} values, and the model was trained on {trained} values "
                f"there ({readers(features, column)}): the same thing would not be recognised. Write the column as {trained} values, or "
                "train a new model on such files"
            )


def _types(source: Source, features: FeatureSchema, labels: bool) -> dict[str, pa.DataType]:
    """Column -> its type (of the candidates' columns: of an element); without columns that the loader will miss, where it needs them."""
    found = {}
    for column in columns_of(features, labels):
        with contextlib.suppress(InputError):
            type_ = bare(source.require((column,)).field(column).type)
            found[column] = type_.value_type if column in features.candidate_columns and is_list(type_) else type_
    return found


def _kind(type_: pa.DataType, column: str, features: FeatureSchema) -> str:
    kind = value_kind(type_)
    return kind if is_id(features, column) or kind not in ("integer", "number") else "number"


def is_id(features: FeatureSchema, column: str) -> bool:
    """Whether a column's values are distinguished: of ids, bags, sequences, times and the group."""
    columns = {feature.column for feature in (*features.ids, *features.bags)}
    columns |= {column.column for group in features.sequences for column in group.columns}
    columns |= {group.timestamp for group in features.sequences if group.timestamp}
    return column in columns | {features.group}


def _file(source: Source, column: str, kind: str) -> str:
    """The first file in which the column has this kind; a partition's column is in none."""
    for file, schema in zip(source.files, source.schemas, strict=True):
        if any(value_kind(schema.field(place).type) == kind for place in schema.get_all_field_indices(column)):
            return file
    return source.files[0]


def readers(features: FeatureSchema, column: str) -> str:
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
