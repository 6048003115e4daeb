"""What a trained model depends on comes out as it was planted, from the command, and bad input is refused before work."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest

from interformer_rec import cli
from interformer_rec.errors import InputError
from interformer_rec.explaining import command
from interformer_rec.explaining.arguments import ExplainOptions
from interformer_rec.explaining.output import open_output
from interformer_rec.training.scoring import trained as scoring
from tests import forked
from tests.forked import environment, free_port

NOTHING = ("c", "n")  # inputs that say nothing of either label


def auc(entries: list[dict[str, Any]], label: str = "click") -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry["importance"][label]["auc"] for entry in entries}


def zero_inside(importance: dict[str, Any], beyond: float = 0.0) -> bool:
    """`beyond`: by so many of its widths the interval may miss 0. One in twenty of an input that says nothing does miss it."""
    low, high = importance["interval"]
    reach = beyond * (high - low)
    return low - reach <= 0 <= high + reach


def test_what_decides_comes_before_what_helps_and_noise_is_zero(explained):
    found = auc(explained.content["features"])
    assert list(found)[:2] == ["a", "b"]  # sorted by importance
    assert found["a"]["mean"] > 2 * found["b"]["mean"] > 0.02
    assert found["a"]["interval"][0] > found["b"]["interval"][1] > found["b"]["interval"][0] > 0
    entries = [entry for entry in explained.content["features"] if entry["name"] in NOTHING]
    noise = [entry["importance"]["click"][metric] for entry in entries for metric in ("auc", "gauc", "ne")]
    assert len(noise) == 6 and sum(map(zero_inside, noise)) >= 5
    assert all(zero_inside(one, beyond=0.5) for one in noise)
    assert not any(zero_inside(found[name], beyond=0.5) for name in ("a", "b"))


def test_each_label_has_its_own(explained):
    found = auc(explained.content["features"], "second")
    assert found["b"]["mean"] > 0.2 and found["b"]["interval"][0] > 0.15
    assert max(found, key=lambda name: found[name]["mean"]) == "b"
    assert max(abs(found[name]["mean"]) for name in found if name != "b") < 0.02


def test_a_group_moves_together(explained):
    single, groups = auc(explained.content["features"]), auc(explained.content["groups"])
    assert groups["both"]["mean"] > single["a"]["mean"] and zero_inside(groups["rest"], beyond=0.5)


def test_the_age_of_the_events_that_count_comes_out(explained):
    content = explained.content
    (history,) = auc(content["histories"]).values()
    fields = auc(content["fields"])
    assert history["interval"][0] > 0.02 and list(fields) == ["seen.kind", "seen.place"]
    assert fields["seen.kind"]["interval"][0] > 0.02 and zero_inside(fields["seen.place"], beyond=0.5)
    ages = {tuple(one["ages"]): one for one in content["ages"]}
    assert list(ages) == [(1, 1), (2, 4), (5, 16), (17, 24)]
    permuted = {ages_: one["permuted"]["click"]["auc"] for ages_, one in ages.items()}
    removed = {ages_: one["removed"]["click"]["auc"] for ages_, one in ages.items()}
    assert permuted[5, 16]["interval"][0] > 0.02 and removed[5, 16]["interval"][0] > 0.02
    for ages_ in ((1, 1), (2, 4), (17, 24)):
        assert permuted[ages_]["interval"][1] < permuted[5, 16]["interval"][0]
        assert removed[ages_]["mean"] < removed[5, 16]["mean"] / 4
    assert all(one["std"] is None for one in removed.values())  # nothing in it is random


def test_the_base_is_what_evaluate_says(explained, trained):
    content = explained.content
    expected = scoring.evaluate(str(trained / "run"), str(trained / "test.parquet"))
    for label in ("click", "second"):
        for metric in ("auc", "gauc", "ne"):
            base = content["base"][label][metric]
            assert base["value"] == pytest.approx(expected[f"{label}/{metric}"], abs=1e-9)
            assert base["interval"][0] < base["value"] < base["interval"][1]
            assert content["whole"]["labels"][label][metric] == expected[f"{label}/{metric}"]
    assert content["rows"] == content["rows_read"] == 2_000


def test_what_removing_saves(explained):
    content = explained.content
    saves = {
        entry["name"]: entry["saves"] for entry in [*content["features"], *content["histories"], *content["fields"]]
    }
    assert saves["a"]["table_bytes"] == saves["c"]["table_bytes"] == 0  # one table, which the other still reads
    assert saves["b"]["table_bytes"] == (2 + 2) * 8 * 4  # 2 ids and 2 special rows of 8 floats
    assert saves["seen.place"]["table_bytes"] == 5 * 8 * 4 and saves["seen.place"]["peak_bytes"] > 0
    assert content["savings"]["ranks"] == 1 and content["savings"]["step_ms"] > saves["seen.place"]["step_ms"] > 0
    assert "interformer needs at least one group under features.sequences" in saves["seen"]["why"]


def test_slices(explained):
    slices = explained.content["slices"]
    segments = {one["value"]: one for one in slices["segment"]}
    assert segments["old"]["rows"] + segments["new"]["rows"] == 2_000
    assert segments["new"]["unknown_ids_by_input"]["c"] == 1 and segments["old"]["unknown_ids"] == 0
    assert segments["new"]["unknown_ids_by_input"]["a"] == 0 < segments["new"]["unknown_ids"] < 0.2
    assert 0.7 < segments["old"]["labels"]["click"]["calibration"] < 1.4
    assert {one["value"] for one in slices["a"]} == {"0", "1"} and len(slices["n"]) == 5
    assert (
        sum(one["labels"]["click"]["positives"] for one in slices["kinds"])
        == (explained.content["whole"]["labels"]["click"]["positives"])
    )


@pytest.mark.slow
def test_two_ranks_find_what_one_finds_and_so_does_a_second_time(trained, tmp_path):
    options = [
        "--rows",
        "400",
        "--repeats",
        "1",
        "--seed",
        "3",
        "--set",
        "data.eval_batch_size=64",
        "--slices",
        "segment",
    ]
    contents = []
    for number, ranks in enumerate((1, 1, 2)):
        argv = ["explain", str(trained / "run"), *options, "--out", str(tmp_path / str(number))]
        port = free_port()
        ended = forked.run([environment(rank, ranks, port) for rank in range(ranks)], cli.main, argv, limit=300)
        assert [one.code for one in ended] == [0] * ranks, ended
        contents.append(json.loads((tmp_path / str(number) / "explain.json").read_text()))
    one, again, two = contents
    assert {**one, "seconds": 0} == {**again, "seconds": 0} and 300 < one["rows"] <= 400 < one["rows_read"] == 2_000
    assert one["savings"]["ranks"] == 1 and two["savings"]["ranks"] == 2
    assert numbers(one) == pytest.approx(numbers(two), abs=2e-6) and len(numbers(one)) > 200


def numbers(content: dict[str, Any]) -> list[float]:
    """Of importances and slices, in order of their names: ranks score rows in other batches, which changes last bits."""
    parts: list[Any] = [content["base"], content["slices"], content["ages"]]
    for section in ("features", "groups", "histories", "fields"):
        parts += [entry["importance"] for entry in sorted(content[section], key=lambda one: one["name"])]
    found: list[float] = []
    while parts:
        part = parts.pop(0)
        if isinstance(part, dict):
            parts[:0] = part.values()
        elif isinstance(part, list):
            parts[:0] = part
        elif isinstance(part, int | float):
            found.append(part)
    return found


def test_the_time_is_said_before_the_passes(explained):
    said = explained.said.splitlines()
    assert said[0].startswith("17 changes of the input, 2 permutations of each: 30 passes over 2,000 rows, about ")
    assert explained.said.count("passes over") == 1
    assert "seen, age 5-16" in explained.printed and "explain.html" in explained.printed
    assert sorted(path.name for path in explained.out.iterdir()) == ["explain.html", "explain.json"]


def test_a_run_has_its_explanation_in_its_folder(trained, tmp_path):
    shutil.copy(trained / "run" / "config.yaml", tmp_path / "config.yaml")
    assert open_output(str(tmp_path), None, trust=False).local == tmp_path / "explain"
    (tmp_path / "explain").rmdir()
    (tmp_path / "explain").symlink_to(trained)
    with pytest.raises(InputError, match="outside the folder"):
        open_output(str(tmp_path), None, trust=False)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"rows": 0}, "--rows 0: from 1"),
        ({"repeats": 0}, "--repeats 0: from 1"),
        ({"seed": -1}, "--seed -1"),
        ({"nodes": 2}, "--nodes 2 is about a cluster"),
        ({"data": ""}, "--data is empty"),
        ({"slices": "segment,,n"}, r"--slices 'segment,,n': write COLUMN,COLUMN"),
        ({"slices": "segments"}, "column 'segments' is missing in .*test.parquet"),
        ({"groups": ["x=a,d"]}, "names 'd', which is no feature or history of the run.*It has n, a, c, b, seen"),
        ({"groups": ["a,b"]}, "write NAME=FEATURE,FEATURE"),
        ({"groups": ["x=a", "x=b"]}, "--groups x is given twice"),
        ({"cluster": "dgx-h900"}, "cluster 'dgx-h900' is neither known"),
        ({"set": ["model.d=4"]}, "explain --set 'model.d=4': 'model.d' belongs to the model"),
        ({"data": "nowhere.parquet"}, "nowhere.parquet"),
        ({"out": "FILE"}, "--out .* cannot be a folder"),
        ({"path": "CHECKPOINT", "out": None}, "is a checkpoint: name a folder for explain.html"),
    ],
)
def test_bad_input_is_refused_before_the_weights_are_read(trained, tmp_path, monkeypatch, changes, message):
    monkeypatch.setattr(command, "restore", None)  # a call would be a TypeError
    (tmp_path / "file").touch()
    checkpoint = next((trained / "run" / "checkpoints").glob("step-*"))
    places = {"FILE": str(tmp_path / "file"), "CHECKPOINT": str(checkpoint)}
    given = {name: places.get(str(value), value) for name, value in changes.items()}
    data = str(trained / "test.parquet")
    with pytest.raises(InputError, match=message):
        command.explain(
            ExplainOptions(**{"path": str(trained / "run"), "data": data, "out": str(tmp_path / "out"), **given})
        )
    assert not (trained / "run" / "explain").exists()
