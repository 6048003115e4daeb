"""FLOPs of a model's matrix products on real events. In: a point's config and the rows of its file; out: FLOPs of a step, a row.

The numerator of MFU (Chowdhery et al. 2022, appendix B): padding, recomputation and element-wise work do not count. The real model runs
on single rows (one request where rows are requests), in which nothing is padded, and planning/cost/counter.py counts: on rows between the
one with fewest events and the one with most, with lines in between. The backward pass has twice the forward's products.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torchrec import KeyedJaggedTensor

from interformer_rec.batch import Batch
from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.request import counted_column
from interformer_rec.config.run import RunConfig
from interformer_rec.data.decode.arrays import lists
from interformer_rec.data.fit import Fitted
from interformer_rec.data.loader import Loader
from interformer_rec.model.task import build_task
from interformer_rec.planning.cost.counter import forward_flops

COUNTED = 12  # rows
STEP = 3  # forward and backward pass, in forward passes


def flops_a_row(config: RunConfig, fitted: Fitted, folder: Path) -> float:
    """Of a training step, a row of a batch (a candidate of a request): the mean over the rows of the config's data.train."""
    features = config.features
    table = pq.read_table(config.data.train or "", columns=list(features.columns()))
    events = sum((lists(table[group.columns[0].column]).lengths for group in features.sequences), np.zeros(len(table)))
    candidates = np.ones(len(table))
    if features.request is not None:
        candidates = lists(table[counted_column(features)]).lengths.astype(float)
    order = np.argsort(events, kind="stable")
    order = order[candidates[order] > 0]
    chosen = order[np.unique(np.linspace(0, len(order) - 1, COUNTED).round().astype(int))]
    path = folder / "counted.parquet"
    counted = []
    for row in chosen:
        pq.write_table(table.take(pa.array([row])), path)
        counted.append(_forward(config, fitted, path, int(candidates[row])))
    a_candidate = np.array(counted) / candidates[chosen]
    spread = np.interp(events, events[chosen], a_candidate)
    return STEP * float((spread * candidates).sum() / candidates.sum())


def _forward(config: RunConfig, fitted: Fitted, path: Path, rows: int) -> int:
    """Of the one row of a file, all its candidates together."""
    plain = {"batch_size": max(1, rows), "shuffle_rows": 0, "id_dropout": 0.0, "train": str(path)}
    loader = Loader(str(path), config.features, fitted, config.data.model_copy(update=plain), config.seed)
    batch, _ = next(iter(loader.batches()))
    batch, sizes = _numbered(batch, config.features)
    task = build_task(config.features, config.model, sizes, device=torch.device("cpu")).eval()
    return forward_flops(lambda: task(batch))


def _numbered(batch: Batch, features: FeatureSchema) -> tuple[Batch, dict[str, int]]:
    """The batch with its distinct ids numbered from 0, so that tables need no more rows than those: equal ids stay equal."""
    parts = {"sparse": batch.sparse, "sequences": batch.sequences}
    tables = {lookup.key: lookup.table for lookup in (*features.pooled_lookups, *features.jagged_lookups)}
    sizes = dict.fromkeys(features.tables, 1)
    renamed: dict[str, torch.Tensor] = {}
    for name in features.tables:
        found = [(part, key) for part, ids in parts.items() for key in ids.keys() if tables[key] == name]  # noqa: SIM118
        values = [parts[part][key].values() for part, key in found]
        if values:
            distinct, numbers = torch.cat(values).unique(return_inverse=True)
            sizes[name] = max(1, len(distinct))
            of_keys = numbers.split([len(one) for one in values])
            renamed |= {key: numbers for (_, key), numbers in zip(found, of_keys, strict=True)}
    for part, ids in parts.items():
        if ids.keys():
            flat = torch.cat([renamed[key] for key in ids.keys()])  # noqa: SIM118
            setattr(batch, part, KeyedJaggedTensor(ids.keys(), flat, lengths=ids.lengths(), stride=ids.stride()))
    return batch, sizes
