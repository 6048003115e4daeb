"""Run configs: what is refused, and where the message points."""

import types
from typing import Annotated, Literal, Union, get_args, get_origin

import pytest

from interformer_rec.config import run as config
from interformer_rec.config.errors import _models_in
from interformer_rec.errors import InputError
from interformer_rec.planning.constraints import Constraints
from interformer_rec.planning.cost.cluster import Cluster

MINIMAL = {"name": "run", "data": {}, "features": {"tables": {"user": {}}, "ids": ["user"], "labels": ["click"]}}

HISTORY = {
    "features": {
        "tables": {"user": {}, "item": {}},
        "ids": ["user"],
        "sequences": [
            {"name": "watch", "max_length": 5, "columns": [{"name": "item", "table": "item", "column": "seen"}]}
        ],
        "labels": ["click"],
    }
}


def refused(**changes):
    with pytest.raises(InputError) as caught:
        config.parse({**MINIMAL, **changes}, "run.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trainng": {}}, "trainng: unknown key 'trainng'; did you mean 'training'?"),
        ({"training": {"epoch": 2}}, "training.epoch: unknown key 'epoch'; did you mean 'epochs'?"),
        ({"training": {"checkpoint": {"kep": 2}}}, "training.checkpoint.kep: unknown key 'kep'; did you mean 'keep'?"),
        ({"training": {"epochs": 0}}, "training.epochs: Input should be greater than or equal to 1 (got 0)"),
        ({**HISTORY, "training": {"monitor": "gauc_request"}}, "gauc_request, which needs rows that are requests"),
        ({"training": {"monitor": "f1"}}, "monitor 'f1' is not one of auc, gauc, gauc_request, logloss, ne"),
        (
            {"training": {"pairwise_loss_weight": 0.5}, "model": {"kind": "fm"}},
            "name features.group (the column of the user's id) and set data.balance: groups",
        ),
        (
            {"features": {**HISTORY["features"], "ids": [], "tables": {"item": {}}}},
            "at least one feature under features.dense, ids or bags beside",
        ),
        (
            {"training": {"epochs": 3}, "model": {"ensemble_members": 2}, **HISTORY},
            "model.ensemble_members: 2 trains one member an epoch, so training.epochs must be a multiple of it, not 3",
        ),
        (
            {"training": {"epochs": 2}, "model": {"ensemble_members": 2}, **HISTORY},
            "model.ensemble_members with optimizer.embedding.kind rowwise_adagrad",
        ),
        ({"training": {"checkpoint": {"on_error": "ask"}}}, "training.checkpoint.on_error: Input should be 'stop' or"),
        ({"data": {"trian": "x"}}, "data.trian: unknown key 'trian'; did you mean 'train'?"),
        ({"optimizer": {"embedding": {"zzz": 1}}}, "Known here: kind, lr, eps, l2"),
        ({"model": {"kind": "dinn"}}, "model.kind: 'dinn' is not one of interformer, fm, "),
        ({"model": {"kind": "dinn"}}, "did you mean 'din'?"),
        ({"model": {"kind": "fm", "embeding_dim": 4}}, "model.embeding_dim: unknown key 'embeding_dim' for kind fm"),
        ({"model": {"kind": "dhen", "interaction": {"merg": 1}}}, "model.interaction.merg: unknown key 'merg'"),
        ({"model": {"kind": "din"}}, "model.kind din needs at least one group under features.sequences"),
    ],
)
def test_a_mistake_is_named_with_its_place(changes, message):
    assert message in refused(**changes)


def sides(candidate, **model):
    features = {
        "tables": {"user": {}, "item": {}},
        "dense": ["age"],
        "ids": ["user", "item"],
        "sequences": [
            {"name": "watch", "max_length": 5, "columns": [{"name": "item", "table": "item", "column": "seen"}]}
        ],
        "labels": ["click"],
        "candidate": candidate,
    }
    return {"features": features, "model": {"split": True, **model}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            sides(["itme"]),
            "candidate names 'itme', which is not a feature under dense, ids or bags; did you mean 'item'?",
        ),
        (sides(["item", "watch"]), "candidate names 'watch', a history; all histories are the user's: remove it"),
        (sides([]), "list the names of the candidate's (the item shown) under features.candidate"),
        (sides(["age", "item", "user"]), "features.candidate names every feature under dense, ids and bags"),
        (sides(["item"], flow="sep"), "with flow: sep no feature reaches them. Use flow: int or n2s"),
        (sides(["item"], kind="din"), "model.split: unknown key 'split' for kind din"),
    ],
)
def test_a_split_that_cannot_be_is_refused(changes, message):
    assert message in refused(**changes)


def test_a_split_replays_and_candidates_may_be_named_without_one():
    run = config.parse({**MINIMAL, **sides(["item", "age"], flow="n2s")}, "run.yaml")
    assert run.features.candidate == ("item", "age") and config.parse_yaml(config.to_yaml(run), "saved.yaml") == run
    assert not config.parse({**MINIMAL, **sides(["item"], split=False)}, "run.yaml").model.split


def test_everything_wrong_is_said_at_once():
    text = refused(training={"epochs": 0}, data={"batch_size": "many"})
    assert "training.epochs" in text and "data.batch_size" in text and "config 'run.yaml' is not valid" in text


def test_the_kind_of_the_model_chooses_its_options_and_is_saved():
    run = config.parse({**MINIMAL, "model": {"kind": "fm", "embedding_dim": 4}}, "run.yaml")
    assert run.model.kind == "fm" and config.parse_yaml(config.to_yaml(run), "saved.yaml") == run


def fields(model, seen):
    """Every field of a config class and of those inside it: its name and what its annotations say."""
    if model in seen:
        return
    seen.add(model)
    for name, field in model.model_fields.items():
        yield f"{model.__name__}.{name}", [field.annotation, *field.metadata]
        for inside in _models_in(field.annotation):
            yield from fields(inside, seen)


def bounds(annotation, metadata=()):
    """Types inside an annotation, and what bounds each."""
    args, origin = get_args(annotation), get_origin(annotation)
    if origin is Annotated:
        inner = [part for extra in args[1:] for part in (getattr(extra, "metadata", None) or [extra])]
        yield from bounds(args[0], [*metadata, *inner])
    elif args and origin is not Literal:
        whole = metadata if origin in (types.UnionType, Union) else []
        for arg in args:
            yield from bounds(arg, whole)
    else:
        yield annotation, metadata


@pytest.mark.parametrize("model", [config.RunConfig, Cluster, Constraints])
def test_every_number_has_bounds_and_every_text_a_length(model):
    """A rate may be as large as a float, a description as long as a file; nothing else is without a bound."""
    found = list(fields(model, set()))
    assert len(found) > 4
    for name, (annotation, *metadata) in found:
        if name.endswith("max_bad_rows"):  # its validator has the bounds
            continue
        for kind, limits in bounds(annotation, metadata):
            has = {what for what in ("ge", "gt", "le", "lt", "min_length") if any(hasattr(x, what) for x in limits)}
            if kind is int and not name.startswith(
                ("TableConstraints", "Constraints")
            ):  # hosts and ranks are checked against the job
                assert has & {"ge", "gt"} and has & {"le", "lt"}, name
            if kind is float and not name.startswith("DenseFeature"):
                assert has & {"ge", "gt"}, name
            free = ("monitor", "about", "sources", "fitted", "versions", "hosts", "ranks", "host_groups")
            if kind is str and not name.endswith(free):
                assert "min_length" in has, name
