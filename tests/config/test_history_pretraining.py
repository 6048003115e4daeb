"""What history pre-training needs of the schema, the epochs and the ensemble; which column of an event fills which feature."""

import pytest

from interformer_rec.config import run as config
from interformer_rec.config.history_pretraining import event_columns
from interformer_rec.errors import InputError


def tree(**changes):
    history = [{"name": "item", "table": "item"}, {"name": "tag", "table": "tag"}]
    columns = {
        name: [{**column, "column": f"{name}_{column['name']}"} for column in history] for name in ("seen", "bought")
    }
    whole = {
        "name": "run",
        "data": {"history_pretraining": {"epochs": 1, "history": "seen", "labels": {"buy": "bought"}}},
        "features": {
            "tables": {"user": {}, "item": {}, "tag": {}},
            "ids": ["user", "item", {"name": "twin", "table": "item"}],
            "bags": [{"name": "tags", "table": "tag"}],
            "sequences": [{"name": name, "max_length": 5, "columns": columns[name]} for name in columns],
            "candidate": ["item", "twin", "tags"],
            "labels": ["buy"],
        },
        "training": {"epochs": 2},
    }
    for key, value in changes.items():
        *path, last = key.split("__")
        part = whole
        for name in path:
            part = part.setdefault(name, {})
        part[last] = value
    return whole


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training__epochs": 1}, "leaves no epoch for the rows: raise training.epochs to 2 or more"),
        (
            {"data__history_pretraining__history": "watched"},
            "data.history_pretraining names 'watched', which is no group of features.sequences",
        ),
        ({"data__history_pretraining__labels": {"buy": "click"}}, "data.history_pretraining names 'click'"),
        ({"data__history_pretraining__labels": {}}, "an event needs each of the labels ['buy'] and no other"),
        (
            {"data__history_pretraining__labels": {"buy": "bought", "like": "seen"}},
            "needs each of the labels ['buy'] and no other",
        ),
        ({"features__candidate": []}, "name the candidate's features there"),
        ({"features__candidate": ["user"]}, "name the candidate's features there"),
        (
            {
                "training__epochs": 4,
                "model__ensemble_members": 2,
                "optimizer__embedding": {"kind": "adagrad"},
            },
            "model.ensemble_members: 2 trains one member an epoch, so data.history_pretraining.epochs must be a multiple of it, not 1",
        ),
    ],
)
def test_a_mistake_is_named(changes, message):
    with pytest.raises(InputError) as caught:
        config.parse(tree(**changes), "run.yaml")
    assert message in str(caught.value)


def test_events_that_cannot_be_told_apart_alike():
    whole = tree()
    whole["features"]["sequences"][1]["columns"].reverse()
    with pytest.raises(InputError, match="put the item's id first in both, with one table"):
        config.parse(whole, "run.yaml")


def test_an_event_fills_the_first_feature_of_each_table():
    parsed = config.parse(tree(), "run.yaml")
    assert parsed.data.pretraining_epochs == 1
    assert event_columns(parsed.features, "seen") == {"item": 0, "tags": 1}
    assert config.parse(tree(data={}), "run.yaml").data.pretraining_epochs == 0
