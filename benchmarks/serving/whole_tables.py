"""Tables in memory as those of a checkpoint, and all tables of a published state. For measurements and tests of small models."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from interformer_rec.serving.making.changed_rows import StoredRows
from interformer_rec.serving.published.state import State

BLOCK = 3  # rows: a small table has several blocks


@dataclass(frozen=True)
class WholeTables:
    """What an export reads of a checkpoint; (rows, w) float32 each."""

    tables: Mapping[str, torch.Tensor]

    @property
    def shapes(self) -> Mapping[str, tuple[int, int]]:
        """Rows and floats a row."""
        return {name: (len(table), table.shape[1]) for name, table in self.tables.items()}

    def blocks(self, table: str) -> Iterator[tuple[int, torch.Tensor]]:
        """In order."""
        size = max(BLOCK, len(self.tables[table]) // 8)
        for first in range(0, len(self.tables[table]), size):
            yield first, self.tables[table][first : first + size]

    def take(self, table: str, rows: np.ndarray) -> torch.Tensor:
        """Some rows."""
        return self.tables[table][torch.from_numpy(rows)]

    def touched(self, table: str) -> np.ndarray | None:
        """Any may have been."""
        return None


def stored_tables(state: State) -> dict[str, dict[str, np.ndarray]]:
    """Table -> what is stored of it after all deltas."""
    stored = StoredRows(state)
    return {name: stored.take(name, np.arange(table.rows)) for name, table in state.version.contents.tables.items()}
