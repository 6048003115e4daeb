"""What a growing vocabulary has to do, in plain Python with dictionaries and no bound on what waits."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from interformer_rec.config.growth import Growth


class Plain:
    """Ids and their rows, counted from 0."""

    def __init__(self, rule: Growth) -> None:
        self.rule, self.window = rule, 0
        self.row: dict[Any, int] = {}
        self.count: dict[Any, int] = {}  # of ids with a row, and of those that wait
        self.seen: dict[Any, int] = {}

    def grow(self, counted: dict[Any, int]) -> tuple[dict[Any, int], list[int]]:
        """Ids that were admitted with their rows, and the rows that were freed."""
        for id_, times in counted.items():
            self.count[id_] = self.count.get(id_, 0) + times
            self.seen[id_] = self.window
        ready = [id_ for id_ in counted if id_ not in self.row and self.count[id_] >= self.rule.min_count]
        ready.sort(key=lambda id_: (-self.count[id_], id_))
        keep = self.rule.keep
        old = [id_ for id_ in self.seen if keep is not None and self.window - self.seen[id_] >= keep]
        leaving = [id_ for id_ in old if id_ in self.row]
        missing = len(ready) - (self.rule.rows - len(self.row) + len(leaving))
        others = [id_ for id_ in self.row if id_ not in leaving and self.seen[id_] < self.window]
        others.sort(key=lambda id_: (self.seen[id_], self.count[id_], self.row[id_]))
        leaving += others[: max(0, missing)]
        freed = sorted(self.row.pop(id_) for id_ in leaving)
        for id_ in {*old, *leaving}:
            del self.count[id_], self.seen[id_]
        taken = set(self.row.values())
        free = [row for row in range(self.rule.rows) if row not in taken]
        admitted = dict(zip(ready, free, strict=False))
        self.row |= admitted
        self.window += 1
        return admitted, freed

    def ids(self) -> list[Any]:
        """The id of each row, None where it is free."""
        of_row = {row: id_ for id_, row in self.row.items()}
        return [of_row.get(row) for row in range(self.rule.rows)]


def column(ids: list[Any]) -> pa.Array:
    """As the data path counts them."""
    return pa.array(ids, pa.large_string() if ids and isinstance(ids[0], str) else pa.int64())
