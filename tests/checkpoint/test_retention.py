"""Which checkpoint is the best and which may go, from what lies in their folders alone."""

from __future__ import annotations

import math
import shutil
import zlib
from pathlib import Path

import pytest

from interformer_rec.checkpoint.evaluated import FILE, Evaluated, Score
from interformer_rec.checkpoint.manifest import Base, Manifest
from interformer_rec.checkpoint.retention import Checkpoints
from interformer_rec.errors import DamagedError
from interformer_rec.storage import Storage


def name(step: int) -> str:
    return f"step-{step:08d}"


def made(
    folder: Path, step: int, value: float | None = None, *, base: int | None = None, monitor="auc", higher=True
) -> Manifest:
    """A checkpoint without tensors; `value` is that of its evaluation, if it has one."""
    storage = Storage.open(folder / name(step))
    on = None if base is None else Base(name(base), Manifest.read(Storage.open(folder / name(base))).sha256)
    with storage.create("state.json") as file:
        file.write(b"{}")
    Manifest(storage, {"state.json": {"bytes": 2, "crc32": [zlib.crc32(b"{}")]}}, on).write()
    manifest = Manifest.read(storage)
    if value is not None:
        Evaluated(Score(monitor, higher, value), {}).write(manifest)
    return manifest


@pytest.mark.parametrize("higher, values, best", [
    (True, {1: 0.6, 2: 0.8, 3: 0.7, 4: None}, 2),
    (True, {1: 0.6, 2: 0.8, 3: 0.8}, 2),  # of equal ones the first, as patience counts
    (False, {1: 0.6, 2: 0.5, 3: 0.7}, 2),
    (False, {1: 0.0, 2: -0.1, 3: 0.7}, 2),  # ne can be anything
    (True, {1: math.nan, 2: 0.1, 3: math.nan}, 2),
    (True, {1: math.nan, 2: math.nan}, 2),  # not defined: the newest
    (True, {1: None, 2: None, 3: None}, 3),
])  # fmt: skip
def test_the_best_is_known_from_the_folders_alone(tmp_path, higher, values, best):
    for step, value in values.items():
        made(tmp_path, step, value, higher=higher)
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.best() == name(best)
    assert sorted(checkpoints.ranked().names) == sorted(map(name, values)) and checkpoints.ranked().damaged == []


def test_another_monitor_from_now_on_decides(tmp_path):
    made(tmp_path, 1, 0.9, monitor="auc")
    made(tmp_path, 2, 0.5, monitor="logloss", higher=False)
    made(tmp_path, 3, 0.6, monitor="logloss", higher=False)
    assert Checkpoints(tmp_path).ranked().names == [name(2), name(3), name(1)]


def test_steps_are_numbers(tmp_path):
    made(tmp_path, 99_999_999)
    made(tmp_path, 100_000_000)
    (tmp_path / "step-of mine").mkdir()
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.newest_first() == ["step-100000000", "step-99999999"]
    checkpoints.tidy("step-100000000", keep=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-100000000", "step-of mine"]


def test_the_best_and_its_base_outlive_the_newest(tmp_path):
    made(tmp_path, 1)
    made(tmp_path, 2, 0.9, base=1)
    for step in (3, 4, 5):
        made(tmp_path, step, 0.1)
    Checkpoints(tmp_path).tidy(name(5), keep=2)
    assert Checkpoints(tmp_path).newest_first() == [name(step) for step in (5, 4, 2, 1)]


def test_a_future_that_was_given_up_goes_and_does_not_count(tmp_path):
    """4 and 5 were damaged, training went on from 3 and has saved 6: the newest two are 6 and 3."""
    for step in (1, 2, 3, 4, 5):
        made(tmp_path, step, 0.9 if step == 5 else 0.5)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.continue_from(name(3))
    made(tmp_path, 6, 0.4)
    made(tmp_path, 7)  # of a run before: newer than the new one
    checkpoints.tidy(name(6), keep=2)
    assert checkpoints.newest_first() == [name(step) for step in (6, 3, 1)]  # 1 is the best of what is left


def test_a_damaged_one_does_not_count_and_goes_with_its_age(tmp_path):
    for step in (1, 2, 3):
        made(tmp_path, step)
    (tmp_path / name(1) / "manifest.json").write_text("{")
    (tmp_path / name(3) / "manifest.json").write_text("{")
    made(tmp_path, 4)
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.ranked().names == [name(4), name(2)]
    assert [text.partition("manifest.json")[0][-14:-1] for text in checkpoints.ranked().damaged] == [name(3), name(1)]
    checkpoints.tidy(name(4), keep=2)
    assert checkpoints.newest_first() == [name(4), name(3), name(2)]


def test_what_a_store_does_not_give_today_is_not_deleted(tmp_path, monkeypatch):
    for step in (1, 2, 3, 4):
        made(tmp_path, step, 0.9 if step == 1 else 0.5)
    get = Storage.get

    def refuse(storage, file):
        if storage.name == name(1):
            raise PermissionError(13, "not now", file)
        return get(storage, file)

    monkeypatch.setattr(Storage, "get", refuse)
    Checkpoints(tmp_path).tidy(name(4), keep=1)
    monkeypatch.undo()
    assert Checkpoints(tmp_path).newest_first()[0] == name(4) and Checkpoints(tmp_path).best() == name(1)


def test_an_evaluation_that_cannot_be_read_leaves_the_checkpoint(tmp_path):
    made(tmp_path, 1, 0.5)
    made(tmp_path, 2, 0.9)
    (tmp_path / name(2) / FILE).write_text("[")
    ranked = Checkpoints(tmp_path).ranked()
    assert ranked.names == [name(1), name(2)] and FILE in ranked.damaged[0]


@pytest.mark.parametrize("later, goes", [(0.8, False), (0.95, True), (0.9, True)])
def test_one_whose_evaluation_cannot_be_read_stays_while_it_may_be_the_best(tmp_path, later, goes):
    made(tmp_path, 1, 0.5)
    made(tmp_path, 2, 0.9)
    (tmp_path / name(2) / FILE).write_text("[")
    checkpoints = Checkpoints(tmp_path)
    for step, value in ((3, 0.6), (4, later), (5, 0.7)):  # each knows the best of all before it, 2 included
        manifest = made(tmp_path, step)
        Evaluated(Score("auc", True, value, max(0.9, later if step > 3 else 0)), {}).write(manifest)
        checkpoints.tidy(name(step), keep=1)
    assert (name(2) not in checkpoints.newest_first()) == goes
    assert checkpoints.best() == (name(4) if goes or later == 0.8 else name(2))


@pytest.mark.parametrize("what", ["another run's", "written anew", "itself incremental"])
def test_an_increment_has_one_base_and_no_other(tmp_path, what):
    here, other = tmp_path / "here", tmp_path / "other"
    made(here, 1)
    made(here, 2, base=1)
    assert Manifest.read(Storage.open(here / name(2))).base_manifest() is not None
    if what == "another run's":  # the same files, one byte of state more
        made(other, 1)
        (other / name(1) / "state.json").write_bytes(b"{ }")
        Manifest(
            Storage.open(other / name(1)), {"state.json": {"bytes": 3, "crc32": [zlib.crc32(b"{ }")]}}, None
        ).write()
        made(other, 2, base=1)
        shutil.rmtree(here / name(2))
        shutil.copytree(other / name(2), here / name(2))
    elif what == "written anew":
        Manifest(Storage.open(here / name(1)), {}, None).write()
    else:
        made(here, 0)
        on = Base(name(0), Manifest.read(Storage.open(here / name(0))).sha256)
        Manifest(Storage.open(here / name(1)), {}, on).write()
        found = Manifest.read(Storage.open(here / name(1)))
        Manifest(Storage.open(here / name(2)), {}, Base(name(1), found.sha256)).write()
    manifest = Manifest.read(Storage.open(here / name(2)))
    for use in (manifest.base_manifest, manifest.require_sizes, lambda: manifest.entries("run/")):
        with pytest.raises(DamagedError, match=r"builds on step-00000001, and .*another checkpoint of that name"):
            use()
