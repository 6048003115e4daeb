"""Scores next to the rows they belong to. In: a Pipeline and unlabelled rows; out: Parquet with score columns."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.distributed as dist
from pyarrow import fs

from interformer_rec.batch import Batch
from interformer_rec.data.files.locate import SUFFIXES
from interformer_rec.data.files.overlap import refuse_written
from interformer_rec.data.loader import Kept
from interformer_rec.distributed.environment import Environment
from interformer_rec.errors import InputError
from interformer_rec.storage import Storage
from interformer_rec.training.pipeline import Pipeline
from interformer_rec.training.skipped import SkippedRows

OTHER_FORMATS = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".gz", ".zip", ".arrow", ".feather", ".orc", ".avro")


@dataclass(frozen=True)
class ScoreFiles:
    """Where scores go: one file, or a folder with one part a rank."""

    folder: Storage
    file: str | None  # None: parts

    @classmethod
    def find(cls, out: str) -> ScoreFiles:
        """A path or URI that ends in .parquet is a file. Raises InputError for a name of another format or an unknown scheme."""
        if not out:
            raise InputError("--out is empty: name a file that ends in .parquet, or a folder")
        place = Storage.open(out)
        if place.name.lower().endswith(OTHER_FORMATS):
            raise InputError(
                f"--out {out!r}: scores are written as Parquet; name a file that ends in .parquet, or a folder"
            )
        return cls(place.folder(".."), place.name) if place.name.endswith(SUFFIXES) else cls(place, None)

    def refuse_existing(self, world_size: int) -> None:
        """Raises InputError where something is there already, or several ranks would write one file."""
        if self.file is not None and world_size > 1:
            where = self.folder.folder(self.file).location
            raise InputError(f"--out {where!r} is one file, but {world_size} ranks write: name a folder instead")
        try:
            there = self._there()
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"cannot reach --out {self.folder.location!r}: {error}") from None
        if there:
            more = f" and {len(there) - 1} more" if len(there) > 1 else ""
            raise InputError(
                f"{self.folder.folder(there[0]).location!r}{more} exists already, and predict writes over nothing: "
                "choose another --out, or delete it"
            )

    def refuse_among(self, data: str, world_size: int) -> None:
        """Raises InputError where the scores would be read as rows of `data` from then on."""
        place = self.folder.folder(self.file) if self.file is not None else self.folder
        names = [""] if self.file is not None else map(self.name, range(world_size))
        refuse_written("--out", place, names, {"--data": data})

    def _there(self) -> list[str]:
        """What is in the way; asked once, so that a store that cannot be reached is named soon. Raises InputError, OSError."""
        look, root = self.folder.filesystem.get_file_info, self.folder.root
        if self.file is not None:
            return [self.file] if look(f"{root.rstrip('/')}/{self.file}").type != fs.FileType.NotFound else []
        kind = look(root).type
        if kind == fs.FileType.File:
            raise InputError(
                f"--out {self.folder.location!r} is a file: name a folder, or a file that ends in .parquet"
            )
        inside = look(fs.FileSelector(root)) if kind == fs.FileType.Directory else []
        return sorted(info.base_name for info in inside if not info.base_name.startswith((".", "_")))

    def name(self, rank: int) -> str:
        """Of the file that a rank writes."""
        return self.file or f"part-{rank:05d}.parquet"


def score_columns(labels: Iterable[str], template: str, present: Iterable[str]) -> list[str]:
    """Names of the score columns. Raises InputError where a name would be there twice."""
    labels, present = list(labels), set(present)
    if len(labels) > 1 and "{label}" not in template:
        raise InputError(
            f"--score-column {template!r}: the model has the labels {', '.join(labels)}, a score column each; "
            "write {label} where their names belong, for example score_{label}"
        )
    names = [template.replace("{label}", label) for label in labels]
    for name in names:
        if not name or name in present:
            what = (
                f"the files have a column {name!r} already, their own or of an earlier predict"
                if name
                else "it is empty"
            )
            raise InputError(f"{what}: name another score column, for example --score-column new_score_{{label}}")
    return names


def write_scores(
    pipeline: Pipeline, data: SkippedRows, columns: list[str], output: ScoreFiles, env: Environment
) -> dict[str, int]:
    """Write every row of `data` with a score column (probabilities) a label; a bad row that was skipped has null there.

    Returns rows and scored rows over all ranks (collective). A file that is visible under its final name is whole, and all ranks
    have written theirs by then. Raises InputError where nothing could be scored, or not be written.
    """
    try:
        with ExitStack() as files:
            total = _write(pipeline, data, columns, output, env, files).to(env.device)
            data.require_few()
            dist.all_reduce(total)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"cannot write {output.folder.folder(output.name(env.rank)).location!r}: {error}") from error
    return {"rows": int(total[0]), "scored": int(total[1])}


def _write(
    pipeline: Pipeline, data: SkippedRows, columns: list[str], output: ScoreFiles, env: Environment, files: ExitStack
) -> torch.Tensor:
    """This rank's file, which is finished when `files` is closed; (2,) its rows and scored rows."""
    writer: pq.ParquetWriter | None = None
    counts = torch.zeros(2, dtype=torch.int64)
    for table, scored in files.enter_context(closing(_scored(pipeline, data, columns))):
        if writer is None:
            sink = files.enter_context(output.folder.stream(output.name(env.rank)))
            writer = files.enter_context(pq.ParquetWriter(sink, table.schema, compression="zstd"))
        writer.write_table(table)
        counts += torch.tensor([table.num_rows, scored])
    return counts


def _scored(pipeline: Pipeline, data: SkippedRows, columns: list[str]) -> Generator[tuple[pa.Table, int], None, None]:
    """Tables with the score columns, and how many of their rows have scores."""
    batches: Generator[tuple[Batch, Kept], None, None] = data.loader.tables()
    with closing(batches):  # its threads, where scoring or writing fails
        for step in pipeline.run(batches, train=False):
            data.add(step.batch)
            table, good = step.cursor
            table = table.drop_columns(list(data.loader.joined))
            if not table.num_rows:
                continue
            scores = step.logits.sigmoid().cpu().numpy()[: step.batch.rows]
            for number, column in enumerate(columns):
                values = np.zeros(len(good), np.float32)
                values[good] = scores[:, number]
                table = table.append_column(column, pa.array(values, mask=~good))
            yield table, step.batch.rows
