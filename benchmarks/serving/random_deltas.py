"""Deltas without training: random rows and weights get other values, and what is published of them is what export publishes."""

from pathlib import Path

import numpy as np
import torch

from benchmarks.serving.whole_tables import WholeTables, stored_tables
from interformer_rec.serving import write
from interformer_rec.serving.encode.encoder import Encoder
from interformer_rec.serving.making.delta import Trained, publish_delta, scorers, write_delta
from interformer_rec.serving.published.pointer import DELTAS
from interformer_rec.serving.published.state import State
from interformer_rec.serving.runtimes import dense_weights
from interformer_rec.serving.scorer import probabilities
from interformer_rec.storage import Storage


def publish_random(place: Path, generator: np.random.Generator, share: float = 0.1, dense: bool = True) -> State:
    """One more delta to the current state of `place`, whose tables are fp32: `share` of the rows of each table. Returns the state after."""
    state = State.open(str(place))
    version = state.version
    tables = {name: torch.from_numpy(parts["weight"]).clone() for name, parts in stored_tables(state).items()}
    for table in tables.values():
        rows = generator.choice(len(table), max(1, int(share * len(table))), replace=False)
        table[rows] += torch.from_numpy(generator.standard_normal((len(rows), table.shape[1])).astype(np.float32))
    newest = [delta.folder for delta in state.deltas if delta.said.dense]
    weights = dense_weights(newest[-1] if newest else version.folder)
    if dense:
        moved = {name: torch.from_numpy(generator.standard_normal(tensor.shape)) for name, tensor in weights.items()}
        weights = {name: tensor + 0.01 * moved[name].to(tensor.dtype) for name, tensor in weights.items()}
    trained = Trained(
        "random",
        version.config,
        state.fitted,
        version.contents.members,
        version.contents.recalibration,
        WholeTables(tables),
        weights,
        state.weights,
    )
    name = write.version_name("random")
    folder = place / DELTAS / name
    folder.mkdir(parents=True)
    delta = write_delta(folder, name, state, trained)
    rows = [one["row"] for one in state.golden()]
    inputs = Encoder(version.config.features, state.fitted, version.signature).score(rows)
    scorer = next(iter(scorers(state, delta, 1).values()))()
    write.write_golden(folder, rows, probabilities(scorer(inputs)), scorer.tasks)
    publish_delta(Storage.open(place), state, delta)
    return State.open(str(place))
