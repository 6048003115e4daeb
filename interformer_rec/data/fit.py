"""What must be learned from the training files before training: vocabularies, means and deviations, and what the columns mean.
In: Parquet; out: `Fitted`.

One streaming pass over the columns that need it. Memory: the distinct ids of each vocab table with their counts, and one row group
a worker.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from interformer_rec.config.features import FeatureSchema, Table
from interformer_rec.data.counts import Counts
from interformer_rec.data.decode.dense import Moments
from interformer_rec.data.decode.ids import RowMap
from interformer_rec.data.decode.kinds import check_kinds
from interformer_rec.data.files.source import Source, open_source
from interformer_rec.data.files.struct_lists import with_candidate_lists
from interformer_rec.data.files.whole import read_whole
from interformer_rec.data.growth import saved as saved_growth
from interformer_rec.data.growth.vocabulary import GrowingVocabulary
from interformer_rec.data.meaning import Meaning, meaning_of
from interformer_rec.data.streaming_pass import Spread, id_columns, merge, pieces
from interformer_rec.errors import DamagedError, InputError
from interformer_rec.files import StrictFile, conform, json_object, own_name, refuse_link_out, write_whole

FORMAT = 3  # of the saved folder
LONGEST_FILE = 160  # characters of a vocabulary's file name, before a hash takes the place of the rest


@dataclass(frozen=True)
class Fitted:
    """Everything the data path knows beyond the schema; saved with a run."""

    table_rows: dict[str, int]  # rows of every table, special rows included
    # vocab table -> ids; the k-th has row special_rows + k; null: that row of a growing table is free
    vocabularies: dict[str, pa.Array] = field(default_factory=dict)
    counts: dict[str, np.ndarray] = field(default_factory=dict)  # vocab table -> how often each was seen in training
    moments: dict[str, Moments] = field(default_factory=dict)  # standardised dense feature -> moments
    meaning: Meaning | None = None  # of the columns, which other files are compared with; `fit` always has it
    # table with `grow` -> what its next window needs to know; its ids and counts stand above as well
    growing: dict[str, GrowingVocabulary] = field(default_factory=dict)
    # of tables whose ids were looked up (decode/decoder.py, `row_maps`): made once, as that takes long for many ids
    maps: dict[str, tuple[Table, pa.Array | None, RowMap]] = field(default_factory=dict, compare=False, repr=False)

    def save(self, directory: str | os.PathLike[str], tables: Collection[str] | None = None) -> None:
        """Write fitted.json and a Parquet file per vocabulary (columns id and count) into a folder, which is made.

        `tables`: whose vocabularies are written; the others are there already. Default: all.
        """
        assert self.meaning is not None, "only what `fit` has made is saved"
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        for name, ids in self.vocabularies.items():
            if tables is not None and name not in tables:
                continue
            table = pa.table({"id": ids, "count": pa.array(self.counts[name], pa.int64())})
            if name in self.growing:
                table, waiting = saved_growth.to_tables(self.growing[name])
                _write(waiting, folder / saved_growth.waiting_file(_file(name)))
            _write(table, folder / _file(name))
        values: dict[str, Any] = {
            "format": FORMAT,
            "table_rows": self.table_rows,
            "vocabularies": {name: _file(name) for name in self.vocabularies},
            "moments": {name: moments._asdict() for name, moments in self.moments.items()},
            "meaning": self.meaning.to_dict(),
        }
        if self.growing:
            values["growing"] = {name: vocabulary.windows for name, vocabulary in self.growing.items()}
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
            growing = {name: _growing(folder, saved, name, where) for name in saved.growing}
            tables = {n: _vocabulary(folder, f, where) for n, f in saved.vocabularies.items() if n not in growing}
            found = cls(
                table_rows=saved.table_rows,
                vocabularies={n: table["id"].combine_chunks() for n, table in tables.items()}
                | {name: vocabulary.ids for name, vocabulary in growing.items()},
                counts={name: table["count"].to_numpy() for name, table in tables.items()}
                | {name: vocabulary.counts for name, vocabulary in growing.items()},
                moments={name: Moments(pair.mean, pair.std) for name, pair in saved.moments.items()},
                meaning=Meaning.from_dict(saved.meaning),
                growing=growing,
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
            needed |= {f"vocabularies.{name}" for _, name in id_columns(features)}
            needed |= {f"moments.{feature.name}" for feature in features.dense if feature.standardise}
            needed |= {f"growing.{name}" for name, table in features.tables.items() if table.grow is not None}
            parts = {"table_rows": self.table_rows, "vocabularies": self.vocabularies, "moments": self.moments}
            parts["growing"] = self.growing
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


class _Moments(StrictFile):
    mean: float
    std: Annotated[float, Field(ge=0)]


class _Saved(StrictFile):
    """fitted.json."""

    format: int
    table_rows: dict[str, Annotated[int, Field(ge=0, lt=1 << 48)]]
    vocabularies: dict[str, str]
    moments: dict[str, _Moments]
    meaning: dict[str, Any]
    # table -> windows that it was counted over
    growing: dict[str, Annotated[int, Field(ge=0, lt=1 << 48)]] = Field(default_factory=dict)


def _write(table: pa.Table, file: Path) -> None:
    """A new file in the place of what was there: ext4 writes a file out at once that was cut to nothing and filled again, and a model has
    dozens. Ids are distinct: Parquet would make a dictionary of them, find it too large, and write them without."""
    repeated = [name for name in table.column_names if name != "id"]
    file.unlink(missing_ok=True)
    with file.open("xb") as out:
        pq.write_table(table, out, compression="zstd", use_dictionary=repeated)


def _growing(folder: Path, saved: _Saved, name: str, where: str) -> GrowingVocabulary:
    """A growing table's. Raises as `_vocabulary`."""
    file = saved.vocabularies[name]
    parts = [_read(folder, one, saved_growth.COLUMNS, where) for one in (file, saved_growth.waiting_file(file))]
    return saved_growth.from_tables(parts[0], parts[1], saved.growing[name], str(folder / file))


def _read(folder: Path, file: str, columns: tuple[str, ...], where: str) -> pa.Table:
    refuse_link_out(folder, own_name(file, where), where)
    try:
        table = read_whole(str(folder / file), columns)
    except InputError as error:
        raise DamagedError(error) from None
    table.validate(full=True)
    return table


def _vocabulary(folder: Path, file: str, where: str) -> pa.Table:
    """Columns id and count of one table. Raises DamagedError, OSError or pa.ArrowException."""
    table = _read(folder, file, ("id", "count"), where)
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


def fit(
    features: FeatureSchema,
    path: str | Source,
    workers: int = 1,
    admit: bool = True,
    begin: Mapping[str, GrowingVocabulary] | None = None,
) -> Fitted:
    """Count ids and moments over the files of `path` (the training files, on one rank).

    The result does not depend on `workers` nor, moments' last bits apart, on the order of files and row groups. Null, NaN and
    infinite values are left out: judging rows is the loader's. `admit` False: tables with `grow` begin without ids, for each window is
    to be counted at its start (data/growth/admission.py). `begin`: of tables with `grow`, what they hold before. Raises
    InputError for unreadable files or columns of a wrong type.
    """
    rows = {name: table.special_rows + (table.num_embeddings or 0) for name, table in features.tables.items()}
    columns = id_columns(features)
    scaled = [feature for feature in features.dense if feature.standardise]
    source = with_candidate_lists(path if isinstance(path, Source) else open_source(path), features)
    check_kinds(source, features, labels=False)
    meaning = meaning_of(source, features)
    if not columns and not scaled:
        return Fitted(table_rows=rows, meaning=meaning)
    counts = {name: Counts() for _, name in columns}
    spreads: dict[str, Spread] = {feature.name: (0, 0.0, 0.0) for feature in scaled}
    for piece in pieces(source, features, columns, scaled, workers):
        for name, counted in piece.counts:
            counts[name].add(counted)
        for name, spread in piece.spreads.items():
            spreads[name] = merge(spreads[name], spread)
    vocabularies, frequencies, growing = {}, {}, {}
    for name, running in counts.items():
        table = features.tables[name]
        if table.grow is not None:
            growing[name] = (begin or {}).get(name) or GrowingVocabulary.empty(table.grow.rows)
            if admit:
                growing[name], _ = growing[name].grown(*running.vocabulary(1, None), table.grow, name)
            vocabularies[name], frequencies[name] = growing[name].ids, growing[name].counts
        else:
            vocabularies[name], frequencies[name] = running.vocabulary(table.min_count, table.num_embeddings)
        rows[name] = table.special_rows + len(vocabularies[name])
    moments = {name: Moments(mean, (squares / n) ** 0.5 if n else 0.0) for name, (n, mean, squares) in spreads.items()}
    return Fitted(rows, vocabularies, frequencies, moments, meaning, growing)
