"""A growing vocabulary as files, beside those of fit.py. In: GrowingVocabulary; out: Arrow tables, and back.

NAME.parquet has a line for every row of the table after the special ones: id (null: free), count, seen (the last window that had it; -1 of
a free one; below 0: before the run). NAME.waiting.parquet has the ids that wait for a row, in the same columns.
"""

import numpy as np
import pyarrow as pa

from interformer_rec.data.growth.vocabulary import NEVER, GrowingVocabulary
from interformer_rec.data.growth.waiting import Waiting
from interformer_rec.errors import DamagedError

COLUMNS = ("id", "count", "seen")


def waiting_file(file: str) -> str:
    """The file of the waiting ids beside the one of the vocabulary. No name of a table has a dot."""
    return f"{file.removesuffix('.parquet')}.waiting.parquet"


def to_tables(vocabulary: GrowingVocabulary) -> tuple[pa.Table, pa.Table]:
    """Of the rows, and of the ids that wait."""
    waiting = vocabulary.waiting
    return (
        _table(vocabulary.ids, vocabulary.counts, vocabulary.seen),
        _table(waiting.ids, waiting.counts, waiting.seen),
    )


def _table(ids: pa.Array, counts: np.ndarray, seen: np.ndarray) -> pa.Table:
    return pa.table({"id": ids, "count": pa.array(counts, pa.int64()), "seen": pa.array(seen, pa.int64())})


def from_tables(rows: pa.Table, waiting: pa.Table, windows: int, where: str) -> GrowingVocabulary:
    """The inverse. Raises DamagedError where the columns do not fit each other."""
    ids, counts, seen = _columns(rows, where)
    waiting_ids, waiting_counts, waiting_seen = _columns(waiting, where)
    free = ~ids.is_valid().to_numpy(zero_copy_only=False)
    wrong = (free & (seen != NEVER)) | (seen >= windows) | (counts < 0)
    wrong_waiting = (waiting_seen >= windows) | (waiting_counts < 1)
    if wrong.any() or wrong_waiting.any() or waiting_ids.null_count:
        raise DamagedError(
            f"{where} is no vocabulary that grew over {windows} window(s): its columns contradict each other"
        )
    return GrowingVocabulary(ids, counts, seen, Waiting(waiting_ids, waiting_counts, waiting_seen), windows)


def _columns(table: pa.Table, where: str) -> tuple[pa.Array, np.ndarray, np.ndarray]:
    ids, counts, seen = (table[name].combine_chunks() for name in COLUMNS)
    kinds = (
        pa.types.is_int64(ids.type) or pa.types.is_large_string(ids.type),
        *(pa.types.is_int64(c.type) for c in (counts, seen)),
    )
    if not all(kinds) or counts.null_count or seen.null_count:
        raise DamagedError(f"{where} is no vocabulary: it has {table.schema.to_string()!r:.100}")
    return ids, counts.to_numpy().copy(), seen.to_numpy().copy()
