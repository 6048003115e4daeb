"""Rows that `data.on_bad_row: skip` leaves out, over all ranks, and whether they are too many. In: a Loader; out: counts, or an error."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.distributed as dist

from interformer_rec.batch import Batch
from interformer_rec.data.epoch_plan import Cursor
from interformer_rec.data.loader import Loader
from interformer_rec.distributed.environment import Environment
from interformer_rec.errors import InputError
from interformer_rec.redaction import redact

SHOWN = 5  # reasons in a message
Reasons = dict[str, tuple[int, str]]  # reason -> rows, the message of the first of them


class SkippedRows:
    """The bad rows of one data set. `limit` is data.max_bad_rows: a share of the rows (a float), or a number of rows (an int)."""

    def __init__(self, loader: Loader, limit: float | int, name: str, env: Environment) -> None:
        """`name`: where the user has named the files, for example data.train."""
        self.loader, self.limit, self.name, self.env = loader, limit, name, env
        self._before: Reasons = {}  # of the same epoch, before the run was resumed; on rank 0, for all ranks
        self._read: deque[tuple[int, Reasons]] = deque()  # step of a batch's cursor, what was skipped until then

    @property
    def here(self) -> int:
        """Rows that this rank has skipped since it began to read the files, on rank 0 also those of before a resume."""
        return sum(count for count, _ in self._mine.values())

    @property
    def _mine(self) -> Reasons:
        return _added([self._before, self._now()])

    def _now(self) -> Reasons:
        return {reason: (count, self.loader.examples[reason]) for reason, count in self.loader.bad_rows.items()}

    def follow(self, epoch: int, cursor: Cursor | None) -> Iterator[tuple[Batch, Cursor]]:
        """The loader's batches of an epoch, or of what is left of it; remembers what was skipped until each of them."""
        self._read.clear()
        if cursor is None:
            self._before = {}
        for batch, after in self.loader.batches(epoch, cursor):
            if self.loader.skips:
                self._read.append((after.step, self._now()))
            yield batch, after

    def trained(self, cursor: Cursor) -> None:
        """All batches until there are trained on."""
        while len(self._read) > 1 and self._read[1][0] <= cursor.step:
            self._read.popleft()

    def state(self, cursor: Cursor | None) -> dict[str, dict[str, Any]]:
        """Reason -> rows of all ranks, and an example, until `cursor`, the place after the last batch that was trained on; JSON-able.

        Collective where bad rows are skipped. The loader is batches ahead of training, which reads those again after a resume.
        """
        if not self.loader.skips or cursor is None:
            return {}
        self.trained(cursor)
        trained = self._read[0][1] if self._read and self._read[0][0] <= cursor.step else {}
        whole = self._everywhere(_added([self._before, trained]))
        return {reason: {"rows": count, "example": redact(example)} for reason, (count, example) in whole.items()}

    def load_state(self, state: dict[str, dict[str, Any]]) -> None:
        """Go on counting inside the epoch that `state` is of."""
        found = {reason: (each["rows"], each["example"]) for reason, each in state.items()}
        self._before = found if self.env.is_main else {}

    def too_many(self, everywhere: int) -> bool:
        """Whether so many skipped rows, over all ranks, are more than the limit, or all there are."""
        allowed = self.limit if isinstance(self.limit, int) else self.limit * self.loader.rows
        return everywhere > allowed or everywhere >= self.loader.rows

    def require_few(self) -> None:
        """Once everything is read (collective). Raises InputError on all ranks."""
        total = torch.tensor(self.here, dtype=torch.int64, device=self.env.device)
        dist.all_reduce(total)
        if self.too_many(int(total)):
            raise self.error()

    def reasons(self) -> dict[str, int]:
        """Reason -> rows of all ranks, the most frequent first (collective)."""
        return dict(Counter({reason: count for reason, (count, _) in self._gathered().items()}).most_common())

    def error(self) -> InputError:
        """What to say about too many (collective): how many, why, and an example of each reason."""
        found = sorted(self._gathered().items(), key=lambda item: -item[1][0])
        skipped, rows = sum(count for _, (count, _) in found), self.loader.rows
        reasons = "; ".join(f"{count:,} x {reason} (such as {example})" for reason, (count, example) in found[:SHOWN])
        more = f"; and {len(found) - SHOWN} other reasons" if len(found) > SHOWN else ""
        files = f"{self.name} ({self.loader.source.path!r})"
        if skipped >= rows:
            return InputError(
                f"all {rows:,} rows of {files} are bad and were skipped, so nothing is left of them: {reasons}{more}. "
                "Correct the files, or what the config says about these columns"
            )
        share = "a share of " if isinstance(self.limit, float) else ""
        return InputError(
            f"{skipped:,} of the {rows:,} rows of {files} are bad and were skipped, and data.max_bad_rows allows "
            f"{share}{self.limit}: {reasons}{more}. Correct the files, or raise data.max_bad_rows"
        )

    def _gathered(self) -> Reasons:
        return self._everywhere(self._mine)

    def _everywhere(self, mine: Reasons) -> Reasons:
        parts: list[Reasons] = [{}] * self.env.world_size
        dist.all_gather_object(parts, mine)
        return _added(parts)


def _added(parts: Iterable[Reasons]) -> Reasons:
    whole: Reasons = {}
    for part in parts:
        for reason, (count, example) in part.items():
            before, first = whole.get(reason, (0, example))
            whole[reason] = (before + count, first)
    return whole
