"""Criteo's Kaggle train.txt (label, 13 counts, 26 hashed ids, no header) -> train, valid and test Parquet files.

The file is seven days of advertisements in the order of time, without times: the first six sevenths of its rows are
train, the two halves of the last seventh valid and test, as DLRM does. test.txt of the competition has no labels and is not
read. There are no histories, which InterFormer needs: the config trains DCNv2; FM, FmFM, xDeepFM, AutoInt+, DLRM, DHEN
and Wukong run too. Read and written a block at a time."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from interformer_rec.data.recipes import raw_files, run_config
from interformer_rec.data.recipes.raw_files import Source
from interformer_rec.data.recipes.split_files import SplitFiles
from interformer_rec.errors import InputError

SOURCE = Source(
    name="criteo",
    url="https://www.kaggle.com/c/criteo-display-ad-challenge (dac.tar.gz, also at Criteo AI Lab)",
    licence="Criteo's terms at the address: non-commercial research, with attribution",
    files="train.txt (45,840,617 rows, 11 GB)",
)
FILE, ROWS = "train.txt", 45_840_617
COUNTS, IDS = [f"I{n}" for n in range(1, 14)], [f"C{n}" for n in range(1, 27)]
CUTS = {"train": (0, 12), "valid": (12, 13), "test": (13, 14)}  # in fourteenths of the file
_DIGITS = np.full(256, 255, np.uint8)
_DIGITS[list(b"0123456789abcdef")] = range(16)


def write(folder: Path, out: Path, raw: Path | None) -> dict[str, int]:
    """Write the three splits and config.yaml into `folder`; rows of each. Raises InputError when the file is missing or wrong."""
    path = raw_files.find(raw, FILE, SOURCE)[0]
    total = _lines(path)
    if total != ROWS:
        warnings.warn(f"{path} has {total:,} rows, the owners' file {ROWS:,}: is it whole?")
    columns = {
        "label": pa.int64(),
        **{name: pa.int64() for name in COUNTS},
        **{name: pa.string() for name in IDS},
    }
    first = 0
    with SplitFiles(folder) as files:
        for batch in raw_files.batches(path, columns, header=False, delimiter="\t"):
            parts = [hex_ids(batch.column(name), name, path) if name in IDS else batch.column(name) for name in columns]
            table = pa.table(dict(zip(columns, parts, strict=True)))
            for split, (start, stop) in CUTS.items():
                low, high = (min(max(total * cut // 14 - first, 0), len(table)) for cut in (start, stop))
                files.add(split, table.slice(low, high - low))
            first += len(table)
    run_config.write(folder, out, SOURCE.name, _features(), {"kind": "dcnv2", "embedding_dim": 16}, batch_size=4096)
    return files.counts(f"{path} has only {total} rows")


def hex_ids(column: pa.Array, name: str, path: Path) -> pa.Array:
    """Texts of 8 hexadecimal digits (n,) -> int64 (n,), nulls stay. Raises InputError for other texts."""
    present = column.drop_null()
    if len(present) and pc.min_max(pc.binary_length(present)).as_py() != {"min": 8, "max": 8}:
        raise InputError(f"column {name} of {path} must hold 8 hexadecimal digits or nothing")
    start = 8 * present.offset
    text = np.frombuffer(present.buffers()[2] or b"", np.uint8)[start : start + 8 * len(present)]
    digits = _DIGITS[text].reshape(-1, 8)
    if (digits == 255).any():
        wrong = present[int((digits == 255).any(axis=1).argmax())].as_py()
        raise InputError(f"column {name} of {path} must hold 8 hexadecimal digits or nothing, not {wrong!r}")
    ids = digits.astype(np.int64) @ (16 ** np.arange(7, -1, -1))
    out = np.zeros(len(column), np.int64)
    null = column.is_null().to_numpy(zero_copy_only=False)
    out[~null] = ids
    return pa.array(out, mask=null)


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        lines, last = 0, b"\n"
        while block := file.read(1 << 22):
            lines, last = lines + block.count(b"\n"), block[-1:]
    return lines + (last != b"\n")


def _features() -> dict[str, Any]:
    return {
        "tables": {name: {"min_count": 10} for name in IDS},
        "ids": IDS,
        "dense": [{"name": name, "fill": 0.0, "log1p": True, "standardise": True} for name in COUNTS],
        "labels": ["label"],
    }
