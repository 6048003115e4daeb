"""Runs whose histories are stored once: they train, evaluate, predict and export as runs whose rows have the histories in them."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.checkpoint.manifest import Manifest
from interformer_rec.config import run as config
from interformer_rec.config.run import RunConfig
from interformer_rec.errors import InputError
from interformer_rec.serving.arguments import ExportOptions
from interformer_rec.serving.export import export
from interformer_rec.storage import Storage
from interformer_rec.training import run
from interformer_rec.training.scoring import trained
from tests.data.event_store import samples
from tests.forked import begin
from tests.training.runs import SMALL, records
from tests.training.windows.test_follow import LATE, saved, until, windows

GIVEN = ["seen_item", "seen_shop", "seen_at", "bought_item"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """fat/ and plain/, with the same rows in valid.parquet and in two windows, and a store a history."""
    folder, draw = tmp_path_factory.mktemp("events"), np.random.default_rng(5)
    stores = samples.events(draw, 900, 20, 100)
    for name, table in stores.items():
        samples.write_store(folder / name, table)
    for split, count in {"windows/day=1/a": 300, "windows/day=2/a": 300, "valid": 120}.items():
        rows = samples.rows(draw, count, 20, 100)
        fat = samples.with_histories(rows, stores, samples.MOST)
        for form, table in {"fat": fat, "plain": rows}.items():
            path = folder / form / f"{split}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, path, row_group_size=90)
    return folder


Load = Callable[..., RunConfig]


@pytest.fixture
def load(data: Path, tmp_path: Path) -> Load:
    """A function: the form, overrides -> the config of a small model."""

    def loaded(form: str, *overrides: str) -> RunConfig:
        stores = {name: str(data / name) for name in samples.STORED}
        events = {"user": "user", "time": "at", "stores": stores, "cache": str(data / "cache")}
        tree: dict[str, Any] = {
            "name": form,
            "features": json.loads(samples.features().model_dump_json()),
            "data": {
                "train": str(data / form / "windows"),
                "valid": str(data / form / "valid.parquet"),
                "events": events if form == "plain" else None,
            },
            "model": {"kind": "interformer", "heads": 2},
        }
        path = tmp_path / f"{form}.yaml"
        path.write_text(json.dumps(tree), encoding="utf-8")
        return config.load(path, [*SMALL, f"training.out={tmp_path}/{form}", *overrides])

    return loaded


def weights(folder: Path) -> dict[str, Any]:
    """Names and checksums of what the newest checkpoint holds, the config left out."""
    newest = sorted((folder / "checkpoints").glob("step-*"))[-1]
    manifest = Manifest.read(Storage.open(str(newest)))
    return {name: manifest.content(name) for name in manifest.entries("features/") if name.endswith(".parquet")}


def losses(folder: Path, *splits: str) -> list[float]:
    return [
        one[key] for split in splits for one in records(folder, split) for key in one if key.endswith(("loss", "auc"))
    ]


def test_a_run_is_that_of_rows_with_histories_in_them(load: Load, data: Path, tmp_path: Path) -> None:
    for form in ("fat", "plain"):
        assert run.train(load(form)) == 0
    fat, plain = tmp_path / "fat", tmp_path / "plain"
    assert losses(plain, "train", "valid") == losses(fat, "train", "valid") and len(losses(plain, "train", "valid")) > 4
    assert weights(plain) == weights(fat)

    rows = str(data / "plain" / "valid.parquet")
    metrics = {form: trained.evaluate(str(tmp_path / form)) for form in ("fat", "plain")}
    assert metrics["plain"]["label/auc"] == metrics["fat"]["label/auc"]
    trained.predict(str(plain), rows, str(tmp_path / "plain.parquet"))
    trained.predict(str(fat), str(data / "fat" / "valid.parquet"), str(tmp_path / "fat.parquet"))
    scored, other = pq.read_table(tmp_path / "plain.parquet"), pq.read_table(tmp_path / "fat.parquet")
    assert scored.column_names == [*pq.read_schema(rows).names, "score_label"]  # no history is written out
    assert scored["score_label"].equals(other["score_label"])
    # rows that have their histories in them, by the same run
    trained.predict(
        str(plain), str(data / "fat" / "valid.parquet"), str(tmp_path / "own.parquet"), ["data.events=null"]
    )
    assert pq.read_table(tmp_path / "own.parquet")["score_label"].equals(other["score_label"])

    made = export(str(plain), str(tmp_path / "artefact"), ExportOptions(runtime="eager"))
    assert made["eager: largest logit difference"] < 1e-4
    (signature,) = (tmp_path / "artefact").glob("versions/*/signature.json")
    assert all(name in signature.read_text() for name in GIVEN)  # a request brings its histories


def test_a_run_over_windows_is_that_of_rows_with_histories_in_them(load: Load, data: Path, tmp_path: Path) -> None:
    tables = ["features.tables.item={ids: vocab, grow: {rows: 60}}"]
    for form in ("fat", "plain"):
        windows = f"data.windows.path={data}/{form}/windows"
        assert run.train(load(form, "data.train=null", "data.valid=null", windows, "training.epochs=1", *tables)) == 0
    assert losses(tmp_path / "plain", "window", "train") == losses(tmp_path / "fat", "window", "train")
    assert weights(tmp_path / "plain") == weights(tmp_path / "fat") and len(records(tmp_path / "plain", "window")) == 2


def test_a_run_that_follows_reads_events_that_came_before_the_next_window(
    load: Load, data: Path, tmp_path: Path
) -> None:
    """Window 2 has the events that came after window 1 was trained on, and window 1 what it had."""
    stores = {name: tmp_path / "growing" / name for name in samples.STORED}
    for name, store in stores.items():
        shutil.copytree(data / name, store)
    days = {form: tmp_path / f"{form}-windows" for form in ("fat", "plain")}
    for form, place in days.items():
        shutil.copytree(data / form / "windows" / "day=1", place / "day=1")
        (place / "day=1" / "_SUCCESS").touch()
    paths = ", ".join(f"{name}: {store}" for name, store in stores.items())
    events = f"data.events={{user: user, time: at, cache: {tmp_path}/cache, stores: {{{paths}}}}}"
    asked = [
        "data.train=null",
        "data.valid=null",
        "training.epochs=1",
        "data.windows.marker=_SUCCESS",
        "training.poll_seconds=0.1",
    ]
    config_ = load("plain", *asked, f"data.windows.path={days['plain']}", events, "training.stop_seconds=60")
    path, folder = tmp_path / "follow.yaml", tmp_path / "plain"
    path.write_text(config.to_yaml(config_), encoding="utf-8")
    process = begin("train", path, "--follow")
    until(lambda: windows(folder) == ["=1"] and saved(folder, 3))
    grown = {}
    for name, store in stores.items():
        table = pa.concat_tables([pq.read_table(file) for file in sorted(store.glob("*.parquet"))])
        later = table.set_column(1, "at", pa.array(np.asarray(table["at"]) + 100))
        grown[name] = pa.concat_tables([table, later])
        samples.write_store(store / "later", later)  # its name comes after those of the files that are there
    rows = pq.read_table(data / "plain" / "windows" / "day=2" / "a.parquet", partitioning=None)
    times = [None if at is None else at + 100 for at in rows["at"].to_pylist()]
    rows = rows.set_column(1, "at", pa.array(times, pa.int64()))
    for form, table in {"fat": samples.with_histories(rows, grown, samples.MOST), "plain": rows}.items():
        (days[form] / "day=2").mkdir()
        pq.write_table(table, days[form] / "day=2" / "a.parquet", row_group_size=90)
        (days[form] / "day=2" / "_SUCCESS").touch()
    until(lambda: windows(folder) == ["=1", "=2"] and saved(folder, 6))
    os.kill(process.pid, signal.SIGTERM)  # type: ignore[arg-type]
    process.join(LATE)
    assert process.exitcode == 128 + signal.SIGTERM
    assert run.train(load("fat", *asked, f"data.windows.path={days['fat']}")) == 0
    assert losses(folder, "window") == losses(tmp_path / "fat", "window")
    assert len(list((tmp_path / "cache").glob("*-*"))) == 4  # two versions of each store


def test_a_store_that_only_the_run_names_waits_for_trust(load: Load, data: Path, tmp_path: Path) -> None:
    assert run.train(load("plain", "training.max_steps=1", "training.epochs=1")) == 0
    checkpoint = str(next((tmp_path / "plain" / "checkpoints").glob("step-*")))
    rows = str(data / "plain" / "valid.parquet")
    with pytest.raises(InputError, match=r"only the checkpoint.*--set data.events=.*--trust-run"):
        trained.evaluate(checkpoint, rows)
    assert trained.evaluate(checkpoint, rows, trust=True)["rows"] == 120
    paths = ", ".join(f"{name}: {data / name}" for name in samples.STORED)
    own = f"data.events={{user: user, time: at, stores: {{{paths}}}, cache: {tmp_path}/cache}}"
    assert trained.evaluate(checkpoint, rows, [own])["rows"] == 120


def test_what_the_schema_does_not_have_is_refused(load: Load) -> None:
    for override, said in (
        ("data.events.stores.gone=x", "names 'gone', which is no group of features.sequences"),
        ("data.events.user=seen_item", "column 'seen_item' of history 'seen' comes from data.events.stores"),
        ("features.group=bought_item", "something else reads a column of that name"),
    ):
        with pytest.raises(InputError, match=said):
            load("plain", override)
