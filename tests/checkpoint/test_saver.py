"""Saving while training goes on: what is saved, what is kept, what an error does; two ranks and a store that is slow."""

import time
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from fsspec.implementations.local import LocalFileSystem

from interformer_rec.checkpoint import saver as saver_module
from interformer_rec.checkpoint import write as checkpoint
from interformer_rec.checkpoint.checked import PIECE
from interformer_rec.checkpoint.evaluated import Evaluated, Score
from interformer_rec.checkpoint.manifest import Base, Manifest
from interformer_rec.checkpoint.read import load
from interformer_rec.checkpoint.retention import Checkpoints
from interformer_rec.checkpoint.saver import Saver
from interformer_rec.checkpoint.stored import StoredTables
from interformer_rec.checkpoint.tensor_file import Part
from interformer_rec.checkpoint.write import Content, SaveError, write
from interformer_rec.config.run import CheckpointConfig
from interformer_rec.distributed.first_rows import begin_rows
from interformer_rec.storage import Storage
from tests.checkpoint.damage import damage
from tests.distributed.tiny import build, train, whole_state
from tests.launch import on_one, on_ranks


class SlowFileSystem(LocalFileSystem):
    """A disk that takes half a second to open a file for writing."""

    protocol = "slow"
    seconds = 0.5

    def _open(self, path, mode="rb", **options):
        if "w" in mode:
            time.sleep(self.seconds)
        return super()._open(path, mode, **options)


fsspec.register_implementation("slow", SlowFileSystem, clobber=True)


def equal(state, expected):
    assert state.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(state[name], array, err_msg=name)


def _save_slowly(env, folder, asynchronous):
    parallel = build(env, "row_wise", bag_a="table_wise", bag_b="data_parallel")
    records = []
    saver = Saver(
        Checkpoints(f"slow://{folder}"), parallel, env, CheckpointConfig(asynchronous=asynchronous), done=records.append
    )
    train(env, parallel, 0, 3)
    state = whole_state(env, parallel)
    saver.save({"step": 3})
    finished = (Path(folder) / "step-00000003" / "manifest.json").exists()
    train(env, parallel, 3, 6)  # must not reach the file
    saver.save({"step": 6})
    saver.wait()
    return state, whole_state(env, parallel), finished, records


@pytest.mark.parametrize("asynchronous", [True, False])
def test_training_waits_for_the_copy_and_the_file_holds_the_moment_of_saving(tmp_path, asynchronous):
    results = on_ranks(2, _save_slowly, str(tmp_path), asynchronous)
    third, sixth, *_ = results[0]
    for _, _, finished, records in results:
        assert finished is not asynchronous
        assert [record["asynchronous"] for record in records] == [asynchronous] * 2
        assert (records[0]["stall_seconds"] < records[0]["write_seconds"]) is asynchronous
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.newest_first() == ["step-00000006", "step-00000003"]
    assert checkpoints.best() == "step-00000006"

    def load_both(env):
        for name, expected in (("step-00000003", third), ("step-00000006", sixth)):
            parallel = build(env)
            load(checkpoints.storage.folder(name), parallel, env)
            equal(whole_state(env, parallel), expected)

    on_one(load_both)


def _save_increments(env, folder, kind):
    checkpoint.FULL_ABOVE = 1.0  # in tables of 20 rows most are touched
    parallel = build(env, "column_wise", kind, bag_b="data_parallel", seq_b="row_wise")
    saver = Saver(Checkpoints(folder), parallel, env, CheckpointConfig(full_every=4, keep=9))
    states = []
    for step in range(5):
        train(env, parallel, step, step + 1)
        states.append(whole_state(env, parallel))
        saver.save({"step": step})
    saver.wait()
    return states


def read_by_rows(manifest, state, before):
    """Blocks and single rows are the table; rows that are not touched are those of the full checkpoint."""
    stored = StoredTables(manifest)
    for table, (rows, _) in stored.shapes.items():
        whole = state[f"{table}/weight"]
        for first, block in stored.blocks(table):
            np.testing.assert_array_equal(block, whole[first : first + len(block)])
        some = np.arange(0, rows, 3)
        np.testing.assert_array_equal(stored.take(table, some), whole[some])
        touched = stored.touched(table)
        if manifest.base is None or table == "bag_b":  # data-parallel: any row may have changed
            assert touched is None
            continue
        changed = np.flatnonzero((whole != before[f"{table}/weight"]).any(axis=1))
        assert set(changed) <= set(touched.tolist())


@pytest.mark.parametrize("kind", ["adagrad", "rowwise_adagrad"])
def test_increments_hold_the_touched_rows_and_load_like_full_ones(tmp_path, kind):
    states = on_ranks(2, _save_increments, str(tmp_path), kind)[0]
    manifests = [Manifest.read(Storage.open(tmp_path / f"step-{step:08d}")) for step in range(5)]
    first = Base("step-00000000", manifests[0].sha256)
    assert [manifest.base for manifest in manifests] == [None, first, first, first, None]
    for before, state, manifest in zip([None, *states], states, manifests, strict=False):
        read_by_rows(manifest, state, before)
    keys = set(manifests[1].tensor_file("rank-00000.safetensors").keys())
    assert "seq_a|0|0|rows" in keys and "bag_b|0|0|rows" not in keys  # data-parallel: all rows

    def load_all(env, plan):
        for step, expected in enumerate(states):
            parallel = build(env, plan, kind)
            load(Storage.open(tmp_path / f"step-{step:08d}"), parallel, env)
            merged = kind == "rowwise_adagrad"  # accumulators of column shards, see restore._fill
            found = whole_state(env, parallel)
            for name in expected:
                if not (merged and "momentum1" in name):
                    np.testing.assert_array_equal(found[name], expected[name], err_msg=f"{step} {name}")

    on_one(load_all, "table_wise")
    on_ranks(2, _load_same_plan, str(tmp_path), kind, states)


def _load_same_plan(env, folder, kind, states):
    for step, expected in enumerate(states):
        parallel = build(env, "column_wise", kind, bag_b="data_parallel", seq_b="row_wise")
        load(Storage.open(f"{folder}/step-{step:08d}"), parallel, env)
        equal(whole_state(env, parallel), expected)


def evaluated(value: float, monitor: str = "click/auc", higher: bool = True) -> Evaluated:
    return Evaluated(Score(monitor, higher, value), {"evaluation": {monitor: value}})


def test_what_is_kept(tmp_path):
    """The newest two, the best, and the full ones that these build on; nothing unfinished."""

    def save(env):
        parallel = build(env)
        saver = Saver(Checkpoints(tmp_path), parallel, env, CheckpointConfig(full_every=3, keep=2))
        (tmp_path / "step-00000099").mkdir()  # a killed run's
        for step in range(8):
            saver.save({"step": step})
            saver.conclude(step, evaluated(1.0 if step == 1 else 0.5))
        saver.wait()

    on_one(save)
    # full: 0, 3, 6; newest: 7, 6; best: 1, which builds on 0.
    assert Checkpoints(tmp_path).newest_first() == [f"step-{step:08d}" for step in (7, 6, 1, 0)]
    assert not (tmp_path / "step-00000099").exists()
    assert all(damage(Storage.open(tmp_path / name)) == [] for name in Checkpoints(tmp_path).newest_first())


def _fail_once(env, folder):
    parallel = build(env)
    saver = Saver(Checkpoints(folder), parallel, env, CheckpointConfig(full_every=3))
    saver.save({"step": 1})
    saver.wait()
    (Path(folder) / "step-00000002").write_text("a file where the folder should be") if env.is_main else None
    torch.distributed.barrier()
    train(env, parallel, 0, 1)
    saver.save({"step": 2})
    try:
        saver.save({"step": 3})
    except SaveError as error:
        message = str(error)
    saver.save({"step": 3})
    saver.wait()
    return message


def test_a_failure_is_raised_by_the_next_call_on_all_ranks(tmp_path):
    messages = on_ranks(2, _fail_once, str(tmp_path))
    assert len(set(messages)) == 1 and "step-00000002' was not written: rank 0" in messages[0]
    assert Checkpoints(tmp_path).newest_first() == ["step-00000003", "step-00000001"]
    assert Manifest.read(Storage.open(tmp_path / "step-00000003")).base.name == "step-00000001"


def test_without_room_on_the_host_it_writes_while_training_waits(tmp_path, monkeypatch):
    records = []

    def save(env):
        saver = Saver(Checkpoints(tmp_path), build(env), env, CheckpointConfig(), done=records.append)
        monkeypatch.setattr(saver_module, "free_memory", lambda: saver_module.HEADROOM - 1)
        saver.save({"step": 1})

    on_one(save)
    assert records[0]["asynchronous"] is False and records[0]["host_bytes"] == PIECE
    assert saver_module.free_memory() < saver_module.HEADROOM


def _peak(env, folder):
    """Bytes of memory that writing 400 MB takes at most, beyond what is there."""
    table = torch.ones(1_600_000, 64)
    parts = {
        "t|0|0|weight": Part(table[:, :32]),
        "t|0|32|weight": Part(table[:, 32:]),
    }  # column shards: copied to be written
    status = Path("/proc/self/status")

    def memory(name):
        return 1024 * int(status.read_text().split(f"{name}:")[1].split()[0])

    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from now on
    before = memory("VmRSS")
    write(Storage.open(folder), Content(parts, {}, {}, {}), env)
    return memory("VmHWM") - before


def test_writing_holds_pieces_not_tables(tmp_path):
    assert on_ranks(1, _peak, str(tmp_path / "step"))[0] < 6 * PIECE


def _save_while_files_change(env, folder):
    """A full checkpoint, an increment, two more after a file of the run was written again and rows were changed by hand."""
    parallel = build(env, "row_wise", "adagrad")
    names = ("kept", "grown")
    files = {f"run/features/{name}.parquet": Path(folder) / f"{name}.parquet" for name in names}
    options = CheckpointConfig(keep=9, full_every=9)
    saver = Saver(Checkpoints(f"{folder}/saved"), parallel, env, options, attachments=lambda: files)

    def put(name, text):
        if env.is_main:
            (Path(folder) / f"{name}.parquet").write_text(text)

    for name in names:
        put(name, "of the start")
    saver.save({"step": 1})
    train(env, parallel, 0, 1)
    saver.save({"step": 2})
    saver.wait()
    put("grown", "of a window")
    rows = {"bag_a": np.array([0, 7, 10]), "seq_a": np.array([16])}
    begin_rows(parallel, rows)
    saver.mark(rows)
    saver.save({"step": 3})
    train(env, parallel, 1, 2)
    saver.save({"step": 4})
    saver.wait()
    return whole_state(env, parallel)


def test_an_increment_holds_the_files_of_the_run_that_were_written_again_and_the_rows_that_were_reset(tmp_path):
    state = on_ranks(2, _save_while_files_change, tmp_path)[0]
    checkpoints = Checkpoints(str(tmp_path / "saved"))
    manifests = {int(name[-1]): Manifest.read(checkpoints.storage.folder(name)) for name in checkpoints.newest_first()}
    assert [manifests[step].base is not None for step in (1, 2, 3, 4)] == [False, True, True, True]
    held = {step: {n[13:-8] for n in m.files if n.startswith("run/")} for step, m in manifests.items()}
    assert held == {1: {"kept", "grown"}, 2: set(), 3: {"grown"}, 4: {"grown"}}
    for step, text in ((1, b"of the start"), (2, b"of the start"), (3, b"of a window"), (4, b"of a window")):
        assert manifests[step].content("run/features/grown.parquet") == text
        assert manifests[step].content("run/features/kept.parquet") == b"of the start"
        assert len(manifests[step].entries("run/features/")) == 2 and not damage(manifests[step].storage)

    def loaded(env):
        parallel = build(env, kind="adagrad")
        load(manifests[4].storage, parallel, env)
        equal(whole_state(env, parallel), state)

    on_one(loaded)
