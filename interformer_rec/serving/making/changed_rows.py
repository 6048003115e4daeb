"""Rows whose stored bytes differ between a published state and new weights. In: a State, tables; out: rows and what is stored of them.

Tables are compared some rows at a time, and what is found goes to the disk, so memory stays a few blocks whatever the tables' size. Where
a checkpoint knows which rows training has touched, only those are compared.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np
import torch

from interformer_rec.checkpoint.tensor_file import Part
from interformer_rec.files import own_name
from interformer_rec.serving import write
from interformer_rec.serving.artefact import CONTENTS
from interformer_rec.serving.published.manifest import FOLDERS
from interformer_rec.serving.published.state import State
from interformer_rec.serving.tables import mapped

BLOCK = 1 << 16  # touched rows that are compared at once

Rows = dict[str, np.ndarray]  # what is stored of some rows: weight, for int8 scale and bias


class StoredRows:
    """What a state stores of its tables after all deltas."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._files: dict[str, dict[str, np.ndarray]] = {}

    def take(self, table: str, rows: np.ndarray) -> Rows:
        """Of some rows (n,), ascending. Raises DamagedError."""
        stored = self._state.version.contents.tables[table]
        if stored.file not in self._files:
            path = self._state.version.folder / own_name(stored.file, CONTENTS, FOLDERS)
            self._files[stored.file] = mapped(path)
        found = {key: part.take(rows + stored.first, axis=0) for key, part in self._files[stored.file].items()}
        for delta in self._state.deltas if len(rows) else ():
            if table not in delta.said.tables:
                continue
            changed, parts = delta.stored(table)
            low, high = np.searchsorted(changed, [rows[0], rows[-1] + 1])
            at = np.searchsorted(rows, changed[low:high])
            here = rows[at] == changed[low:high]
            for key, part in parts.items():
                found[key][at[here]] = part[low:high][here]
        return found


class Spool:
    """Changed rows of one table, on the disk until all are known: a file begins with their number."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._sinks = folder, dict[str, IO[bytes]]()
        self._like: Rows = {}
        self.count = 0

    def add(self, rows: Rows) -> None:
        """Behind those before; `rows` names the rows themselves, too."""
        if not self._like:
            self._folder.mkdir(parents=True)
            self._like = {key: part[:0] for key, part in rows.items()}
            self._sinks = {key: (self._folder / key).open("wb") for key in rows}
        for key, part in rows.items():
            self._sinks[key].write(np.ascontiguousarray(part).data)
        self.count += len(rows["rows"])

    def parts(self) -> dict[str, Part]:
        """To write; no more can be added."""
        found = {}
        for key, like in self._like.items():
            self._sinks[key].close()
            shape = (self.count, *like.shape[1:])
            found[key] = Part(torch.from_numpy(np.memmap(self._folder / key, like.dtype, "c", shape=shape)))
        return found


def changed_rows(state: State, tables: write.TableRows, table: str, related: bool, spool: Spool) -> None:
    """Add to `spool` the rows of one table whose stored bytes differ.

    `related`: the state's weights are an earlier checkpoint with the same full one behind it, so that rows that training has not touched
    since are the same.
    """
    before, form = StoredRows(state), state.version.contents.tables[table].form
    touched = tables.touched(table) if related else None
    for rows, values in _all(tables, table) if touched is None else _some(tables, table, touched):
        parts = {key: part.tensor.numpy() for key, part in write.parts_of(values, form).items()}
        differs = _differs(before.take(table, rows), parts)
        if differs.any():
            spool.add({"rows": rows[differs], **{key: part[differs] for key, part in parts.items()}})


def _all(tables: write.TableRows, table: str) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
    for first, block in tables.blocks(table):
        yield np.arange(first, first + len(block)), block


def _some(tables: write.TableRows, table: str, rows: np.ndarray) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
    for start in range(0, len(rows), BLOCK):
        some = rows[start : start + BLOCK]
        yield some, tables.take(table, some)


def _differs(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> np.ndarray:
    pairs = [bits(before[key]) != bits(part) for key, part in after.items()]
    return np.asarray(np.concatenate(pairs, axis=1).any(axis=1))


def bits(rows: np.ndarray) -> np.ndarray:
    """(n, ...) numbers as integers of the same bits: two zeros of different sign differ, a number that is none equals itself."""
    return np.ascontiguousarray(rows).reshape(len(rows), -1).view(f"i{rows.dtype.itemsize}")
