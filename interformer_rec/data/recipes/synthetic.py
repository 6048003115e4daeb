"""Made-up data of any size with a planted signal that only a history and a candidate field together reveal.

In: a Shape (rows, fields, groups, lengths, ...). Out: train/part-*.parquet, valid.parquet, test.parquet and a
config.yaml that trains on them. Written a row group at a time, so memory does not grow with the rows; the same
options give the same rows.

The signal. Every row draws an interest, one of CATEGORIES. Of the events of the first sequence group, a share FOCUS
has that category; of the candidates, half. Let match = 1 where most of the newest RECENT events have the candidate's
category, else 0. The field `mode` says what the user wants now: more of the same (0) or something else (1). Then

    logit of the label = STRENGTH * (match == 1 - mode ? 1 : -1), and 0 for an empty history.

Candidate, mode and history are each uninformative alone and so is every pair; all other columns are noise. The
Bayes-optimal AUC is about sigmoid(STRENGTH)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from interformer_rec.errors import InputError

DEFAULTS: dict[str, int | str] = {
    "rows": 200_000,  # training rows; valid and test have a tenth each. The model finds the signal in 200,000, not in 20,000
    "files": 4,  # of the training rows
    "fields": 8,  # noise id fields, one table each
    "groups": 2,  # sequence groups
    "max_length": "50",  # events of the longest history; one number, or one a group: 200,50
    "vocab": 5000,  # ids of the items and of the largest noise field
    "seed": 0,
}
CATEGORIES = 12
FOCUS = 0.8
RECENT = 6
STRENGTH = 2.5
TAGS = 30
GROUP_BYTES = 64 << 20  # of histories in one row group: what bounds the memory


@dataclass(frozen=True)
class Shape:
    """Size of a synthetic data set; see DEFAULTS for the units."""

    rows: int
    files: int
    fields: int
    lengths: tuple[int, ...]  # a group's longest history
    vocab: int
    seed: int

    @classmethod
    def of(cls, options: dict[str, Any]) -> Shape:
        """From the recipe's options. Raises InputError for a value that cannot be."""
        for name, low in (
            ("rows", 10),
            ("files", 1),
            ("fields", 0),
            ("groups", 1),
            ("vocab", 2 * CATEGORIES),
            ("seed", 0),
        ):
            if options[name] < low:
                raise InputError(f"option {name} of the synthetic data is {options[name]}; the least is {low}")
        if options["files"] > options["rows"]:
            raise InputError(f"option files is {options['files']}, more than the {options['rows']} rows")
        parts = str(options["max_length"]).split(",")
        if not all(part.strip().isdigit() and int(part) > 0 for part in parts) or len(parts) not in (
            1,
            options["groups"],
        ):
            given, groups = options["max_length"], options["groups"]
            raise InputError(f"option max_length is {given!r}; give one length, or {groups} divided by commas")
        lengths = tuple(int(part) for part in parts) * (options["groups"] if len(parts) == 1 else 1)
        return cls(options["rows"], options["files"], options["fields"], lengths, options["vocab"], options["seed"])

    @property
    def row_group(self) -> int:
        """Rows of a row group: 8,192, or fewer where histories are long."""
        return max(64, min(8192, GROUP_BYTES // (16 * sum(self.lengths))))

    def field_ids(self, field: int) -> int:
        """Ids of a noise field: from vocab down to 2, so that tables differ in size."""
        return max(2, self.vocab >> field)


def write(folder: Path, shape: Shape, out: Path | None = None) -> dict[str, int]:
    """Write the data set into `folder`; rows of each file. config.yaml names `out`, where the folder will stand."""
    (folder / "train").mkdir()
    held_out = max(1, shape.rows // 10)
    bounds = [shape.rows * part // shape.files for part in range(shape.files + 1)]
    sizes = {f"train/part-{part:03d}.parquet": bounds[part + 1] - bounds[part] for part in range(shape.files)}
    sizes |= {"valid.parquet": held_out, "test.parquet": held_out}
    for index, (name, rows) in enumerate(sizes.items()):
        _write_file(folder / name, rows, index, shape)
    (folder / "config.yaml").write_text(config_yaml(shape, str(out or folder)), encoding="utf-8")
    return sizes


def _write_file(path: Path, rows: int, index: int, shape: Shape) -> None:
    writer = None
    for number, start in enumerate(range(0, rows, shape.row_group)):
        generator = np.random.default_rng([shape.seed, index, number])
        batch = make_rows(min(shape.row_group, rows - start), shape, generator)
        writer = writer or pq.ParquetWriter(path, batch.schema, compression="zstd")
        writer.write_table(batch)
    if writer:
        writer.close()


def make_rows(rows: int, shape: Shape, generator: np.random.Generator) -> pa.Table:
    """`rows` rows; columns as in config_yaml's features."""
    interest = generator.integers(0, CATEGORIES, rows)
    candidate = np.where(generator.random(rows) < 0.5, interest, _other(interest, generator))
    mode = generator.integers(0, 2, rows)
    columns: dict[str, pa.Array] = {}
    for group, longest in enumerate(shape.lengths):
        lengths = (generator.random(rows) ** 1.5 * (longest + 1)).astype(np.int64)  # many short, few long
        owner = np.repeat(np.arange(rows), lengths)
        focus = (generator.random(len(owner)) < FOCUS) if group == 0 else np.zeros(len(owner), bool)
        category = np.where(focus, interest[owner], generator.integers(0, CATEGORIES, len(owner)))
        offsets = np.r_[0, np.cumsum(lengths)]
        if group == 0:
            sign = np.where(_match(category == candidate[owner], offsets) == (mode == 0), 1.0, -1.0) * (lengths > 0)
        events = {"item_id": _items(category, shape, generator), "category": category}
        events["timestamp"] = 1_700_000_000 - 60 * (offsets[1:][owner] - np.arange(len(owner)))
        for name, values in events.items():
            columns[f"hist{group}_{name}"] = pa.ListArray.from_arrays(
                pa.array(offsets.astype(np.int32)), pa.array(values)
            )
    label = generator.random(rows) < 1 / (1 + np.exp(-STRENGTH * sign))
    tags = generator.integers(0, 4, rows)
    head: dict[str, Any] = {
        "label": label.astype(np.int8),
        "user_id": generator.integers(0, shape.vocab, rows),
        "item_id": _items(candidate, shape, generator),
        "category": candidate,
        "mode": mode,
        "tags": pa.ListArray.from_arrays(
            pa.array(np.r_[0, np.cumsum(tags)].astype(np.int32)), pa.array(generator.integers(0, TAGS, tags.sum()))
        ),
        "price": generator.lognormal(2.0, 1.0, rows).astype(np.float32),
        "age_days": generator.uniform(0, 365, rows).astype(np.float32),
    }
    fields = {f"field{number}": generator.integers(0, shape.field_ids(number), rows) for number in range(shape.fields)}
    return pa.table({**head, **fields, **columns})


def _other(interest: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Any category but the row's interest, so that the candidate's is uniform and has no signal."""
    return (interest + generator.integers(1, CATEGORIES, len(interest))) % CATEGORIES


def _items(category: np.ndarray, shape: Shape, generator: np.random.Generator) -> np.ndarray:
    """Item ids of the categories (id % CATEGORIES), a few of them much more frequent than the rest."""
    rank = (generator.random(len(category)) ** 3 * (shape.vocab // CATEGORIES)).astype(np.int64)
    return rank * CATEGORIES + category


def _match(same: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Whether at least half of a row's newest RECENT events are of the candidate's category; (rows,) bool."""
    total = np.r_[0, np.cumsum(same)]
    start = np.maximum(offsets[:-1], offsets[1:] - RECENT)
    return 2 * (total[offsets[1:]] - total[start]) >= (offsets[1:] - start)


def config_yaml(shape: Shape, out: str) -> str:
    """The run config that trains on the data set in the folder `out`."""
    tables = ["user_id", "item_id", "category", "mode", "tags", *(f"field{number}" for number in range(shape.fields))]
    ids = [name for name in tables if name != "tags"]
    return "\n".join(
        [
            "# Written by `interformer data synthetic`. The label depends on the candidate's category, the mode and",
            "# the recent categories of hist0 together; everything else is noise.",
            "name: synthetic",
            "data:",
            f"  train: {out}/train",
            f"  valid: {out}/valid.parquet",
            f"  test: {out}/test.parquet",
            "  batch_size: 512",
            "features:",
            "  tables:",
            *(f"    {name}: {{}}" for name in tables),
            f"  ids: [{', '.join(ids)}]",
            "  bags: [tags]",
            "  dense:",
            "    - {name: price, log1p: true, standardise: true}",
            "    - {name: age_days, standardise: true}",
            "  sequences:",
            *_each_group(shape),
            "  candidate: [item_id, category]",
            "  labels: [label]",
            "  group: user_id",
            "model: {embedding_dim: 16, d: 16}",
            "training: {epochs: 3, patience: 1}",
            "",
        ]
    )


def _each_group(shape: Shape) -> Iterator[str]:
    for group, longest in enumerate(shape.lengths):
        yield f"    - name: hist{group}"
        yield f"      max_length: {longest}"
        yield f"      timestamp: hist{group}_timestamp"
        yield "      columns:"
        for name in ("item_id", "category"):
            yield f"        - {{name: {name}, column: hist{group}_{name}, table: {name}}}"
