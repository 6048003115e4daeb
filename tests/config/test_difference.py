"""What differs between two configs, by name."""

from __future__ import annotations

from interformer_rec.config.baselines import DINConfig
from interformer_rec.config.difference import differences, reordered
from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.model import ModelConfig


def schema(**changes) -> FeatureSchema:
    base = {
        "tables": {"user": {}, "item": {"ids": "hash", "num_embeddings": 9}},
        "dense": ["a", {"name": "b", "log1p": True}],
        "ids": ["user", "item"],
        "sequences": [
            {"name": "h", "max_length": 3, "columns": [{"name": "i", "table": "item"}, {"name": "u", "table": "user"}]}
        ],
        "labels": ["click", "buy"],
        "candidate": ["a", "item"],
    }
    return FeatureSchema.model_validate({**base, **changes})


def said(**changes) -> list[str]:
    return [str(change) for change in differences(schema(), schema(**changes), "features")]


def test_a_changed_value_is_named_by_its_feature():
    found = differences(schema(), schema(dense=["a", {"name": "b", "clip": [0, 1]}]), "features")
    assert [change.key for change in found] == ["features.dense.b.clip", "features.dense.b.log1p"]
    assert [change.pattern for change in found] == ["features.dense.*.clip", "features.dense.*.log1p"]
    assert str(found[0]) == "features.dense.b.clip was null and is now [0.0, 1.0]"
    assert str(found[1]) == "features.dense.b.log1p was true and is now false"


def test_exchanged_columns_differ_and_another_order_does_not():
    assert said(dense=[{"name": "b", "log1p": True}, "a"], candidate=["item", "a"], labels=["buy", "click"]) == []
    assert said(dense=[{"name": "a", "column": "b"}, {"name": "b", "column": "a", "log1p": True}]) == [
        "features.dense.a.column was a and is now b",
        "features.dense.b.column was b and is now a",
    ]
    assert said(candidate=["a"]) == ["features.candidate was [a, item] and is now [a]"]


def test_a_thing_that_one_side_has_is_one_difference():
    found = differences(schema(), schema(dense=["a", "c"]), "features")
    assert [change.pattern for change in found] == ["features.dense.*", "features.dense.*"]
    assert [str(change) for change in found] == [
        "features.dense.b was {column: b, log1p: true} and is now not there",
        "features.dense.c was not there and is now {column: c}",
    ]


def test_other_kinds_of_a_union_and_null_against_a_section():
    assert [str(c) for c in differences(ModelConfig(), DINConfig(), "model")] == [
        "model.kind was interformer and is now din"
    ]
    assert differences(ModelConfig(head=(8, 4)), ModelConfig(head=(4, 8)), "model")[0].key == "model.head"
    assert differences(None, schema(), "x")[0].key == "x"


def test_the_orders_that_differ():
    columns = [{"name": "u", "table": "user"}, {"name": "i", "table": "item"}]
    other = schema(dense=["b", "c", "a"], sequences=[{"name": "h", "max_length": 3, "columns": columns}])
    assert reordered(schema(), other, "features") == ["features.dense", "features.sequences.h.columns"]
    assert reordered(schema(), schema(), "features") == []
