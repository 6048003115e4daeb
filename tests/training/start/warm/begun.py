"""Runs that begin with another one's weights: configs, what they begin with, and their scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from interformer_rec.checkpoint.retention import Checkpoints
from interformer_rec.config import run as config
from interformer_rec.config.run import RunConfig
from interformer_rec.data.fit import fit
from interformer_rec.distributed.environment import process_group
from interformer_rec.distributed.state import dense_parameters, local_state
from interformer_rec.training.build import build_parallel
from interformer_rec.training.scoring import trained
from interformer_rec.training.start.warm.report import Report
from interformer_rec.training.start.warm.source import StartFrom, WarmSource
from tests.training.runs import SMALL

ONCE = ["data.test=null", "data.valid=null", "training.epochs=1", "training.max_steps=8"]
STILL = [
    "training.max_steps=1",
    "optimizer.dense.lr=1e-30",
    "optimizer.embedding.lr=1e-30",
]  # a step that moves nothing
State = dict[str, dict[str, np.ndarray]]  # table or weight -> its tensors


def tree_of(synthetic: Path) -> dict[str, Any]:
    tree = yaml.safe_load((synthetic / "config.yaml").read_text(encoding="utf-8"))
    tree["model"]["interaction"] = {"kind": "dcn"}
    return tree


def load(tree: dict[str, Any], folder: Path, *overrides: str) -> RunConfig:
    return config.parse_yaml(yaml.safe_dump(tree), "test", [*SMALL, *ONCE, f"training.out={folder}", *overrides])


def begin(settings: RunConfig, asked: StartFrom) -> tuple[Report, State, State]:
    """What a run begins with: the report, tables by table, dense weights by name, each with its optimizer state."""
    with process_group("cpu") as env:
        begun = WarmSource.open(asked, settings, env)
        assert settings.data.train is not None
        fitted = begun.with_moments(fit(settings.features, settings.data.train))
        parallel = build_parallel(settings, env, fitted)
        report = begun.fill(settings, fitted, parallel, env)
        tables = {
            shard.table: {name: tensor.numpy().copy() for name, tensor in parts.items()}
            for shard, parts in local_state(parallel)
        }
        average = parallel.optimizer.average
        dense = {
            name: {
                "weight": weight.detach().numpy().copy(),
                **{
                    what: value.numpy().copy() for what, value in parallel.optimizer.dense.state.get(weight, {}).items()
                },
                **({"average": average.tensors[weight].numpy().copy()} if average is not None else {}),
            }
            for name, weight in dense_parameters(parallel)
        }
    return report, tables, dense


def newest(folder: Path) -> Path:
    """A run's newest checkpoint."""
    return folder / "checkpoints" / Checkpoints(folder / "checkpoints").newest_first()[0]


def scored(folder: Path, data: Path, out: Path) -> np.ndarray:
    trained.predict(str(folder), str(data), str(out))
    return pq.read_table(out)["score_label"].to_numpy()


def rows_of(fitted: Path, table: str) -> dict[Any, int]:
    """Id -> row, of a run folder."""
    values = json.loads((fitted / "features" / "fitted.json").read_text())
    file = values["vocabularies"][table]
    ids = pq.read_table(fitted / "features" / file)["id"].to_pylist()
    return {id_: values["table_rows"][table] - len(ids) + place for place, id_ in enumerate(ids)}


def known_to_both(rows: pa.Table, *folders: Path) -> np.ndarray:
    """Which rows have only ids that all runs know."""
    features = config.load(folders[0] / "config.yaml").features
    read = [(one.column, one.table) for one in (*features.ids, *features.bags)]
    read += [(column.column, column.table) for group in features.sequences for column in group.columns]
    good = np.ones(len(rows), bool)
    for folder in folders:
        values = json.loads((folder / "features" / "fitted.json").read_text())
        for column, table in read:
            if table in values["vocabularies"]:
                known = set(rows_of(folder, table))
                good &= [
                    (set(value) if isinstance(value, list) else {value}) <= known | {None}
                    for value in rows[column].to_pylist()
                ]
    return good
