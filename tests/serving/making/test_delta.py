"""A delta holds what has changed and nothing else: applied to the state before it is the full export of the same weights, bit for bit."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from benchmarks.serving.whole_tables import stored_tables
from interformer_rec.checkpoint.manifest import Manifest
from interformer_rec.checkpoint.stored import StoredTables
from interformer_rec.errors import InputError
from interformer_rec.serving import artefact
from interformer_rec.serving.arguments import ExportOptions
from interformer_rec.serving.encode.encoder import Encoder
from interformer_rec.serving.export import export
from interformer_rec.serving.making.changed_rows import StoredRows
from interformer_rec.serving.published import pointer
from interformer_rec.serving.published.state import State, scorer_after
from interformer_rec.serving.runtimes import dense_weights
from interformer_rec.storage import Storage


def test_replayed_deltas_are_the_full_export_bit_for_bit(published, began, tmp_path):
    for at in (1, 2):
        place = published.copied(tmp_path / str(at), at)
        state = State.open(str(place))
        full = tmp_path / f"full{at}"
        data = began[0]["data"]["valid"]
        export(str(published.checkpoints[at]), str(full), ExportOptions(runtime="eager"), data=data)
        exported = State.open(str(full))
        ours, theirs = stored_tables(state), stored_tables(exported)
        assert ours.keys() == theirs.keys()
        for name, parts in ours.items():
            for key, part in parts.items():
                assert part.tobytes() == theirs[name][key].tobytes()
        newest = [delta for delta in state.deltas if delta.said.dense][-1]
        dense, wanted = dense_weights(newest.folder), dense_weights(exported.version.folder)
        assert dense.keys() == wanted.keys()
        assert all(dense[name].numpy().tobytes() == wanted[name].numpy().tobytes() for name in dense)
        rows = [one["row"] for one in exported.golden()]
        version = state.version
        inputs = Encoder(version.config.features, state.fitted, version.signature).score(rows)
        after = scorer_after(version.scorer(), version, state.deltas, version.preferred)(inputs)
        np.testing.assert_array_equal(after, exported.version.scorer()(inputs))


def test_a_delta_says_what_it_is_and_holds_changed_rows_alone(published):
    first, second = published.said[1:]
    assert (first["deltas"], second["deltas"]) == (1, 2)
    assert first["version"] == second["version"] == published.said[0]["version"]
    assert 0 < first["changed rows"] < first["of rows"]
    assert first["eager: largest logit difference"] <= 1e-5
    folder = published.place / "deltas" / second["delta"]
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"delta.json", "dense.safetensors", "golden.jsonl", "manifest.json"} <= files
    said = json.loads((folder / "delta.json").read_text(encoding="utf-8"))
    assert said["before"]["delta"] == first["delta"]
    before = stored_tables(State.open(str(published.place)))
    assert set(said["tables"]) <= set(before)
    assert sum(table["rows"] for table in said["tables"].values()) == second["changed rows"]
    assert artefact.open(str(published.place)).name == first["version"]  # the version itself is untouched


def test_of_an_incremental_checkpoint_only_rows_that_training_has_touched_are_compared(
    published, began, tmp_path, monkeypatch
):
    place = published.copied(tmp_path, at=0)
    tables = StoredTables(Manifest.read(Storage.open(published.checkpoints[1])))
    known = {name: rows for name in tables.shapes if (rows := tables.touched(name)) is not None}
    assert known and sum(map(len, known.values())) < sum(tables.shapes[name][0] for name in known)
    whole, some = [], []
    blocks, take = StoredTables.blocks, StoredRows.take
    monkeypatch.setattr(StoredTables, "blocks", lambda self, table: whole.append(table) or blocks(self, table))
    monkeypatch.setattr(StoredRows, "take", lambda self, t, rows: some.append((t, len(rows))) or take(self, t, rows))
    export(str(published.checkpoints[1]), str(place), ExportOptions(delta=True), data=began[0]["data"]["valid"])
    assert set(whole) == set(tables.shapes) - set(known)
    assert {table: rows for table, rows in some if table in known} == {name: len(rows) for name, rows in known.items()}
    monkeypatch.undo()
    before = stored_tables(State.open(str(published.copied(tmp_path / "as published", at=1))))
    for name, parts in stored_tables(State.open(str(place))).items():
        assert all(part.tobytes() == before[name][key].tobytes() for key, part in parts.items())


def test_without_a_change_nothing_is_published(published, began, tmp_path):
    place = published.copied(tmp_path)
    before = (place / "current.json").read_bytes()
    said = export(str(published.checkpoints[2]), str(place), ExportOptions(delta=True), data=began[0]["data"]["valid"])
    assert said["delta"] is None and "nothing has changed" in said["nothing was published"]
    assert (place / "current.json").read_bytes() == before
    assert len(list((place / "deltas").iterdir())) == 2


def test_another_model_becomes_a_full_version_and_says_why(published, exported, tmp_path):
    place = published.copied(tmp_path)
    said = export(str(exported[0]), str(place), ExportOptions(delta=True))
    assert "another model" in said["a full version, because"]
    now = pointer.current(str(place))
    assert now.delta is None and now.version == said["version"] != published.said[0]["version"]


def test_after_a_lost_delta_a_full_version_is_made(published, began, tmp_path):
    place = published.copied(tmp_path)
    shutil.rmtree(place / "deltas" / published.said[1]["delta"])
    said = export(str(published.checkpoints[1]), str(place), ExportOptions(delta=True), data=began[0]["data"]["valid"])
    assert "was never finished, or removed" in said["a full version, because"]
    assert State.open(str(place)).deltas == ()


def test_the_first_delta_is_a_version_and_one_of_so_many_is_again(published, began, tmp_path):
    out = str(tmp_path / "served")
    said = []
    for at in (0, 1, 2, 0, 1, 2, 0, 1):
        options = ExportOptions(runtime="eager" if not said else None, delta=True, full_every=3, keep=1)
        said.append(export(str(published.checkpoints[at]), out, options, began[0]["data"]["valid"]))
    assert [one.get("deltas", 0) for one in said] == [0, 1, 2, 0, 1, 2, 0, 1]
    assert said[0]["a full version, because"] == "there is none yet"
    assert "2 deltas follow the one before" in said[3]["a full version, because"]
    assert [path.name for path in (tmp_path / "served" / "versions").iterdir()] == [said[6]["version"]]
    assert [path.name for path in (tmp_path / "served" / "deltas").iterdir()] == [said[7]["delta"]]
    assert set(said[6]["removed"].split(", ")) == {
        f"versions/{said[3]['version']}",
        f"deltas/{said[4]['delta']}",
        f"deltas/{said[5]['delta']}",
    }
    assert State.open(out).now.version == said[6]["version"]


def test_options_that_the_version_does_not_have_are_refused(published, tmp_path):
    place = published.copied(tmp_path)
    with pytest.raises(InputError, match=r"--tables int8: version .* has fp32, and a delta to it has the same"):
        export(str(published.checkpoints[1]), str(place), ExportOptions(tables="int8", delta=True))


@pytest.mark.parametrize("form", ["fp16", "int8"])
def test_rows_are_stored_as_those_of_the_version(checkpoints, began, tmp_path, form):
    data = began[0]["data"]["valid"]
    place, full = str(tmp_path / "served"), str(tmp_path / "full")
    export(str(checkpoints[0]), place, ExportOptions(tables=form, runtime="eager"), data=data)
    export(str(checkpoints[1]), place, ExportOptions(delta=True), data=data)
    export(str(checkpoints[1]), full, ExportOptions(tables=form, runtime="eager"), data=data)
    ours, theirs = State.open(place), State.open(full)
    assert {table.form for table in ours.deltas[0].said.tables.values()} == {form}
    for name, parts in stored_tables(theirs).items():
        assert all(part.tobytes() == stored_tables(ours)[name][key].tobytes() for key, part in parts.items())
    version = ours.version
    scorer = scorer_after(version.scorer(), version, ours.deltas, "eager")
    theirs_tables = theirs.version.scorer().tables
    for name, table in scorer.tables.items():
        every = np.arange(table.rows)
        np.testing.assert_array_equal(table.take(every), theirs_tables[name].take(every))


@pytest.mark.release
@pytest.mark.parametrize("runtime", ["aoti", "onnx"])
def test_graphs_take_the_weights_of_a_delta_and_keep_those_of_the_state_before(
    checkpoints, began, tmp_path, runtime, capfd
):
    data = began[0]["data"]["valid"]
    place, full = str(tmp_path / "served"), str(tmp_path / "full")
    export(str(checkpoints[0]), place, ExportOptions(runtime=runtime), data=data)
    for checkpoint in checkpoints[1:]:
        said = export(str(checkpoint), place, ExportOptions(delta=True), data=data)
        assert said[f"{runtime}: largest logit difference"] <= 1e-5
    export(str(checkpoints[2]), full, ExportOptions(runtime="eager"), data=data)
    ours = State.open(place)
    version, rows = ours.version, [one["row"] for one in ours.golden()]
    inputs = Encoder(version.config.features, ours.fitted, version.signature).score(rows)
    first = version.scorer()
    before = first(inputs)
    states = [scorer_after(first, version, ours.deltas[:at], runtime) for at in (1, 2)]
    np.testing.assert_allclose(states[1](inputs), artefact.open(full).scorer()(inputs), atol=1e-5)
    assert np.abs(states[0](inputs) - states[1](inputs)).max() > 1e-3
    np.testing.assert_array_equal(first(inputs), before)
    capfd.readouterr()
    said = export(
        str(checkpoints[2]), place, ExportOptions(runtime=runtime), data=data
    )  # a version: its graphs are those of the first
    assert said[f"{runtime}: largest logit difference"] <= 1e-5 and "traced" not in capfd.readouterr().err
    newest = artefact.open(place, said["version"])
    np.testing.assert_allclose(newest.scorer()(inputs), states[1](inputs), atol=1e-6)
    if runtime == "aoti":
        packages = [graph.packages for graph in first.graphs]
        states[0] = scorer_after(states[1], version, ours.deltas[:1], runtime)  # what nobody uses is used again
        scorer_after(states[1], version, ours.deltas[:1], runtime)
        scorer_after(states[1], version, ours.deltas[:1], runtime)
        assert [len(one.free) for one in packages] == [1, 1]
