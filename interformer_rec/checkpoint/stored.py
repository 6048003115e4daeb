"""Tables of a checkpoint, some rows at a time. In: a manifest; out: rows of float32, whatever plan wrote them, and which may have changed.

For those who need no model in memory, such as an export: memory is a few blocks, whatever the tables' size. Legend: w floats a row.
"""

from collections.abc import Iterator

import numpy as np
import torch

from interformer_rec.checkpoint.checked import PIECE
from interformer_rec.checkpoint.manifest import Manifest
from interformer_rec.checkpoint.read import rectangles, state_of
from interformer_rec.errors import DamagedError


class StoredTables:
    """The weights of all tables; not their optimizer state."""

    def __init__(self, manifest: Manifest) -> None:
        """Reads headers. Raises DamagedError where a file is missing."""
        manifest.require_sizes()
        state = state_of(manifest)
        manifest.require_ranks(state["world_size"])
        self.shapes: dict[str, tuple[int, int]] = {
            name: (rows, width) for name, (rows, width) in state["tables"].items()
        }
        self.step: int = state.get("step", 0)
        # of the full checkpoint behind it
        self.full = manifest.sha256 if manifest.base is None else manifest.base.sha256
        self._incremental = manifest.base is not None
        self._where = manifest.storage.location
        self._parts = {table: parts for (table, name), parts in rectangles(manifest).items() if name == "weight"}

    def blocks(self, table: str) -> Iterator[tuple[int, torch.Tensor]]:
        """(first row, (n, w)) of a whole table in order. Every byte is compared with its checksum. Raises DamagedError."""
        rows, width = self.shapes[table]
        narrowest = min((part.width for part in self._parts.get(table, [])), default=width)
        step = max(1, PIECE // (4 * max(1, narrowest)))  # a piece of the file at least: less would read pieces twice
        for start in range(0, rows, step):
            stop = min(rows, start + step)
            found, covered = torch.empty(stop - start, width), 0
            for part in self._parts.get(table, []):
                top, bottom = max(start, part.row), min(stop, part.row + part.height)
                for first, values in part.rows(top - part.row, bottom - part.row) if top < bottom else ():
                    place = first + part.row - start
                    found[place : place + len(values), part.column : part.column + part.width] = values
                    covered += values.numel()
            self._require(table, covered, found.numel())
            yield start, found

    def take(self, table: str, rows: np.ndarray) -> torch.Tensor:
        """(n,) ascending -> (n, w). Rows that no increment holds are read where they lie, and not compared with a checksum: that would take
        all of the table. Raises DamagedError."""
        found, covered = torch.empty(len(rows), self.shapes[table][1]), 0
        for part in self._parts.get(table, []):
            low, high = np.searchsorted(rows, [part.row, part.row + part.height])
            if low < high:
                values = part.take(rows[low:high] - part.row)
                found[low:high, part.column : part.column + part.width] = values
                covered += values.numel()
        self._require(table, covered, found.numel())
        return found

    def touched(self, table: str) -> np.ndarray | None:
        """Rows, ascending, that may differ from those of the checkpoint that this one builds on; None: any may."""
        parts = self._parts.get(table, [])
        if not self._incremental or any(part.changes is None for part in parts):
            return None
        found = [part.changed.numpy() + part.row for part in parts]
        return np.unique(np.concatenate(found)) if found else None

    def _require(self, table: str, covered: int, wanted: int) -> None:
        if covered != wanted:
            raise DamagedError(f"checkpoint {self._where!r} lacks rows of table {table!r}, or has some twice")
