"""What `interformer predict` says of a few rows, without whole tables in memory. In: a checkpoint, batches; out: logits, and the model.

The model is predict's own, lookups and all; its tables have the rows alone that these batches read, under other numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from interformer_rec.batch import Batch
from interformer_rec.checkpoint.manifest import Manifest
from interformer_rec.checkpoint.read import load_dense, require_shape, state_of
from interformer_rec.checkpoint.stored import StoredTables
from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.run import RunConfig
from interformer_rec.data.fit import Fitted
from interformer_rec.distributed.environment import Environment
from interformer_rec.distributed.lookup.tables import local_shards
from interformer_rec.model.task import CTRTask
from interformer_rec.training.build import build_parallel
from interformer_rec.training.pipeline import Pipeline
from interformer_rec.training.scoring.trained import to_score


def predicted(
    config: RunConfig,
    env: Environment,
    manifest: Manifest,
    stored: StoredTables,
    fitted: Fitted,
    batches: Sequence[Batch],
) -> tuple[list[np.ndarray], torch.nn.Module]:
    """(rows, tasks) logits of each batch, and the dense part with the checkpoint's weights, as it answers.

    Raises InputError where the checkpoint belongs to another model, DamagedError where it is damaged.
    """
    rows = rows_of(batches, config.features)
    few = replace(fitted, table_rows={name: len(some) for name, some in rows.items()})
    parallel = build_parallel(to_score(config), env, few)
    for shard in local_shards(parallel.model):
        require_shape(manifest.storage, stored.shapes, shard.table, (fitted.table_rows[shard.table], shard.shape[1]))
        mine = rows[shard.table][shard.row : shard.row + len(shard.tensor)]
        columns = slice(shard.column, shard.column + shard.tensor.shape[1])
        shard.tensor.copy_(stored.take(shard.table, mine)[:, columns])
    load_dense(manifest, parallel, state_of(manifest), weights_only=True)
    pipeline = Pipeline(parallel, env, config.training.precision)
    stream = ((renumbered(batch, config.features, rows), None) for batch in batches)
    logits = [step.logits.numpy() for step in pipeline.run(stream, train=False)]
    task = next(module for module in parallel.model.modules() if isinstance(module, CTRTask))
    return logits, task.model.eval()


def rows_of(batches: Sequence[Batch], features: FeatureSchema) -> dict[str, np.ndarray]:
    """Table -> the rows that these batches look up, ascending, behind the special rows, which mean something under their own numbers."""
    tables = _tables(features)
    found = {name: [np.arange(max(1, table.special_rows))] for name, table in features.tables.items()}
    for batch in batches:
        for ids in (batch.sparse, batch.sequences):
            for key, part in ids.to_dict().items():
                found[tables[key]].append(part.values().numpy().astype(np.int64))
    return {name: np.unique(np.concatenate(parts)) for name, parts in found.items()}


def renumbered(batch: Batch, features: FeatureSchema, rows: Mapping[str, np.ndarray]) -> Batch:
    """The batch with each row's place among those of its table."""
    tables = _tables(features)

    def of(ids: KeyedJaggedTensor) -> KeyedJaggedTensor:
        values, ends = ids.values().numpy().copy(), ids.offset_per_key()
        for place, key in enumerate(ids.keys()):
            part = slice(ends[place], ends[place + 1])
            values[part] = np.searchsorted(rows[tables[key]], values[part])
        return KeyedJaggedTensor(ids.keys(), torch.from_numpy(values), lengths=ids.lengths(), stride=ids.stride())

    return replace(batch, sparse=of(batch.sparse), sequences=of(batch.sequences))


def _tables(features: FeatureSchema) -> dict[str, str]:
    """Key of a lookup -> its table."""
    return {one.key: one.table for one in (*features.pooled_lookups, *features.jagged_lookups)}
