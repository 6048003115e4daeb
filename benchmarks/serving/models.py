"""The models that are measured: KuaiRand's schema over made-up rows, trained for a few steps, exported. In: a folder; out: Exported.

The split model's graphs are made once; its fp16 and int8 tables are exports of their own, without graphs. Events: a user's `watch`
history has as many as are asked for, `long_watch` and `like` are parts of it, as in the data set.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.run import RunConfig, parse
from interformer_rec.serving.arguments import ExportOptions
from interformer_rec.serving.export import export
from interformer_rec.serving.tables import FORMS, Form
from interformer_rec.training import run

CONFIG = Path(__file__).parents[2] / "configs" / "kuairand_pure.yaml"
DONE = "exported.json"
IDS = {"video": 7_000, "author": 6_000, "tag": 46, "user_id": 3_000, "music_id": 4_000}  # table -> distinct ids
OTHERS = 20  # distinct ids of every other table
PARTS = {"watch": 1, "long_watch": 3, "like": 20}  # of `watch`, every n-th event


@dataclass(frozen=True)
class Size:
    """Of data and model."""

    rows: int  # trained on
    compared: int  # that export compares, and AUC is of
    steps: int
    longest: int  # events of a history
    d: int
    embedding_dim: int
    runtime: str  # of the split model's export
    whole: str  # of the other one's

    @property
    def mean(self) -> int:
        """Events of a training row's `watch` history."""
        return min(40, self.longest)


FULL = Size(rows=3_000, compared=4_000, steps=60, longest=1_000, d=32, embedding_dim=16, runtime="auto", whole="aoti")
TINY = Size(rows=300, compared=100, steps=4, longest=40, d=8, embedding_dim=8, runtime="onnx", whole="eager")


@dataclass(frozen=True)
class Exported:
    """Folders, and what the exports said."""

    config: RunConfig
    run: Path  # of the split model
    served: dict[Form, Path]  # form of the tables -> the split model
    whole: Path  # without split
    native: Path  # the split model, compiled for this machine's processor
    facts: dict[str, dict[str, Any]]  # form -> what export returned


def write_rows(path: Path, features: FeatureSchema, rows: int, mean: int, longest: int, seed: int) -> None:
    """A Parquet file with every column of the schema; the label depends on three of the small ones, so that a few steps learn it."""
    rng = np.random.default_rng(seed)
    drawn = rows_of(features, rng, rows, np.minimum(rng.poisson(mean, rows), longest))
    effects = np.random.default_rng(0).normal(size=(3, OTHERS + 1))
    score = sum(one[drawn[name]] for one, name in zip(effects, ("tab", "hour", "upload_type"), strict=True))
    label = features.labels[0].column
    drawn[label] = (rng.random(rows) < 1 / (1 + np.exp(-score))).astype(np.int8).tolist()
    pq.write_table(pa.table(drawn), path, row_group_size=1_000)


def rows_of(features: FeatureSchema, rng: np.random.Generator, rows: int, lengths: np.ndarray) -> dict[str, Any]:
    """Columns of raw values: lists, as JSON has them; `lengths` of the `watch` histories."""
    found: dict[str, Any] = {one.column: ids(rng, one.table, rows) for one in features.ids}
    found |= {one.column: np.round(rng.exponential(50.0, rows), 3).tolist() for one in features.dense}
    found |= {bag.column: [ids(rng, bag.table, n) for n in rng.integers(0, 4, rows)] for bag in features.bags}
    tables = [column.table for column in features.sequences[0].columns]
    events = [[ids(rng, table, n) for table in tables] for n in lengths]
    for group in features.sequences:
        step = PARTS[group.name]
        for at, column in enumerate(group.columns):
            found[column.column] = [one[at][::step] for one in events]
    return found


def ids(rng: np.random.Generator, table: str, count: int) -> list[int]:
    """Drawn evenly."""
    return rng.integers(1, IDS.get(table, OTHERS) + 1, count).tolist()


def config_of(folder: Path, size: Size, split: bool, name: str) -> RunConfig:
    """configs/kuairand_pure.yaml over made-up rows: one ensemble member, histories of `size.longest`, a few steps."""
    tree = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    tree["name"] = name
    paths = {part: str(folder / f"{part}.parquet") for part in ("train", "valid")}
    tree["data"] = {**paths, "batch_size": 64, "eval_batch_size": 64, "workers": 1}
    for group in tree["features"]["sequences"]:
        group["max_length"] = size.longest
    model = {"ensemble_members": 1, "split": split, "d": size.d, "embedding_dim": size.embedding_dim}
    tree["model"] |= model
    tree["training"] = {
        "out": str(folder / name),
        "device": "cpu",
        "epochs": 1,
        "max_steps": size.steps,
        "checkpoint": {"every_steps": size.steps},
    }
    return parse(tree, str(CONFIG))


def made(folder: Path, size: Size) -> Exported:
    """The models of a folder, made where they are not there: minutes for the full size, most of them in the C++ compiler."""
    config, whole = (config_of(folder, size, split, name) for split, name in ((True, "split"), (False, "whole")))
    served = {form: folder / f"served-{form}" for form in FORMS}
    done = folder / DONE
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        done.write_text(json.dumps(_make(folder, size, config, whole, served), indent=1), encoding="utf-8")
    return Exported(
        config,
        folder / "split",
        served,
        folder / "served-whole",
        folder / "served-native",
        json.loads(done.read_text(encoding="utf-8")),
    )


def _make(
    folder: Path, size: Size, config: RunConfig, whole: RunConfig, served: dict[Form, Path]
) -> dict[str, dict[str, Any]]:
    """Train and export; what the exports said, without the places of files."""
    write_rows(folder / "train.parquet", config.features, size.rows, size.mean, size.longest, 2)
    write_rows(folder / "valid.parquet", config.features, size.compared, size.mean, size.longest, 3)
    assert run.train(config) == run.train(whole) == 0
    facts = {}
    for form in FORMS:
        runtime = size.runtime if form == "fp32" else "eager"
        said = export(str(folder / "split"), str(served[form]), ExportOptions(tables=form, runtime=runtime))
        facts[form] = {
            name: value for name, value in said.items() if name not in ("version", "out", "checkpoint", "data")
        }
    export(str(folder / "whole"), str(folder / "served-whole"), ExportOptions(runtime=size.whole))
    export(str(folder / "split"), str(folder / "served-native"), ExportOptions(runtime=size.whole, isa="native"))
    return facts


@dataclass(frozen=True)
class Drawn:
    """A raw request: a user and C candidates as columns."""

    user: dict[str, Any]
    candidates: dict[str, list[Any]]

    @property
    def body(self) -> dict[str, Any]:
        """Of POST /v1/rank."""
        return {"user": self.user, "candidates": self.candidates}

    @property
    def rows(self) -> dict[str, list[Any]]:
        """The columns of C independent rows: the user's inputs again in each."""
        count = len(next(iter(self.candidates.values())))
        return {**{name: [value] * count for name, value in self.user.items()}, **self.candidates}


def draw(features: FeatureSchema, events: int, candidates: int, seed: int) -> Drawn:
    """One request of a user with so many watched videos."""
    rng = np.random.default_rng([seed, events, candidates])
    whole = rows_of(features, rng, candidates, np.array([events] + [0] * (candidates - 1)))
    shown = set(features.candidate)
    columns = {one.column for one in (*features.ids, *features.dense, *features.bags) if one.name in shown}
    user = {name: values[0] for name, values in whole.items() if name not in columns}
    return Drawn(user, {name: whole[name] for name in columns})
