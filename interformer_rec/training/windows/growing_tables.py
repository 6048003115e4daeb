"""The growing tables of a run: at a window's start ids get rows and rows are freed. In: the window's rows; out: what was fitted, grown.

Every rank counts its share of the window. Rank 0 adds the counts up, decides, and sends what changed: one exchange a window, none a step.
Then each rank gives those rows of admitted and of freed ids that lie on it their first weights, and marks them for incremental
checkpoints. The vocabularies lie in the run folder, from where every checkpoint takes them along.
"""

import time
from typing import Any

import numpy as np
import torch.distributed as dist

from interformer_rec.data.counts import Counts
from interformer_rec.data.event_store.joined import joined
from interformer_rec.data.files.source import Source
from interformer_rec.data.fit import Fitted
from interformer_rec.data.growth.admission import admit, count_window, follow
from interformer_rec.data.growth.vocabulary import VocabularyChange
from interformer_rec.data.id_dropout import bounded
from interformer_rec.distributed.first_rows import begin_rows
from interformer_rec.distributed.parallelize import Parallel
from interformer_rec.errors import DamagedError, InputError
from interformer_rec.storage import Storage
from interformer_rec.training.folder.writing import writing
from interformer_rec.training.loop import Hook, Run
from interformer_rec.training.saving import Saving
from interformer_rec.training.scoring.trained import fitted_of
from interformer_rec.training.windows.order import Present
from interformer_rec.training.windows.rows import WindowRows

# of one rank: its counts, and whether and why it could not count
Share = tuple[dict[str, Counts], tuple[bool, str] | None]


class GrowingTables(Hook):
    """Methods are collective."""

    def __init__(self, run: Run, parallel: Parallel, saving: Saving, rows: WindowRows) -> None:
        self._run, self._parallel, self._saving, self._rows = run, parallel, saving, rows
        self.changes: dict[str, VocabularyChange] = {}  # of each growing table, by the window that began last
        self._windows = _counted(rows.fitted)

    def restore(self, checkpoint: Storage) -> None:
        """Go on from the vocabularies of a checkpoint, which may be older than those of the start. Raises DamagedError."""
        self._rows.fitted = self._run.env.on_main(lambda: fitted_of(checkpoint))
        self._windows = _counted(self._rows.fitted)

    def begin_window(self, window: Present, continued: bool) -> None:
        """Admit ids of the window, before its first step; of a run that was resumed inside it they are admitted already."""
        assert window.source is not None, "its rows come next"
        if self._windows <= self._rows.order.trained:
            self._admit(window.source)
            self._rows.read_again()

    def _admit(self, source: Source) -> None:
        """Count the ids of a window, admit new ones, free the rows of those that go.

        Raises InputError on all ranks for files that cannot be read.
        """
        run, rows = self._run, self._rows
        began = time.perf_counter()
        run.at("counting the ids of a window")
        shares = self._shares(source)
        counted = time.perf_counter() - began
        self.changes, counts = run.env.on_main(lambda: self._decide(shares))
        if not run.env.is_main:
            rows.fitted = follow(rows.fitted, self.changes, counts)
        changed = {name: np.union1d(change.freed, change.rows) for name, change in self.changes.items()}
        begin_rows(self._parallel, changed)
        self._windows += 1
        self._saving.wait()  # a checkpoint that is being written reads the vocabularies of its own time
        self._saving.mark(changed)
        run.env.on_main(self._write)
        self._say(counted, time.perf_counter() - began)

    def _shares(self, source: Source) -> list[Share]:
        """What the ranks have counted, on rank 0; [] on the others."""
        run = self._run
        mine: Share
        try:
            counts = count_window(
                run.config.features,
                joined(source, run.config.data, run.config.features),
                run.config.data.workers,
                (run.env.rank, run.env.world_size),
                lambda: run.at("counting the ids of a window"),
            )
            mine = counts, None
        except InputError as error:
            mine = {}, (isinstance(error, DamagedError), str(error))
        gathered: list[Any] | None = [None] * run.env.world_size if run.env.is_main else None
        dist.gather_object(mine, gathered)
        return gathered or []

    def _decide(self, shares: list[Share]) -> tuple[dict[str, VocabularyChange], dict[str, np.ndarray]]:
        """What changes, and the counts of each row then. On rank 0."""
        for _, problem in shares:
            if problem is not None:
                damaged, text = problem
                raise DamagedError(text) if damaged else InputError(text)
        total = shares[0][0]
        for others, _ in shares[1:]:
            for name, counts in others.items():
                total[name].merge(counts)
        self._rows.fitted, changes = admit(self._run.config.features, self._rows.fitted, total)
        return changes, {name: bounded(self._rows.fitted.counts[name]) for name in changes}

    def _write(self) -> None:
        """The vocabularies, where checkpoints take them from. On rank 0."""
        folder = self._run.folder
        with writing(folder.features):
            self._rows.fitted.save(folder.features, tables=self.changes)
        folder.send()

    def _say(self, counted: float, seconds: float) -> None:
        run = self._run
        if not run.env.is_main:
            return
        record: dict[str, Any] = {**run.position.place, "seconds": seconds, "count_seconds": counted}
        for name, change in self.changes.items():
            vocabulary = self._rows.fitted.growing[name]
            rows, used = len(vocabulary.ids), len(vocabulary.ids) - vocabulary.ids.null_count
            record |= {
                f"{name}/admitted": len(change.ids),
                f"{name}/freed": len(change.freed),
                f"{name}/freed_for_room": change.for_room,
                f"{name}/without_room": change.left,
                f"{name}/used_rows": used,
                f"{name}/waiting": len(vocabulary.waiting.ids),
            }
            if not (len(change.ids) or len(change.freed) or change.left):
                continue  # the log has it
            text = f"table {name!r}: {len(change.ids):,} ids admitted, {len(change.freed):,} rows freed"
            text += f" ({change.for_room:,} of them for room)" if change.for_room else ""
            text += f"; {used:,} of {rows:,} rows are used"
            if change.left:
                text += (
                    f"; {change.left:,} ids found no room, and read the unknown row: a larger grow.rows would hold them"
                )
            run.log.message(text)
        run.log.growth(record)


def _counted(fitted: Fitted) -> int:
    """Windows that the vocabularies have seen."""
    return max((vocabulary.windows for vocabulary in fitted.growing.values()), default=0)
