"""Scores next to the rows they belong to. In: a Pipeline and a Loader of unlabelled rows; out: Parquet with score columns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.distributed as dist

from interformer_rec.data.loader import Loader
from interformer_rec.distributed.environment import Environment
from interformer_rec.errors import InputError
from interformer_rec.training.pipeline import Pipeline


def write_scores(pipeline: Pipeline, loader: Loader, tasks: list[str], out: str, env: Environment) -> int:
    """Write every row of the loader with `score_<task>` columns (probabilities); returns rows over all ranks (collective).

    A file that is visible under its final name is whole. Raises InputError where the output exists or cannot be a file.
    """
    target = _target(out, env)
    part = target.with_name(f".{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    writer: pq.ParquetWriter | None = None
    try:
        for table in _scored(pipeline, loader, tasks):
            writer = writer or pq.ParquetWriter(part, table.schema, compression="zstd")
            writer.write_table(table)
            written += table.num_rows
    finally:
        if writer is not None:
            writer.close()
    if writer is not None:
        part.replace(target)
    total = torch.tensor(written, device=env.device)
    dist.all_reduce(total)
    return int(total)


def _scored(pipeline: Pipeline, loader: Loader, tasks: list[str]) -> Iterator[pa.Table]:
    batches: Iterator[tuple[Any, Any]] = iter(loader.tables())
    for step in pipeline.run(batches, train=False):
        if step.batch.rows == 0:
            continue
        scores = step.logits.sigmoid().cpu()
        table = pa.Table.from_batches([step.cursor]) if isinstance(step.cursor, pa.RecordBatch) else step.cursor
        for number, task in enumerate(tasks):
            table = table.append_column(f"score_{task}", pa.array(scores[:, number].contiguous().numpy()))
        yield table


def _target(out: str, env: Environment) -> Path:
    path = Path(out)
    if path.suffix == ".parquet":
        if env.world_size > 1:
            raise InputError(f"--out {out!r} is one file, but {env.world_size} ranks write: name a folder instead")
        target = path
    else:
        target = path / f"part-{env.rank:05d}.parquet"
    if target.exists():
        raise InputError(f"{str(target)!r} exists already: choose another --out, or delete it")
    return target
