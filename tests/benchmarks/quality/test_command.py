"""The quality study end to end on small ratings: interrupted and resumed, the test file only at the end, the same search again."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from benchmarks.quality import command as quality
from benchmarks.quality.data import test_file as final_test_file  # pytest would take its own name for a test
from benchmarks.quality.data import tuning_files
from benchmarks.quality.report import learned_from_noise, verdict
from benchmarks.quality.search import require_within, search
from benchmarks.quality.sets import load_sets
from interformer_rec.errors import InputError
from interformer_rec.tuning.space import own_values
from tests.benchmarks.ratings import write_ratings
from tests.faults.job import alive
from tests.forked import CONTEXT

SMALL = ["data.batch_size=512", "data.eval_batch_size=512", "model.embedding_dim=4", "training.device=cpu"]


@pytest.fixture(scope="module")
def ratings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ratings(tmp_path_factory.mktemp("ratings"))


def arguments(data: Path, out: Path, *more: str) -> list[str]:
    small = [part for change in SMALL for part in ("--override", change)]
    fixed = ["--data", "ml_100k", "--models", "fm,interformer", "--seeds", "2", "--budget", "2", "--epochs", "1"]
    return [*fixed, "--data-dir", str(data), "--out", str(out), *small, *more]


def command(monkeypatch: pytest.MonkeyPatch, *argv: str) -> int:
    monkeypatch.setattr(sys, "argv", ["quality", *argv])
    return quality.main()


def results(out: Path) -> dict[str, int]:
    """Result files and when they were written (ns)."""
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in out.rglob("result.json")}


def kill_after_first_result(argv: list[str], out: Path) -> None:
    """Start the command; kill its main process, which cannot clean up, once a run is finished; wait for its worker to end."""
    process = CONTEXT.Process(target=study, args=(argv,))
    process.start()
    while not results(out):
        assert process.exitcode is None
        time.sleep(0.05)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.join()
    assert workers
    deadline = time.monotonic() + 300
    while any(map(alive, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def study(argv: list[str]) -> None:
    """The command in a process of its own, forked from one that has loaded torch. So are its workers, which else load it again."""
    forked = multiprocessing.get_context("fork")
    multiprocessing.get_context = lambda method: forked
    sys.argv = ["quality", *argv]
    sys.exit(quality.main())


@pytest.mark.slow
def test_study_from_search_to_report(ratings, tmp_path, monkeypatch, capsys):
    """Killed while it searches, resumed without a test file, finished with one, repeated for nothing; then known to another study."""
    out, ratings = tmp_path / "out", shutil.copytree(ratings, tmp_path / "ratings")
    hidden = ratings / "hidden.parquet"
    (ratings / "test.parquet").rename(hidden)
    kill_after_first_result(arguments(ratings, out), out)
    early = results(out)

    assert command(monkeypatch, *arguments(ratings, out)) == 2
    assert "test.parquet" in capsys.readouterr().err
    searched = results(out)
    assert len(searched) == 4 and all("/trial-" in name for name in searched)
    assert early.items() <= searched.items()
    assert not list(out.rglob("test*"))

    hidden.rename(ratings / "test.parquet")
    assert command(monkeypatch, *arguments(ratings, out, "--speed")) == 0
    finished = results(out)
    assert searched.items() <= finished.items() and len(finished) == 8
    assert "InterFormer minus fm" in capsys.readouterr().out
    assert (out / "quality.png").read_bytes()[:4] == b"\x89PNG" and "| fm |" in (out / "quality.md").read_text()
    study = json.loads((out / "quality.json").read_text())
    for system in study["systems"]:
        values = [trial["value"] for trial in system["trials"]]
        assert system["settings"] == system["trials"][values.index(max(values))]["settings"]
        assert system["trials"][0]["settings"] == {} and set(system["trials"][1]["settings"]) >= {"optimizer.dense.lr"}
        assert system["auc"]["mean"] == pytest.approx(sum(run["test"]["auc"] for run in system["runs"]) / 2)
        assert system["dense_parameters"] > 0 and system["table_parameters"] > 0 and system["flops"] > 0
        assert system["trained_rows_per_second"] > 0
    difference = study["differences"]["fm"]["auc"]
    fm, ours = ([run["test"]["auc"] for run in system["runs"]] for system in study["systems"])
    assert difference["mean"] == pytest.approx((ours[0] + ours[1] - fm[0] - fm[1]) / 2)
    assert difference["over_seeds"][0] < difference["mean"] < difference["over_seeds"][1]
    assert difference["over_users"][0] < difference["over_users"][1]

    assert command(monkeypatch, *arguments(ratings, out)) == 0
    assert results(out) == finished
    with pytest.raises(AssertionError):  # another recipe may not use these runs
        assert command(monkeypatch, *arguments(ratings, out, "--override", "data.batch_size=64")) == 0
    assert "another recipe" in capsys.readouterr().err
    one_more_system(ratings, out / "quality.json", tmp_path / "more", monkeypatch, capsys)


def one_more_system(ratings, earlier, out, monkeypatch, capsys):
    """With --known only the system that is new is run; a row of another recipe, or of fewer trials or seeds, is refused."""
    models = ["--models", "fm,interformer,dlrm", "--known", str(earlier)]
    assert command(monkeypatch, *arguments(ratings, out, *models, "--speed")) == 0
    assert {name.split("/")[1] for name in results(out)} == {"dlrm"}
    before, after = (json.loads((folder / "quality.json").read_text()) for folder in (earlier.parent, out))
    for old, new in zip(before["systems"], after["systems"], strict=False):
        assert new.pop("known") == {key: before[key] for key in ("date", "device", "command")}
        assert new["trained_rows_per_second"] > 0
        assert {**new, "trained_rows_per_second": 0} == {**old, "trained_rows_per_second": 0}
    assert "known" not in after["systems"][2] and after["systems"][2]["trained_rows_per_second"] > 0
    assert after["differences"]["fm"] == before["differences"]["fm"]
    new = after["differences"]["dlrm"]["auc"]
    assert new["over_users"] is None and new["over_seeds"][0] <= new["mean"] <= new["over_seeds"][1]

    capsys.readouterr()
    other = out.with_name("other")
    assert command(monkeypatch, *arguments(ratings, other, *models, "--override", "data.batch_size=64")) == 2
    assert "the runs of fm are of another recipe" in capsys.readouterr().err
    assert command(monkeypatch, *arguments(ratings, other, *models, "--budget", "3")) == 2
    assert "has budget 2, this study 3" in capsys.readouterr().err
    assert command(monkeypatch, *arguments(ratings, other, "--known", str(ratings / "train.parquet"))) == 2
    assert "cannot read" in capsys.readouterr().err
    assert command(monkeypatch, *arguments(ratings, other, *models, "--seeds", "3")) == 2
    assert "has seeds [0, 1], this study [0, 1, 2]" in capsys.readouterr().err
    assert not results(other)
    fixed_recipes(ratings, earlier, out.with_name("fixed"), monkeypatch)


def fixed_recipes(ratings, earlier, out, monkeypatch):
    """A study without a search, of fewer seeds, takes the rows whose search kept the recipe; one system more makes a curve."""
    before = json.loads(earlier.read_text())
    kept = {row["name"] for row in before["systems"] if not row["settings"]}
    models = ["--models", "fm,interformer,d-16", "--budget", "0", "--seeds", "1"]
    assert command(monkeypatch, *arguments(ratings, out, *models, "--known", str(earlier))) == 0
    assert {name.split("/")[1] for name in results(out)} == {"fm", "interformer", "d-16"} - kept
    after = json.loads((out / "quality.json").read_text())
    for old, new in zip(before["systems"], after["systems"], strict=False):
        assert len(new["runs"]) == 1 and new["auc"] == {"mean": new["runs"][0]["test"]["auc"], "std": None}
        assert new["trials"] == [] and (new["name"] not in kept or new["runs"] == old["runs"][:1])
    assert after["differences"]["d-16"]["auc"]["over_seeds"] is None


def test_a_search_goes_on_as_it_would_have():
    """Trials depend on the system and the trials before them alone: given three results, it asks for the same fourth."""
    sets = load_sets()
    system, dataset = sets.system("din"), sets.data["ml_100k"]
    asked: dict[str, dict] = {}

    def run(budget: int) -> list[dict]:
        def make(settings, folder):
            asked[folder] = settings
            return system.config(dataset, {**settings, "training.out": f"nowhere/{folder}"})

        procedure = search(system, budget, make, "liked/auc", higher=True)
        value = None
        for number in range(99):
            try:
                procedure.send(value)
            except StopIteration as end:
                return end.value.trials
            value = {"failed": "diverged"} if number == 2 else {"valid": {"liked/auc": 0.5 + (number * 7 % 5) / 10}}
        raise AssertionError("the search does not end")

    whole, part = run(8), run(6)
    assert whole[:6] == part and len({json.dumps(trial["settings"]) for trial in whole}) == 8
    assert whole[2]["value"] is None and whole[2]["failed"] == "diverged"
    assert all(isinstance(settings.get("model.hidden", []), list) for settings in asked.values())


def test_every_system_has_a_recipe_within_its_ranges():
    sets = load_sets()
    for name in [*sets.kinds, *sets.variants]:
        system = sets.system(name)
        config = system.config(sets.data["kuairand_pure"], {})
        own = own_values(system.search, config.model_dump(mode="json"), name)
        require_within(system, own)
        assert None not in own.values()
    for names in sets.sets.values():
        assert [sets.system(name).name for name in names] == list(names)
    with pytest.raises(InputError, match="did you mean 'din'"):
        sets.systems("dein", None)


def test_recipes_come_from_data_kind_and_variant():
    sets = load_sets()
    kuairand = sets.data["kuairand_pure"]
    ours, theirs = (sets.system(name).config(kuairand, {}) for name in ("interformer", "fm"))
    assert (ours.optimizer.dense.lr, theirs.optimizer.dense.lr) == (1e-3, 2e-2)
    assert ours.model.embedding_dim == theirs.model.embedding_dim and ours.features == theirs.features
    short = sets.system("history-10").config(kuairand, {}).features.sequences
    assert [group.max_length for group in short] == [10, 10, 10]
    assert [g.name for g in sets.system("sequences-2").config(kuairand, {}).features.sequences] == [
        "watch",
        "long_watch",
    ]
    assert sets.system("paper").config(kuairand, {}).model.sequence.merge == "masknet"
    assert (ours.data.pretraining_epochs, theirs.data.pretraining_epochs) == (6, 0)
    quick = kuairand.shortened()
    assert [sets.system(name).config(quick, {}).data.pretraining_epochs for name in ("interformer", "fm")] == [2, 0]


def test_shuffled_labels_teach_nothing(ratings, tmp_path):
    """Of 150 test rows the AUC may be anything near 0.5; that the labels of all splits moved, and nothing else, can be seen."""
    dataset = load_sets().data["ml_100k"]
    features = load_sets().system("fm").config(dataset, {}).features
    arguments = (dataset, features, ratings, tmp_path / "cuts", True)
    files = tuning_files(*arguments)
    for split, path in (("train", files.train), ("valid", files.valid), ("test", final_test_file(*arguments))):
        before, after = pq.read_table(ratings / f"{split}.parquet"), pq.read_table(path)
        assert before.drop(["liked"]) == after.drop(["liked"]) and before["liked"] != after["liked"]
        assert sorted(before["liked"].to_pylist()) == sorted(after["liked"].to_pylist())


def test_a_leak_in_shuffled_labels_is_named():
    rows = [{"name": "fm", "auc": {"mean": 0.505, "std": None}}, {"name": "din", "auc": {"mean": 0.52, "std": None}}]
    assert learned_from_noise({"shuffled": True, "systems": rows}) == ["din"]
    assert "NOT so for din" in verdict({"shuffled": True, "systems": rows})[0]
    assert learned_from_noise({"shuffled": False, "systems": rows}) == []
