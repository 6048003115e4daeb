"""What an exported model says about its inputs and outputs, and that it is read strictly."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest

from interformer_rec.config.features import FeatureSchema
from interformer_rec.data.meaning import Meaning
from interformer_rec.errors import DamagedError
from interformer_rec.serving.encode.encoder import Encoder
from interformer_rec.serving.signature import Signature, signature_of
from tests.serving.encode.samples import FEATURES, TRAINED, fitted


def signature(candidate: bool = True) -> Signature:
    meaning = fitted(candidate).meaning
    assert meaning is not None
    return signature_of(meaning)


def test_inputs_have_the_types_of_the_training_files():
    found = {one.name: one for one in signature().inputs}
    assert {name: one.type for name, one in found.items()} == {
        name: {"list<element: int64>": "list<int64>", "date32[day]": "date32[day]"}.get(
            str(TRAINED.schema.field(name).type), str(TRAINED.schema.field(name).type).replace("item: ", "")
        )
        for name in TRAINED.column_names
        if name != "click"
    }
    assert {name for name, one in found.items() if one.part == "candidate"} == {"item_id", "price", "also"}
    assert {name for name, one in found.items() if not one.nullable} == {"price", "new"}
    lists = {name for name in found if pa.types.is_list(TRAINED.schema.field(name).type)}
    assert {name for name, one in found.items() if one.nullable_elements} == lists - {"watch_time"}
    assert found["item_id"].reads == "feature 'item_id', table 'item'" and found["city"].absent == "refused"
    assert [(one.name, one.type) for one in signature().outputs] == [("click", "float")]
    whole = {one.name: one.part for one in signature(candidate=False).inputs}
    assert {name for name, part in whole.items() if part == "user"} == {"watch_item", "watch_hour", "watch_time"}
    assert set(whole.values()) == {"user", "either"}


def test_it_is_read_back():
    text = signature().to_json()
    assert Signature.from_json(text.encode(), "signature.json") == signature()


CHANGES: list[tuple[list[Any], Any, str]] = [
    (["format"], 2, "written in format 2; this release reads format 1"),
    (["format"], "1", "written in format '1'"),
    (["inputs"], [], "inputs"),
    (["inputs", 0, "type"], "struct<a: int8>", r"inputs.0.type: .*no type of a feature's column"),
    (["inputs", 0, "type"], 5, r"inputs.0.type"),
    (["inputs", 0, "part"], "item", r"inputs.0.part"),
    (["inputs", 0, "nullable"], 1, r"inputs.0.nullable"),
    (["inputs", 0, "absent"], "zero", r"inputs.0.absent"),
    (["inputs", 0, "more"], 1, r"inputs.0.more"),
    (["inputs", 1, "name"], "age", "an input's name is there twice"),
    (["unknown"], None, "unknown"),
    (["outputs", 0, "type"], "int8", r"outputs.0.type"),
]


@pytest.mark.parametrize("path, value, said", CHANGES, ids=lambda part: str(part)[:40])
def test_what_was_not_written_is_damage(path, value, said):
    tree = json.loads(signature().to_json())
    assert tree["inputs"][0]["name"] == "age"
    *above, last = path
    part = tree
    for key in above:
        part = part[key]
    part[last] = value
    with pytest.raises(DamagedError, match=f"signature.json.*{said}"):
        Signature.from_json(json.dumps(tree).encode(), "signature.json")


def test_a_signature_of_other_features_or_vocabularies_is_damage():
    found = fitted()
    assert found.meaning is not None
    other = FeatureSchema.model_validate({**FEATURES, "candidate": ["item_id"]})
    with pytest.raises(DamagedError, match="do not belong together: inputs differ in order or part; outputs agree"):
        Encoder(other, found, signature())
    less = FeatureSchema.model_validate({**FEATURES, "dense": [], "candidate": ["item_id"]})
    with pytest.raises(DamagedError, match=r"inputs lack \[\] and have \['age', 'new', 'price'\] besides"):
        Encoder(less, found, signature())
    text = signature().to_json().replace('"name": "item_id",\n      "part": "candidate",\n      "type": "int64"', "@")
    text = text.replace("@", '"name": "item_id",\n      "part": "candidate",\n      "type": "string"')
    with pytest.raises(
        DamagedError, match="column 'item_id' is string in the signature: table 'item' was fitted on int"
    ):
        Encoder(found.meaning.features, found, Signature.from_json(text.encode(), "signature.json"))


def test_a_record_without_a_type_makes_no_signature():
    meaning = fitted().meaning
    assert meaning is not None
    types = {column: type_ for column, type_ in meaning.types.items() if column != "city"}
    with pytest.raises(DamagedError, match="no type of column 'city'"):
        signature_of(Meaning(meaning.features, types))
