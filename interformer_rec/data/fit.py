"""What must be learned from the training files before training: vocabularies, means and deviations, and what the columns mean.
In: Parquet; out: `Fitted`.

One streaming pass over the columns that need it. Memory: the distinct ids of each vocab table with their counts, and one row group
a worker.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from interformer_rec.config.features import DenseFeature, FeatureSchema
from interformer_rec.data.counts import Counted, Counts, count_ids
from interformer_rec.data.decode.arrays import flat
from interformer_rec.data.decode.dense import Moments, transform
from interformer_rec.data.decode.kinds import check_kinds
from interformer_rec.data.files.source import Source, open_source
from interformer_rec.data.files.whole import read_whole
from interformer_rec.data.meaning import Meaning, meaning_of
from interformer_rec.errors import DamagedError, InputError
from interformer_rec.files import conform, json_object, own_name, refuse_link_out, write_whole

FORMAT = 3  # of the saved folder
LONGEST_FILE = 160  # characters of a vocabulary's file name, before a hash takes the place of the rest


@dataclass(frozen=True)
class Fitted:
    """Everything the data path knows beyond the schema; saved with a run."""

    table_rows: dict[str, int]  # rows of every table, special rows included
    vocabularies: dict[str, pa.Array] = field(
        default_factory=dict
    )  # vocab table -> ids; the k-th has row special_rows + k
    counts: dict[str, np.ndarray] = field(default_factory=dict)  # vocab table -> how often each was seen in training
    moments: dict[str, Moments] = field(default_factory=dict)  # standardised dense feature -> moments
    meaning: Meaning | None = None  # of the columns, which other files are compared with; `fit` always has it

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Write fitted.json and a Parquet file per vocabulary (columns id and count) into a folder, which is made."""
        assert self.meaning is not None, "only what `fit` has made is saved"
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        for name, ids in self.vocabularies.items():
            columns = {"id": ids, "count": pa.array(self.counts[name], pa.int64())}
            pq.write_table(pa.table(columns), folder / _file(name), compression="zstd")
        values = {
            "format": FORMAT,
            "table_rows": self.table_rows,
            "vocabularies": {name: _file(name) for name in self.vocabularies},
            "moments": {name: moments._asdict() for name, moments in self.moments.items()},
            "meaning": self.meaning.to_dict(),
        }
        # Last, so that a folder with it is whole.
        write_whole(folder / "fitted.json", json.dumps(values, indent=2) + "\n")

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> Fitted:
        """The inverse of `save`. Raises DamagedError if the folder is not whole."""
        folder = Path(directory)
        where = str(folder / "fitted.json")
        try:
            values = json_object(Path(where).read_bytes(), where)
            if values.get("format") != FORMAT:
                raise DamagedError(
                    f"{where} was saved in format {values.get('format')!r:.80}; this release reads format {FORMAT}"
                )
            saved = conform(values, _Saved, where)
            tables = {name: _vocabulary(folder, file, where) for name, file in saved.vocabularies.items()}
            found = cls(
                table_rows=saved.table_rows,
                vocabularies={name: table["id"].combine_chunks() for name, table in tables.items()},
                counts={name: table["count"].to_numpy() for name, table in tables.items()},
                moments={name: Moments(pair.mean, pair.std) for name, pair in saved.moments.items()},
                meaning=Meaning.from_dict(saved.meaning),
            )
        except DamagedError:
            raise
        except (OSError, AttributeError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
            raise DamagedError(
                f"cannot read the fitted vocabularies in {str(folder)!r}: {error}; was the run cut short?"
            ) from None
        found._require_whole(where)
        return found

    def _require_whole(self, where: str) -> None:
        """Raises DamagedError where something is missing, or a vocabulary has not the rows that its table was made for."""
        if self.meaning is not None:
            features = self.meaning.features
            needed = {f"table_rows.{name}" for name in features.tables}
            needed |= {f"vocabularies.{name}" for _, name in _id_columns(features)}
            needed |= {f"moments.{feature.name}" for feature in features.dense if feature.standardise}
            parts = {"table_rows": self.table_rows, "vocabularies": self.vocabularies, "moments": self.moments}
            missing = needed - {f"{part}.{name}" for part, names in parts.items() for name in names}
            if missing:
                raise DamagedError(f"{where} cannot be read: it lacks {', '.join(sorted(missing))}")
        tables = self.meaning.features.tables if self.meaning is not None else {}
        for name, ids in self.vocabularies.items():
            special = tables[name].special_rows if name in tables else 0
            rows = self.table_rows.get(name, -1)
            if (name in tables and rows != special + len(ids)) or rows < len(ids):
                raise DamagedError(
                    f"{where}: table {name!r} has {rows} rows, its vocabulary {len(ids)}: one was cut short"
                )


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class _Moments(_Strict):
    mean: float
    std: Annotated[float, Field(ge=0)]


class _Saved(_Strict):
    """fitted.json."""

    format: int
    table_rows: dict[str, Annotated[int, Field(ge=0, lt=1 << 48)]]
    vocabularies: dict[str, str]
    moments: dict[str, _Moments]
    meaning: dict[str, Any]


def _vocabulary(folder: Path, file: str, where: str) -> pa.Table:
    """Columns id and count of one table. Raises DamagedError, OSError or pa.ArrowException."""
    refuse_link_out(folder, own_name(file, where), where)
    try:
        table = read_whole(str(folder / file), ("id", "count"))
    except InputError as error:
        raise DamagedError(error) from None
    table.validate(full=True)
    ids, counts = table["id"], table["count"]
    if ids.null_count or counts.null_count or not pa.types.is_integer(counts.type):
        raise DamagedError(f"{str(folder / file)!r} is no vocabulary: it has {table.schema.to_string()!r:.100}")
    return table


def _file(table: str) -> str:
    """A file's name for every table, however long its name is and whatever is in it; fitted.json says which is whose."""
    name = quote(table, safe=" ")
    if len(name) > LONGEST_FILE:
        name = f"{name[:LONGEST_FILE]}-{hashlib.sha256(table.encode()).hexdigest()[:16]}"
    return f"{name}.parquet"


Spread = tuple[int, float, float]  # n, mean, sum of squared deviations


class _Piece(NamedTuple):
    """What one row group adds: counts per vocab table, spread per standardised feature."""

    counts: list[tuple[str, Counted]]
    spreads: dict[str, Spread]


def fit(features: FeatureSchema, path: str | Source, workers: int = 1) -> Fitted:
    """Count ids and moments over the files of `path` (the training files, on one rank).

    The result does not depend on `workers` nor, moments' last bits apart, on the order of files and row groups. Null, NaN and
    infinite values are left out: judging rows is the loader's. Raises InputError for unreadable files or columns of a wrong type.
    """
    rows = {name: table.special_rows + (table.num_embeddings or 0) for name, table in features.tables.items()}
    columns = _id_columns(features)
    scaled = [feature for feature in features.dense if feature.standardise]
    source = path if isinstance(path, Source) else open_source(path)
    check_kinds(source, features, labels=False)
    meaning = meaning_of(source, features)
    if not columns and not scaled:
        return Fitted(table_rows=rows, meaning=meaning)
    counts = {name: Counts() for _, name in columns}
    spreads: dict[str, Spread] = {feature.name: (0, 0.0, 0.0) for feature in scaled}
    for piece in _pieces(source, columns, scaled, workers):
        for name, counted in piece.counts:
            counts[name].add(counted)
        for name, spread in piece.spreads.items():
            spreads[name] = _merge(spreads[name], spread)
    vocabularies, frequencies = {}, {}
    for name, running in counts.items():
        table = features.tables[name]
        vocabularies[name], frequencies[name] = running.vocabulary(table.min_count, table.num_embeddings)
        rows[name] = table.special_rows + len(vocabularies[name])
    moments = {name: Moments(mean, (squares / n) ** 0.5 if n else 0.0) for name, (n, mean, squares) in spreads.items()}
    return Fitted(rows, vocabularies, frequencies, moments, meaning)


def _id_columns(features: FeatureSchema) -> list[tuple[str, str]]:
    """(column, vocab table) for every column that feeds one; a column that feeds a table twice counts once."""
    pairs = [(feature.column, feature.table) for feature in (*features.ids, *features.bags)]
    pairs += [(column.column, column.table) for group in features.sequences for column in group.columns]
    return [pair for pair in dict.fromkeys(pairs) if features.tables[pair[1]].ids == "vocab"]


def _pieces(
    source: Source, columns: list[tuple[str, str]], scaled: list[DenseFeature], workers: int
) -> Iterator[_Piece]:
    """One piece a row group, in order, computed by `workers` threads (Arrow and numpy release the interpreter's lock)."""
    wanted = tuple(dict.fromkeys([*(column for column, _ in columns), *(feature.column for feature in scaled)]))

    def piece(group: int) -> _Piece:
        table = source.read([group], wanted, strings=True)
        counts = [(name, counted) for column, name in columns for counted in count_ids(table[column])]
        return _Piece(counts, {feature.name: _spread(table[feature.column], feature) for feature in scaled})

    waiting: deque[Future[_Piece]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for group in range(len(source.group_rows)):
            waiting.append(pool.submit(piece, group))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _spread(column: pa.ChunkedArray, feature: DenseFeature) -> Spread:
    """Of the values of a row group that float32 holds, after fill, clip and log1p: their squares cannot overflow."""
    values = transform(*flat(column), feature)
    values = values[np.isfinite(values)]
    if not len(values):
        return 0, 0.0, 0.0
    mean = float(values.mean())
    return len(values), mean, float(np.square(values - mean).sum())


def _merge(a: Spread, b: Spread) -> Spread:
    """Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances, 1979."""
    n = a[0] + b[0]
    if not n:
        return a
    gap = b[1] - a[1]
    return n, a[1] + gap * b[0] / n, a[2] + b[2] + gap * gap * a[0] * b[0] / n
