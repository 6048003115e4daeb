"""What an exported model takes and gives, so that a client or a server need not know how it was trained. In: a schema and the types of its
training files; out: signature.json, and the same read strictly.

An input is a column of the training files. Its `type` is Arrow's; in JSON integers are ids that are integers, numbers are dense features,
text is text, dates and times are ISO 8601, and lists are lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import pyarrow as pa
from pydantic import Field, ValidationError, field_validator, model_validator

from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.strict import Name, Strict
from interformer_rec.data.decode.kinds import columns_of
from interformer_rec.data.files.type_names import type_of, type_text
from interformer_rec.data.meaning import Meaning, readers
from interformer_rec.errors import DamagedError
from interformer_rec.files import conform, first_problem, json_object
from interformer_rec.serving.request import Side

FORMAT: Final = 1
OnUnknown = Literal["refused", "ignored"]
OnAbsent = Literal["refused", "null"]
KeyRules = tuple[OnAbsent, OnUnknown]  # what it means that a request lacks a key, or has one that no input has


class Input(Strict):
    """One key of a request's object."""

    name: Name = Field(description="key in a request: the column of the training files")
    part: Literal["user", "candidate", "either"] = Field(
        description="whose it is when one user's candidates are ranked; either: the request gives it once or for each candidate"
    )
    type: str = Field(description="Arrow's type, the widest of the training files")
    nullable: bool = Field(description="whether null is a value; lists: a null list")
    nullable_elements: bool = Field(description="whether null may stand in a list")
    absent: OnAbsent = Field(description="what a request without this key means")
    reads: str = Field(description="what reads it, for people")

    @field_validator("type")
    @classmethod
    def _check_type(cls, text: str) -> str:
        type_of(text)
        return text


class Output(Strict):
    """One number for each candidate or row."""

    name: Name = Field(description="the label that it predicts")
    type: Literal["float"] = Field("float", description="a probability")


class Signature(Strict):
    """signature.json."""

    format: Literal[1]
    unknown: OnUnknown = Field(description="what a key means that no input has")
    inputs: tuple[Input, ...] = Field(min_length=1)
    outputs: tuple[Output, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Signature:
        for what, names in (
            ("input", [one.name for one in self.inputs]),
            ("output", [one.name for one in self.outputs]),
        ):
            if len(set(names)) < len(names):
                raise ValueError(f"an {what}'s name is there twice")
        return self

    def to_json(self) -> str:
        """Text of signature.json."""
        return self.model_dump_json(indent=2) + "\n"

    @classmethod
    def from_json(cls, content: bytes, source: str) -> Signature:
        """The inverse of `to_json`. Raises DamagedError with `source`, the file's name."""
        found = json_object(content, source)
        if found.get("format") != FORMAT:
            raise DamagedError(
                f"{source} was written in format {found.get('format')!r:.80}; this release reads format {FORMAT}"
            )
        return conform(found, cls, source)

    @property
    def types(self) -> dict[str, pa.DataType]:
        """Arrow's type of every input."""
        return {one.name: type_of(one.type) for one in self.inputs}

    def check(self, features: FeatureSchema) -> None:
        """Raises DamagedError unless these are the inputs and outputs of the schema, each in its part."""
        ours = {one.name: one.part for one in self.inputs}, tuple(one.name for one in self.outputs)
        theirs = _parts(features), tuple(label.name for label in features.labels)
        if ours != theirs:
            raise DamagedError(
                "the signature and the features of an exported model do not belong together: inputs "
                f"{_names(ours[0], theirs[0])}; outputs {_names(ours[1], theirs[1])}. Export the model again"
            )


def signature_of(meaning: Meaning, absent: OnAbsent = "refused", unknown: OnUnknown = "refused") -> Signature:
    """The signature of a model of this meaning. An absent key is refused in any case where null is no value.

    Raises DamagedError where the record lacks a column's type.
    """
    features = meaning.features
    parts = _parts(features)
    types = {column: text for column, type_ in meaning.types.items() if (text := type_text(type_)) is not None}
    lacking = [column for column in parts if column not in types]
    if lacking:
        raise DamagedError(f"fitted.json has no type of column {lacking[0]!r}, which the model reads: fit it again")
    times = {group.timestamp for group in features.sequences}
    unfilled = {feature.column for feature in features.dense if feature.fill is None}
    lists = {feature.column for feature in features.bags} | times
    lists |= {column.column for group in features.sequences for column in group.columns}
    try:
        return Signature(
            format=FORMAT,
            unknown=unknown,
            inputs=tuple(
                Input(
                    name=column,
                    part=part,
                    type=types[column],
                    nullable=column not in unfilled,
                    nullable_elements=column in lists - times,
                    absent=absent if column not in unfilled else "refused",
                    reads=readers(features, column),
                )
                for column, part in parts.items()
            ),
            outputs=tuple(Output(name=label.name) for label in features.labels),
        )
    except ValidationError as error:
        raise DamagedError(f"fitted.json cannot be read: {first_problem(error)}") from None


def columns_by_side(features: FeatureSchema) -> tuple[dict[str, None], dict[str, None]]:
    """The columns that the user's side reads and those that the candidate's reads, in order; one may be both."""
    user, candidate = ({*side.dense, *side.ids, *side.bags} for side in Side.both(features))
    single = [(feature.name, feature.column) for feature in (*features.dense, *features.ids, *features.bags)]
    users = dict.fromkeys(column for name, column in single if name in user)
    for group in features.sequences:
        users |= dict.fromkeys(column.column for column in group.columns)
        users |= {group.timestamp: None} if group.timestamp else {}
    return users, dict.fromkeys(column for name, column in single if name in candidate)


def _parts(features: FeatureSchema) -> dict[str, Literal["user", "candidate", "either"]]:
    """Column -> whose it is. One that both sides read is the user's: a candidate cannot differ in it."""
    users, _ = columns_by_side(features)
    others: Literal["candidate", "either"] = "candidate" if features.candidate else "either"
    return {column: "user" if column in users else others for column in columns_of(features, labels=False)}


def _names(ours: Mapping[str, str] | tuple[str, ...], theirs: Mapping[str, str] | tuple[str, ...]) -> str:
    if ours == theirs:
        return "agree"
    lacking, more = sorted(set(theirs) - set(ours)), sorted(set(ours) - set(theirs))
    if not lacking and not more:
        return "differ in order or part"
    return f"lack {lacking[:5]} and have {more[:5]} besides"
