"""Runs that begin with history pre-training: which rows an epoch has, and a stop inside such an epoch."""

import json

import pytest
import torch
from safetensors.torch import load_file

from interformer_rec.config import run as config
from interformer_rec.data.loader import Loader
from interformer_rec.errors import InputError
from interformer_rec.training import run
from tests.data import test_request_pretraining as request_events
from tests.training.runs import records

PRETRAINING = (
    "data.history_pretraining={epochs: 1, history: hist0, labels: {label: hist1}}",
    "features.candidate=[item_id, category]",
    "training.checkpoint.keep=9",
)
LAST = "step-00000024"  # the end of the second epoch


def weights(folder):
    """Tensors of the last checkpoint by file and name."""
    return {
        (file, key): tensor
        for file in ("rank-00000.safetensors", "dense.safetensors")
        for key, tensor in load_file(folder / "checkpoints" / LAST / file).items()
    }


def test_the_first_epoch_is_of_events_the_second_of_rows(small, tmp_path):
    assert run.train(small(*PRETRAINING)) == 0
    first, second = (
        [record for record in records(tmp_path / "run", "train") if record["epoch"] == epoch] for epoch in (0, 1)
    )
    assert run.train(small(f"training.out={tmp_path}/plain")) == 0
    plain = [record for record in records(tmp_path / "plain", "train") if record["epoch"] == 1]
    for key in ("rows", "step"):
        assert [record[key] for record in second] == [record[key] for record in plain]
    assert sum(record["rows"] for record in first) == 1501
    lengths = [json.loads((tmp_path / name / "data.json").read_text())["sequences"] for name in ("run", "plain")]
    assert lengths[0] == lengths[1]  # of the rows, not of the events


def test_a_run_that_ends_among_events_tells_their_lengths(small, tmp_path):
    assert run.train(small(*PRETRAINING, "training.max_steps=5")) == 0
    lengths = json.loads((tmp_path / "run" / "data.json").read_text())["sequences"]
    assert 0 < lengths["hist0"]["mean"] < 12


def test_a_run_stopped_among_events_goes_on_bit_for_bit(small, tmp_path):
    whole, parts = f"training.out={tmp_path}/whole", f"training.out={tmp_path}/parts"
    assert run.train(small(*PRETRAINING, whole)) == 0
    assert run.train(small(*PRETRAINING, parts, "training.max_steps=5")) == 0
    assert run.train(small(*PRETRAINING, parts), resume=True) == 0
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_samples_a_second_count_events_then_rows(small, tmp_path, capfd):
    assert run.train(small(*PRETRAINING)) == 0
    said = capfd.readouterr().err
    assert " samples/s" in said and "rows/s" not in said
    for record in records(tmp_path / "run", "train"):
        assert ("events" in record) == (record["epoch"] == 0)
        counted = record.get("events", record["rows"])
        assert record["samples_per_second"] == pytest.approx(counted / record["seconds"])


def test_an_epoch_without_events_is_not_run(small, tmp_path, capfd):
    many = [PRETRAINING[0].replace("epochs: 1", "epochs: 12"), *PRETRAINING[1:], "training.epochs=13"]
    assert run.train(small(*many, "data.valid=null", "data.test=null")) == 0
    found = records(tmp_path / "run", "train")
    epochs = sorted({record["epoch"] for record in found})
    assert 2 < len(epochs) < 13 and epochs == [*range(len(epochs) - 1), 12]  # then one of rows
    assert all(sum(record["events"] for record in found if record["epoch"] == epoch) > 0 for epoch in epochs[:-1])
    said = capfd.readouterr().err
    assert f"epochs {len(epochs) - 1} to 11 are not run (data.history_pretraining.epochs: 12)" in said
    assert f"step {found[-1]['step']}/{found[-1]['step']}" in said  # the total is of those that are run


def test_an_epoch_that_turns_out_to_have_no_events_is_an_error(small, monkeypatch):
    monkeypatch.setattr(Loader, "pretraining_events", lambda self: iter([(0, (10**9, 1))]))
    many = [PRETRAINING[0].replace("epochs: 1", "epochs: 12"), *PRETRAINING[1:], "training.epochs=13"]
    with pytest.raises(InputError, match="no event of the histories was left for epoch"):
        run.train(small(*many, "data.valid=null", "data.test=null"))


def test_histories_without_an_event_are_refused(small, monkeypatch, tmp_path):
    monkeypatch.setattr(Loader, "pretraining_events", lambda self: iter([(0, (0, 1501))]))
    with pytest.raises(InputError, match="hold no event that can be drawn"):
        run.train(small(*PRETRAINING))
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_requests_are_trained_on_the_events_of_impressions(tmp_path):
    """One buffer: the same steps in the first epoch, of as many rows; then a request's candidates share its history."""
    schemas = request_events.schemas(timed=True)
    paths = request_events.write(tmp_path, request_events.requests(60), schemas[0], 10_000)
    found = []
    for form, features, path in zip(("requests", "impressions"), schemas, paths, strict=True):
        tree = {
            "name": form,
            "data": {
                "train": path,
                "batch_size": 16,
                "id_dropout": 0.0,
                "history_pretraining": request_events.OPTIONS.model_copy(update={"epochs": 1}).model_dump(),
            },
            "features": features.model_dump(mode="json", exclude_defaults=True),
            "model": {"d": 8, "embedding_dim": 8, "split": True, "dropout": 0.0},
            "training": {"epochs": 2, "out": str(tmp_path / form), "device": "cpu", "log_every_steps": 1},
        }
        assert run.train(config.parse(tree, form)) == 0
        found.append(records(tmp_path / form, "train"))
    events = [[record for record in one if "events" in record] for one in found]
    assert len(events[0]) == len(events[1]) > 5 and sum(record["events"] for record in events[0]) > 50
    for mine, other in zip(*events, strict=True):
        assert (mine["rows"], mine["events"]) == (other["rows"], other["events"])
        assert mine["loss"] == pytest.approx(other["loss"], rel=1e-5)
    assert len(found[0]) == len(found[1]) == 2 * len(events[0])
