"""Ids come and go while a run trains window after window: on every plan and number of ranks, stopped and resumed."""

from __future__ import annotations

import io
import shutil
import time
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.checkpoint.manifest import Manifest
from interformer_rec.checkpoint.read import load
from interformer_rec.config import run as config
from interformer_rec.config.features import UNKNOWN_ROW
from interformer_rec.data.decode.decoder import row_maps
from interformer_rec.serving import artefact
from interformer_rec.serving.arguments import ExportOptions
from interformer_rec.serving.export import export
from interformer_rec.storage import Storage
from interformer_rec.training import run
from interformer_rec.training.build import build_parallel
from interformer_rec.training.folder.run_folder import FEATURES
from interformer_rec.training.scoring.trained import evaluate
from tests.distributed.tiny import whole_state
from tests.forked import begin, command
from tests.launch import on_one
from tests.training.runs import records
from tests.training.windows.drifting import (
    BORN,
    KEEP,
    ROWS,
    WINDOWS,
    expected,
    file_of,
    items_of,
    settings,
    vocabularies,
    write_windows,
)

PLANS = (
    (2, "row_wise"),
    (4, "table_wise"),
    *(pytest.param(2, plan, marks=pytest.mark.slow) for plan in ("column_wise", "data_parallel")),
)
STEPS = 4  # of a window, with one rank
SAID = "said.txt"  # what a run printed
OFTEN = ("training.checkpoint.every_steps=1", "training.checkpoint.full_every=3", "training.log_every_steps=1")


def at(out: Path, step: int) -> Path:
    """A checkpoint."""
    return out / "checkpoints" / f"step-{step:08d}"


def state_of(out: Path, step: int) -> dict[str, np.ndarray]:
    """All tables, their optimizer state and the dense weights of a checkpoint."""

    def loaded(env: Any) -> dict[str, np.ndarray]:
        here = config.load(out / "config.yaml", ["sharding.default=auto"])
        parallel = build_parallel(here, env, vocabularies(at(out, step))[0])
        load(Storage.open(at(out, step)), parallel, env)
        return whole_state(env, parallel)

    return on_one(loaded)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_windows(tmp_path_factory.mktemp("drifting"), *range(WINDOWS))


@pytest.fixture(scope="module")
def alone(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on one rank over all windows."""
    out = tmp_path_factory.mktemp("alone") / "run"
    with redirect_stderr(io.StringIO()) as said:
        assert run.train(settings(place, out, *OFTEN)) == 0
    (out.parent / SAID).write_text(said.getvalue())
    return out


def test_each_window_has_the_ids_that_plain_python_gives_rows(alone: Path, place: Path) -> None:
    for window, ids in enumerate(expected(place)):
        first, last = (vocabularies(at(alone, STEPS * window + step))[1] for step in (1, STEPS))
        assert first == ids == last, "a mapping holds for a whole window"
    written = records(alone, "growth")
    assert [one["step"] for one in written] == [STEPS * window for window in range(WINDOWS)]
    assert [one["item/admitted"] for one in written] == [20, BORN, BORN, 0]
    assert [one["item/freed"] for one in written] == [0, 0, BORN, BORN]
    assert [one["item/used_rows"] for one in written] == [20, 28, 28, 20]
    assert written[2]["maker/freed_for_room"] > 0 and 0 < written[1]["count_seconds"] <= written[1]["seconds"]
    grown = f"{FEATURES}item.parquet"
    first, second = (Manifest.read(Storage.open(at(alone, STEPS + step))) for step in (1, 2))
    assert first.base is not None and grown in first.files and f"{FEATURES}item.waiting.parquet" in first.files
    assert second.base == first.base and grown in second.files, "an increment has what changed since its base"


def test_only_tables_that_have_changed_are_named(alone: Path, place: Path) -> None:
    said = (alone.parent / SAID).read_text().splitlines()
    quiet = 0
    for table in expected(place)[0]:
        named = sum(line.startswith(f"table {table!r}: ") for line in said)
        changes = [
            [one[f"{table}/{what}"] for what in ("admitted", "freed", "without_room")]
            for one in records(alone, "growth")
        ]
        assert named == sum(any(change) for change in changes)
        quiet += WINDOWS - named
    assert quiet, "one that has not changed has to be there for this test to mean something"


def test_a_new_id_has_a_trained_row_and_one_that_is_gone_for_keep_windows_leaves_a_fresh_one(
    alone: Path, place: Path
) -> None:
    ids = expected(place)
    new = set(items_of(1)) - set(items_of(0))
    assert not new & set(ids[0]["item"])
    rows = np.array([2 + ids[1]["item"].index(id_) for id_ in new])
    before, after = state_of(alone, STEPS), state_of(alone, STEPS * 2)
    assert not before["item/momentum1"][rows].any() and after["item/momentum1"][rows].any(axis=1).all()
    assert (before["item/weight"][rows] != after["item/weight"][rows]).any(axis=1).all()

    gone = set(items_of(1)) - set(items_of(2))
    assert KEEP == 2 and gone <= set(ids[2]["item"]) and not gone & set(ids[3]["item"])
    freed = np.array(sorted(2 + ids[2]["item"].index(id_) for id_ in gone))
    last = state_of(alone, STEPS * WINDOWS)
    unknown = state_of(alone, STEPS * 3)["item/weight"][UNKNOWN_ROW]
    np.testing.assert_array_equal(last["item/weight"][freed], np.broadcast_to(unknown, (len(freed), 32)))
    assert not np.array_equal(unknown, before["item/weight"][UNKNOWN_ROW]), "id dropout trains it"
    assert not last["item/momentum1"][freed].any()
    assert state_of(alone, STEPS * 3)["item/momentum1"][freed].any(axis=1).all()
    assert {state_of(alone, STEPS * w)["item/weight"].shape for w in (1, 4)} == {(42, 32)}, "memory is constant"


@pytest.fixture(scope="module")
def whole_batches(place: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, np.ndarray]]]:
    """A run on one rank in which a step takes all rows of a window, and its state after each."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert run.train(settings(place, out, f"data.batch_size={ROWS}")) == 0
    return out, [state_of(out, window + 1) for window in range(WINDOWS)]


@pytest.mark.parametrize(("ranks", "plan"), PLANS)
def test_every_plan_and_number_of_ranks_has_the_same_ids_and_rows(
    place: Path, whole_batches: tuple[Path, list[dict[str, np.ndarray]]], tmp_path: Path, ranks: int, plan: str
) -> None:
    """All have the same batches."""
    out = tmp_path / "several"
    several = settings(place, out, f"data.batch_size={ROWS // ranks}", f"sharding.default={plan}")
    (tmp_path / "config.yaml").write_text(config.to_yaml(several))
    ended = command(ranks, "train", tmp_path / "config.yaml")
    assert [rank.code for rank in ended] == [0] * ranks, ended[0].printed
    for window, ids in enumerate(expected(place)):
        assert vocabularies(at(out, window + 1))[1] == ids
        one, other = whole_batches[1][window], state_of(out, window + 1)
        assert one.keys() == other.keys()
        free = [2 + row for row, id_ in enumerate(ids["item"]) if id_ is None]
        for name, array in one.items():
            np.testing.assert_allclose(other[name], array, atol=2e-4, err_msg=name)
        assert not one["item/momentum1"][free].any() and not other["item/momentum1"][free].any()
    kept = [f"{name}/unknown" for name in ("item", "maker", "past.item")]
    windows = [[[one[key] for key in kept] for one in records(path, "window")] for path in (whole_batches[0], out)]
    assert windows[0] == windows[1] and windows[0][0] == [1, 1, 1] and 0 < windows[0][1][0] < 1


@pytest.mark.parametrize(
    ("stands", "damage"),
    [(STEPS + 2, 0), (STEPS, 0), (2 * STEPS + 1, 2)],
    ids=["inside", "between", "the newest are damaged"],
)
def test_a_run_that_is_resumed_has_the_ids_rows_and_state_of_one_that_was_not(
    alone: Path, place: Path, tmp_path: Path, stands: int, damage: int
) -> None:
    """Of the run the checkpoints until `stands` are left, the `damage` newest of them with weights that cannot be read."""
    out = tmp_path / "run"
    shutil.copytree(alone, out)
    for checkpoint in (out / "checkpoints").glob("step-*"):
        step = int(checkpoint.name.split("-")[1])
        if step > stands:
            shutil.rmtree(checkpoint)
        elif step > stands - damage:
            (checkpoint / "rank-00000.safetensors").write_bytes(b"damaged")
    (out / "metrics.jsonl").unlink()
    assert run.train(settings(place, out, *OFTEN), resume=True) == 0
    for step in (stands + 1, WINDOWS * STEPS):
        one, again = (vocabularies(at(folder, step)) for folder in (alone, out))
        assert one[1] == again[1]
        for name, growing in one[0].growing.items():
            other = again[0].growing[name]
            assert (growing.seen.tolist(), growing.counts.tolist()) == (other.seen.tolist(), other.counts.tolist())
            assert growing.waiting.ids.equals(other.waiting.ids) and growing.windows == other.windows
    expected_state, state = state_of(alone, WINDOWS * STEPS), state_of(out, WINDOWS * STEPS)
    for name, array in expected_state.items():
        np.testing.assert_array_equal(state[name], array, err_msg=name)
    assert (out / "features/item.parquet").read_bytes() == (alone / "features/item.parquet").read_bytes()


def test_a_run_that_is_killed_after_it_has_admitted_ids_admits_the_same_again(
    alone: Path, place: Path, tmp_path: Path
) -> None:
    """The run folder then has a window's vocabularies, and no checkpoint may have them."""
    out = tmp_path / "run"
    options = (*OFTEN, "training.checkpoint.every_steps=3")
    (tmp_path / "config.yaml").write_text(config.to_yaml(settings(place, out, *options)))
    process = begin("train", tmp_path / "config.yaml")
    while process.exitcode is None and not ((out / "metrics.jsonl").exists() and len(records(out, "growth")) > 2):
        time.sleep(0.005)
    process.kill()
    process.join()
    assert process.exitcode == -9
    assert run.train(settings(place, out, *options), resume=True) == 0
    assert vocabularies(at(out, WINDOWS * STEPS))[1] == expected(place)[-1]
    state = state_of(out, WINDOWS * STEPS)
    for name, array in state_of(alone, WINDOWS * STEPS).items():
        np.testing.assert_array_equal(state[name], array, err_msg=name)


def test_two_ranks_go_on_inside_a_window_of_one_with_other_plans(alone: Path, place: Path, tmp_path: Path) -> None:
    out, stands = tmp_path / "run", 2 * STEPS + 2
    shutil.copytree(alone, out)
    for checkpoint in (out / "checkpoints").glob("step-*"):
        if int(checkpoint.name.split("-")[1]) > stands:
            shutil.rmtree(checkpoint)
    more = settings(place, out, *OFTEN, "sharding.tables={item: row_wise, maker: column_wise}")
    (tmp_path / "config.yaml").write_text(config.to_yaml(more))
    ended = command(2, "train", tmp_path / "config.yaml", "--resume")
    assert [rank.code for rank in ended] == [0, 0], ended[0].printed
    last = max((out / "checkpoints").glob("step-*"))
    assert vocabularies(last)[1] == expected(place)[-1]
    assert Manifest.read(Storage.open(last)).files.keys() >= {"rank-00001.safetensors"}


def test_a_checkpoint_scores_rows_with_its_own_ids(alone: Path, place: Path, tmp_path: Path) -> None:
    """What a run logs of the next window is what `evaluate` says of the checkpoint before; the test is scored by the last one's ids."""
    logged = records(alone, "window")
    for window in (1, 2, 3):
        found = evaluate(str(at(alone, STEPS * window)), str(file_of(place, window)), trust=True)
        assert {name: found[name] for name in ("click/auc", "click/logloss")} == {
            name: logged[window][name] for name in ("click/auc", "click/logloss")
        }
    out = tmp_path / "run"
    assert run.train(settings(place, out, f"data.test={write_windows(tmp_path / 'test', 3)}")) == 0
    tested = records(out, "test")[-1]
    assert tested["click/logloss"] == evaluate(str(out), str(tmp_path / "test"), trust=True)["click/logloss"]


def test_without_windows_ids_are_admitted_once(place: Path, tmp_path: Path) -> None:
    out, options = tmp_path / "run", ("data.windows=null", f"data.train={file_of(place, 0)}")
    assert run.train(settings(place, out, *options)) == 0
    assert run.train(settings(place, out, *options, "training.epochs=2"), resume=True) == 0
    assert vocabularies(at(out, 2 * STEPS))[1] == expected(place)[0]
    assert state_of(out, 2 * STEPS)["item/weight"].shape == (42, 32) and not records(out, "growth")
    assert evaluate(str(out), str(file_of(place, 1)), trust=True)["click/auc"] > 0


def test_windows_cut_out_of_one_data_set_have_the_same_ids(place: Path, tmp_path: Path) -> None:
    """Row groups that two windows share are counted in each by its own rows."""
    parts = [pq.read_table(file_of(place, window)) for window in range(WINDOWS)]
    hours = [part.append_column("hour", pa.array([window] * len(part))) for window, part in enumerate(parts)]
    pq.write_table(pa.concat_tables(hours), tmp_path / "all.parquet", row_group_size=130)
    cut = "data.windows={path: %s, by: time, column: hour, width: 1}" % (tmp_path / "all.parquet")
    assert run.train(settings(place, tmp_path / "run", cut, f"data.batch_size={ROWS}")) == 0
    for window, ids in enumerate(expected(place)):
        assert vocabularies(at(tmp_path / "run", window + 1))[1] == ids


def test_a_run_that_begins_with_the_weights_of_another_knows_its_ids(alone: Path, place: Path, tmp_path: Path) -> None:
    windows, out = write_windows(tmp_path / "windows", WINDOWS - 1), tmp_path / "run"
    assert run.train(settings(windows, out, *OFTEN), source=str(alone)) == 0
    first = records(out, "window")[0]
    known = evaluate(str(alone), str(file_of(place, WINDOWS - 1)), trust=True)
    assert first["item/unknown"] == 0 and first["click/auc"] == known["click/auc"]
    there, here = vocabularies(at(alone, WINDOWS * STEPS))[1], vocabularies(at(out, STEPS))[1]
    old = set(there["item"]) - set(items_of(WINDOWS - 1)) - {None}
    assert set(here["item"]) - {None} == set(items_of(WINDOWS - 1)), "two windows without the others, one of each run"
    assert len(old) == BORN and records(out, "growth")[0]["item/freed"] == BORN


def test_an_exported_model_knows_the_ids_of_its_checkpoint(alone: Path, place: Path, tmp_path: Path) -> None:
    data = str(file_of(place, WINDOWS - 1))
    exported = export(str(alone), str(tmp_path / "model"), ExportOptions(runtime="eager"), data=data, trust=True)
    assert exported["eager: largest logit difference"] < 1e-5
    version = artefact.open(str(tmp_path / "model"))
    maps = row_maps(version.config.features, version.fitted)
    ids = expected(place)[-1]["item"]
    for id_ in (*items_of(0), *items_of(2)):
        assert maps["item"].row_of_int(int(id_)) == (2 + ids.index(id_) if id_ in ids else 1)
