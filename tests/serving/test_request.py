"""The value that a scorer is asked with: which features belong to which side, and parts that do not fit are refused."""

import dataclasses

import numpy as np
import pytest

from interformer_rec.config.features import FeatureSchema
from interformer_rec.errors import InputError
from interformer_rec.serving.request import Bags, Histories, Rows, Side, check_rows


def schema(candidate=()):
    return FeatureSchema.model_validate(
        {
            "tables": {"item": {}, "age": {}},
            "dense": ["price", "hour"],
            "ids": ["age", {"name": "shown", "table": "item"}],
            "bags": [{"name": "liked", "table": "item"}],
            "sequences": [{"name": "watched", "max_length": 3, "columns": [{"name": "item", "table": "item"}]}],
            "labels": ["click"],
            "candidate": list(candidate),
        }
    )


def test_sides_follow_the_schema():
    user, candidate = Side.both(schema(["shown", "price"]))
    assert user == Side(("hour",), ("age",), ("liked",), ("watched",))
    assert candidate == Side(("price",), ("shown",), ())


def test_without_named_candidates_every_scalar_may_differ_between_candidates():
    user, candidate = Side.both(schema())
    assert user == Side((), (), (), ("watched",))
    assert candidate == Side(("price", "hour"), ("age", "shown"), ("liked",))


def rows(**changed):
    whole = Rows(
        np.zeros((2, 1), np.float32),
        np.zeros((2, 1), np.int64),
        (Bags(np.array([3, 4]), np.array([0, 2])),),
        (Histories(np.array([[7], [8], [9]]), np.array([2, 1])),),
    )
    return dataclasses.replace(whole, **changed)


@pytest.mark.parametrize(
    "changed, words",
    [
        ({}, None),
        ({"dense": np.zeros((2, 2), np.float32)}, "2, 1, 1, 1"),
        ({"ids": np.zeros((3, 1), np.int64)}, "needs 2 rows"),
        ({"bags": (Bags(np.array([3]), np.array([0, 2])),)}, "bag 'liked' has 1 ids"),
        ({"bags": (Bags(np.array([3]), np.array([1])),)}, "needs 2 rows"),
        ({"histories": (Histories(np.array([[7]]), np.array([2, 1])),)}, "add up to 3 events"),
        ({"histories": (Histories(np.ones((5, 1)), np.array([4, 1])),)}, "at most 3 count"),
        ({"histories": (Histories(np.ones((3, 2)), np.array([2, 1])),)}, "of 1 columns"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changed, words):
    features = schema(["shown", "price"])
    side, groups = Side.both(features)[0], {group.name: group for group in features.sequences}
    if words is None:
        check_rows(rows(**changed), side, groups, "the users")
        return
    with pytest.raises(InputError, match=words):
        check_rows(rows(**changed), side, groups, "the users")
