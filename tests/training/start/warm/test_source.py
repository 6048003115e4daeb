"""`train --from`: what a new run begins with, on one and two ranks; ids, features, tables and layers that differ."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from safetensors.numpy import load_file

from interformer_rec.checkpoint import warm
from interformer_rec.checkpoint.manifest import Manifest
from interformer_rec.config import run as config
from interformer_rec.errors import InputError
from interformer_rec.storage import Storage
from interformer_rec.training import run
from interformer_rec.training.start.warm.source import StartFrom
from tests.forked import command
from tests.training.runs import SMALL, records
from tests.training.start.warm.begun import STILL, begin, known_to_both, load, newest, rows_of, scored, tree_of

ENSEMBLE = ["model.ensemble_members=2", "training.epochs=2", "optimizer.embedding.kind=adagrad"]


@pytest.fixture(scope="module")
def source(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained for eight steps; its newest checkpoint holds the rows that changed since the one before."""
    folder = tmp_path_factory.mktemp("source") / "run"
    increments = ["training.checkpoint.every_steps=5", "training.checkpoint.full_every=3"]
    assert run.train(load(tree_of(synthetic), folder, *increments)) == 0
    assert Manifest.read(Storage.open(newest(folder))).base is not None
    return folder


@pytest.fixture(scope="module")
def more(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of the source's data, in two files, with new items in the second that are more frequent than all others."""
    folder = tmp_path_factory.mktemp("more")
    table = pq.read_table(synthetic / "valid.parquet")
    pq.write_table(table, folder / "old.parquet")
    item = pa.array(np.resize([-5, -7, 100_000], len(table)), table["item_id"].type)
    pq.write_table(table.set_column(table.schema.get_field_index("item_id"), "item_id", item), folder / "new.parquet")
    return folder


def test_the_same_run_again_has_all_of_it(
    synthetic: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm, "BLOCK_ROWS", 7)
    same = load(tree_of(synthetic), tmp_path / "run")
    report, tables, dense = begin(same, StartFrom(str(source)))
    assert not report.fresh() and not report.notes and report.step == 8
    assert all(new == dropped == 0 for _, new, dropped in (*report.rows().values(), *report.dense().values()))
    _, again, weights = begin(same, StartFrom(str(newest(source))))
    for before, now in ((tables, again), (dense, weights)):
        assert before.keys() == now.keys()
        assert all(np.array_equal(before[name][what], now[name][what]) for name in before for what in before[name])
    assert all(parts["momentum1"].any() for parts in tables.values())
    assert all(parts["exp_avg"].any() and parts["step"] == 8 for parts in dense.values())


def test_ids_keep_their_rows_where_vocabularies_differ(
    synthetic: Path, source: Path, more: Path, tmp_path: Path
) -> None:
    still = load(
        tree_of(synthetic), tmp_path / "run", *STILL, f"data.train={more}", "data.batch_size=1", "data.shuffle_rows=0"
    )
    report, tables, _ = begin(still, StartFrom(str(source)))
    assert run.train(still, source=str(source)) == 0
    here, there = rows_of(tmp_path / "run", "item_id"), rows_of(source, "item_id")
    same = load(tree_of(synthetic), tmp_path / "same")
    _, before, _ = begin(same, StartFrom(str(source)))
    shared = sorted(here.keys() & there.keys())
    places = [[rows[id_] for id_ in shared] for rows in (here, there)]
    assert places[0] != places[1] and len(shared) > 20 and {-5, -7, 100_000} & here.keys()
    for what in ("weight", "momentum1"):  # bit for bit
        assert np.array_equal(tables["item_id"][what][places[0]], before["item_id"][what][places[1]])
    fresh = [here[id_] for id_ in here.keys() - there.keys()]
    assert not tables["item_id"]["momentum1"][fresh].any() and tables["item_id"]["weight"][fresh].any()
    kept, new, dropped = report.rows()["item_id"]
    assert (kept, new, dropped) == (len(shared) + 2, len(fresh), len(there.keys() - here.keys()))
    assert json.loads((tmp_path / "run" / "warm_start.json").read_text()) == report.to_dict()
    # rows whose ids both runs know have the same logits
    known = pq.read_table(more / "old.parquet")
    assert set(pc.unique(known["item_id"]).to_pylist()) <= here.keys()
    old = set(pc.unique(known["item_id"]).to_pylist()) <= there.keys()
    assert old, "the validation rows have no item that the training rows lack"
    scores = [
        scored(folder, more / "old.parquet", tmp_path / f"{n}.parquet")
        for n, folder in enumerate((source, tmp_path / "run"))
    ]
    known_rows = known_to_both(known, source, tmp_path / "run")
    assert known_rows.sum() > 20
    assert np.allclose(scores[0][known_rows], scores[1][known_rows], rtol=1e-5)


def test_features_tables_and_labels_come_and_go(synthetic: Path, source: Path, tmp_path: Path) -> None:
    tree = tree_of(synthetic)
    features = tree["features"]
    gone = next(
        feature
        for feature in features["ids"]
        if str(feature if isinstance(feature, str) else feature["name"]).startswith("field")
    )
    name = gone if isinstance(gone, str) else gone["name"]
    table = gone if isinstance(gone, str) else gone.get("table", name)
    features["ids"].append({"name": "again", "column": "item_id", "table": "second"})
    features["dense"] = [*features.get("dense", []), {"name": "mode_number", "column": "mode", "standardise": True}]
    features["tables"]["second"] = {"ids": "hash", "num_embeddings": 50}
    more_config = load(tree, tmp_path / "run", *STILL)
    assert run.train(more_config, source=str(source)) == 0
    begun = json.loads((tmp_path / "run" / "warm_start.json").read_text())
    assert begun["tables"]["second"] == {"kept": 0, "new": 51, "dropped": 0} and not begun["fresh"]
    data = synthetic / "test.parquet"
    found = [scored(folder, data, tmp_path / f"{n}.parquet") for n, folder in enumerate((source, tmp_path / "run"))]
    assert np.allclose(found[0], found[1], rtol=1e-5)
    features["ids"].remove(gone)
    del features["tables"][table]
    features["labels"] = [{"name": "other", "column": "label"}]
    report, _, _ = begin(load(tree, tmp_path / "less"), StartFrom(str(source)))
    assert report.rows()[table][2] > 0 and not report.fresh()
    assert report.dense()["heads"][0] == 0 and report.dense()["heads"][1] > 0


@pytest.mark.parametrize(
    "overrides, what",
    [
        (
            ["features.tables.item_id.embedding_dim=4", "features.tables.category.embedding_dim=4"],
            "table 'item_id': its rows have 8 floats there and 4 here",
        ),
        (["model.layers=2"], "weight cross_archs.2.x_norm.gain: there is no such weight there"),
        (["model.d=16"], "weight preprocess.group_embedding: its shape is [2, 8] there and [2, 16] here"),
    ],
)
def test_another_shape_is_named_and_starts_fresh_only_on_request(
    synthetic: Path, source: Path, tmp_path: Path, overrides: list[str], what: str
) -> None:
    tree = tree_of(synthetic)
    changed = load(tree, tmp_path / "run", *overrides)
    with pytest.raises(InputError) as said:
        begin(changed, StartFrom(str(source)))
    assert what in str(said.value) and "--from-partial" in str(said.value)
    assert not (tmp_path / "run").exists()
    report, tables, _ = begin(changed, StartFrom(str(source), partial=True))
    assert report.fresh() and what.partition(":")[2].strip() in report.text()
    if "model.layers=2" in overrides:
        _, before, _ = begin(load(tree, tmp_path / "same"), StartFrom(str(source)))
        assert all(np.array_equal(tables[name]["weight"], before[name]["weight"]) for name in before)


def test_another_optimizer_keeps_rows_without_their_state(synthetic: Path, source: Path, tmp_path: Path) -> None:
    tree = tree_of(synthetic)
    report, tables, _ = begin(load(tree, tmp_path / "run", "optimizer.embedding.kind=adagrad"), StartFrom(str(source)))
    _, before, _ = begin(load(tree, tmp_path / "same"), StartFrom(str(source)))
    assert "optimizer.embedding.kind differs" in report.text()
    assert all(np.array_equal(tables[name]["weight"], before[name]["weight"]) for name in before)
    assert not any(parts["momentum1"].any() for parts in tables.values())


def test_the_moving_average_goes_on(synthetic: Path, tmp_path: Path) -> None:
    tree = tree_of(synthetic)
    averaged = load(tree, tmp_path / "source", "optimizer.dense.ema=0.9")
    assert run.train(averaged) == 0
    _, _, dense = begin(averaged, StartFrom(str(tmp_path / "source")))
    assert all(not np.array_equal(parts["average"], parts["weight"]) for parts in dense.values())
    stored = load_file(newest(tmp_path / "source") / "dense.safetensors")
    assert all(np.array_equal(parts["average"], stored[f"average|{name}"]) for name, parts in dense.items())


@pytest.mark.parametrize(
    "how", ["row_wise", *(pytest.param(how, marks=pytest.mark.slow) for how in ("column_wise", "data_parallel"))]
)
def test_two_ranks_begin_as_one_does(synthetic: Path, source: Path, tmp_path: Path, how: str) -> None:
    tree = tree_of(synthetic)
    scores = []
    for ranks in (1, 2):
        folder = tmp_path / f"on {ranks}"
        path = tmp_path / f"{ranks}.yaml"
        path.write_text(config.to_yaml(load(tree, folder, *STILL, f"sharding.default={how}")))
        ended = command(ranks, "train", path, "--from", str(source))
        assert [rank.code for rank in ended] == [0] * ranks, ended
        scores.append(scored(folder, synthetic / "test.parquet", tmp_path / f"{ranks}.parquet"))
    expected = scored(source, synthetic / "test.parquet", tmp_path / "source.parquet")
    assert all(np.allclose(found, expected, rtol=1e-5) for found in scores)
    # and what two ranks wrote, one reads
    assert run.train(load(tree, tmp_path / "back", *STILL), source=str(tmp_path / "on 2")) == 0
    assert np.allclose(
        scored(tmp_path / "back", synthetic / "test.parquet", tmp_path / "back.parquet"), expected, rtol=1e-5
    )


def test_resume_needs_the_source_no_more(synthetic: Path, source: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(source, tmp_path / "copy")
    tree, folder = tree_of(synthetic), tmp_path / "run"
    assert (
        run.train(load(tree, folder, "training.max_steps=2"), resume=True, source=str(copy)) == 0
    )  # as a restart repeats it
    shutil.rmtree(copy)
    assert run.train(load(tree, folder, "training.max_steps=4"), resume=True) == 0
    assert run.train(load(tree, folder, "training.max_steps=5"), resume=True, source=str(copy)) == 0  # not read
    assert (folder / "warm_start.json").exists()
    shutil.rmtree(folder / "checkpoints")
    with pytest.raises(InputError, match=r"began with the weights of .* repeat --from"):
        run.train(load(tree, folder, "training.max_steps=4"), resume=True)


def test_members_of_an_ensemble_go_on_and_all_of_them_answer(synthetic: Path, tmp_path: Path) -> None:
    tree, test = tree_of(synthetic), synthetic / "test.parquet"
    assert run.train(load(tree, tmp_path / "source", *ENSEMBLE, "training.max_steps=null")) == 0
    tree["features"]["dense"].append({"name": "level", "column": "mode"})  # new: changes nothing at first
    begun = load(tree, tmp_path / "run", *ENSEMBLE, *STILL)  # one step of the first epoch, which trains member 0
    assert run.train(begun, source=str(tmp_path / "source")) == 0
    expected = scored(tmp_path / "source", test, tmp_path / "source.parquet")
    assert np.allclose(scored(tmp_path / "run", test, tmp_path / "run.parquet"), expected, rtol=1e-5)
    assert run.train(load(tree, tmp_path / "run", *ENSEMBLE, *STILL, "training.max_steps=2"), resume=True) == 0
    assert np.allclose(scored(tmp_path / "run", test, tmp_path / "again.parquet"), expected, rtol=1e-5)


def test_what_cannot_begin_is_refused(synthetic: Path, source: Path, tmp_path: Path) -> None:
    tree = tree_of(synthetic)
    with pytest.raises(InputError, match="--from-partial says how --from may begin"):
        run.train(load(tree, tmp_path / "run"), partial=True)
    with pytest.raises(InputError, match="neither a run folder"):
        run.train(load(tree, tmp_path / "run"), source=str(tmp_path))
    with pytest.raises(InputError, match=r"--from .*: model\.ensemble_members is 1 there and 2 here"):
        begin(load(tree, tmp_path / "run", *ENSEMBLE), StartFrom(str(source)))
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_moments_of_kept_numbers_stay(synthetic: Path, tmp_path: Path) -> None:
    tree = tree_of(synthetic)
    tree["features"]["dense"] = [{"name": "level", "column": "mode", "standardise": True}]
    assert run.train(load(tree, tmp_path / "source", "training.max_steps=1")) == 0
    other = pq.read_table(synthetic / "valid.parquet")
    other = other.filter(pc.equal(other["mode"], pc.max(other["mode"])))
    pq.write_table(other, tmp_path / "other.parquet")
    assert (
        run.train(
            load(tree, tmp_path / "run", f"data.train={tmp_path / 'other.parquet'}", "training.max_steps=1"),
            source=str(tmp_path / "source"),
        )
        == 0
    )
    moments = [
        json.loads((tmp_path / name / "features" / "fitted.json").read_text())["moments"] for name in ("source", "run")
    ]
    assert moments[0] == moments[1] and moments[0]["level"]["std"] > 0


def test_growing_tables_begin_with_the_ids_of_the_source(
    synthetic: Path, source: Path, more: Path, tmp_path: Path
) -> None:
    tree = tree_of(synthetic)
    known = rows_of(source, "item_id")
    for number, name in enumerate(("old", "new")):
        folder = tmp_path / "windows" / f"w={number}"
        folder.mkdir(parents=True)
        shutil.copy(more / f"{name}.parquet", folder)
    tree["features"]["tables"]["item_id"] = {"grow": {"rows": len(known) + 1}}
    tree["data"] = {**{key: value for key, value in tree["data"].items() if key not in ("train", "valid", "test")}}
    tree["data"]["windows"] = {"path": str(tmp_path / "windows")}
    settings = [line for line in (*SMALL, *STILL) if "training.epochs" not in line and "max_steps" not in line]
    text = yaml.safe_dump(tree)
    grows = config.parse_yaml(text, "test", [*settings, f"training.out={tmp_path / 'run'}"])
    assert run.train(grows, source=str(source)) == 0
    begun = json.loads((tmp_path / "run" / "warm_start.json").read_text())
    assert begun["tables"]["item_id"] == {"kept": len(known) + 2, "new": 0, "dropped": 0}
    first, second = records(tmp_path / "run", "window")
    assert first["item_id/unknown"] == 0 and second["item_id/unknown"] > 0.9
    here = rows_of(tmp_path / "run", "item_id")
    # new ids found the free row, and the rows of ids that this window's histories lack too
    new = here.keys() - known.keys()
    assert len(new) > 1 and new <= {-5, -7, 100_000} and len(known.keys() - here.keys()) == len(new) - 1
    stays = known_to_both(pq.read_table(synthetic / "test.parquet"), source, tmp_path / "run")
    found = [
        scored(folder, synthetic / "test.parquet", tmp_path / f"{n}.parquet")
        for n, folder in enumerate((source, tmp_path / "run"))
    ]
    assert stays.sum() > 20 and np.allclose(found[0][stays], found[1][stays], rtol=1e-5)
    assert run.train(grows, resume=True) == 0
