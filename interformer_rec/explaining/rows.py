"""The rows that are scored again and again. In: a Loader; out: their decoded columns, kept in memory, and columns to slice by.

All rows where they are few enough, else those of whole users that a hash of seed and user picks: the same on every rank, whatever the
order of files. Every file is read once, and what is in memory is bounded by the rows that are kept and one row group.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from interformer_rec.config.features import NULL_GROUP
from interformer_rec.data.decode.columns import Columns, join
from interformer_rec.data.loader import Loader
from interformer_rec.errors import InputError
from interformer_rec.metrics.over_users import Users


@dataclass(frozen=True, eq=False)
class KeptRows:
    """`columns` and `table` have the same rows, in the order of the files."""

    columns: Columns
    table: pa.Table  # the input's columns to slice by
    users: Users
    read: int  # rows of the files, bad ones left out
    skipped: dict[str, tuple[int, str]]  # reason -> bad rows, an example

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.columns.weights)


def read_rows(loader: Loader, most: int, also: Sequence[str], grouped: bool, seed: int) -> KeptRows:
    """At most `most` rows, those of a user all or none. `also`: columns to slice by; `grouped`: the schema has features.group.

    Raises InputError for bad rows, unless they are skipped, and where one user has more rows than that.
    """
    sample = _Sample(most, seed, grouped)
    skipped: dict[str, tuple[int, str]] = {}
    for columns, table in loader.decoded(also):
        if columns.bad is not None:
            good = np.flatnonzero(columns.count_bad(slice(None), skipped) == 0)
            columns, table = columns.take(good), table.take(good)
        sample.add(columns, table)
    columns, table = sample.whole()
    users = Users.of(columns.groups) if grouped else Users.each_row(len(columns.weights))
    return KeptRows(columns, table, users, sample.read, skipped)


class _Sample:
    """Keeps the users of the lowest hashes whose rows fit: a user who is dropped once would not fit later either."""

    def __init__(self, most: int, seed: int, grouped: bool) -> None:
        self._most, self._seed, self._grouped = most, seed, grouped
        self._parts: list[tuple[Columns, pa.Table, np.ndarray]] = []  # the last: (rows,) the hash of each row's user
        self._below = np.uint64(2**64 - 1)
        self.read = self._kept = 0

    def add(self, columns: Columns, table: pa.Table) -> None:
        keys = self.read + np.arange(len(columns.weights), dtype=np.int64)
        if self._grouped:
            nobody = columns.groups == NULL_GROUP
            keys = np.where(nobody, keys ^ np.int64(NULL_GROUP), columns.groups)
        self.read += len(keys)
        self._keep(columns, table, _hashed(keys, self._seed))
        if self._kept > 2 * self._most:
            self._drop()

    def whole(self) -> tuple[Columns, pa.Table]:
        """The rows. Raises InputError where none is left."""
        self._drop()
        if self.read and not self._kept:
            raise InputError(
                f"--rows {self._most:,} is less than the rows of one user in features.group: users are taken with all of their rows. Ask "
                "for more rows, or correct features.group"
            )
        if not self._kept:
            raise InputError("nothing is left to explain: all rows are bad and were skipped. Correct the files")
        return join([columns for columns, _, _ in self._parts]), pa.concat_tables(
            [table for _, table, _ in self._parts]
        )

    def _keep(self, columns: Columns, table: pa.Table, hashes: np.ndarray) -> None:
        rows = np.flatnonzero(hashes <= self._below)
        if len(rows):
            self._parts.append((columns.take(rows), table.take(rows), hashes[rows]))
            self._kept += len(rows)

    def _drop(self) -> None:
        if self._kept <= self._most:
            return
        hashes, counts = np.unique(np.concatenate([part for _, _, part in self._parts]), return_counts=True)
        fit = int(np.searchsorted(np.cumsum(counts), self._most, side="right"))
        self._below = hashes[fit - 1] if fit else np.uint64(0)
        parts, self._parts, self._kept = self._parts, [], 0
        for columns, table, of_rows in parts if fit else []:
            self._keep(columns, table, of_rows)


def _hashed(keys: np.ndarray, seed: int) -> np.ndarray:
    """(n,) uint64 from (n,) int64: SplitMix64's finalizer, one to one, so that no two users are taken for one."""
    with np.errstate(over="ignore"):
        x = keys.view(np.uint64) ^ np.uint64(seed % 2**64 * 0x9E3779B97F4A7C15 % 2**64)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
        return x ^ (x >> np.uint64(31))
