"""Rows that `data.on_bad_row: skip` leaves out, over all ranks, and whether they are too many. In: batches; out: counts, or an error."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist

from interformer_rec.batch import Batch
from interformer_rec.data.loader import Loader
from interformer_rec.distributed.environment import Environment
from interformer_rec.errors import InputError
from interformer_rec.redaction import redact
from interformer_rec.training.loop import Hook, Run, StepInfo

SHOWN = 5  # reasons in a message
Reasons = dict[str, tuple[int, str]]  # reason -> rows, the message of the first of them


class TooManySkipped(InputError):
    """More bad rows than data.max_bad_rows allows, or no other ones."""


class SkippedRows:
    """The bad rows of one data set. `limit` is data.max_bad_rows: a share of the rows (a float), or a number of rows (an int)."""

    def __init__(self, loader: Loader | None, limit: float | int, name: str, env: Environment) -> None:
        """`name`: where the user has named the files, for example data.train. `loader`: None until there is one (`read`)."""
        self._loader, self.limit, self.name, self.env = loader, limit, name, env
        self._mine: Reasons = {}  # of this rank, since `begin`; on rank 0 also those of all ranks before the run was resumed

    @property
    def loader(self) -> Loader:
        """Of the rows."""
        assert self._loader is not None, "no window has begun"
        return self._loader

    def read(self, loader: Loader) -> None:
        """Other rows, of the same columns, from here on."""
        self._loader = loader

    def begin(self) -> None:
        """The rows are read from the first one on."""
        self._mine = {}

    def add(self, batch: Batch) -> None:
        """Count what was left out of a batch."""
        if batch.skipped:
            self.count(batch.skipped)

    def count(self, found: Reasons) -> None:
        """Count rows that this rank has left out."""
        self._mine = _added([self._mine, found])

    def state(self) -> dict[str, dict[str, Any]]:
        """Reason -> rows of all ranks, and an example; JSON-able. Collective where bad rows are skipped."""
        found = self._gathered() if self.loader.skips else {}
        return {reason: {"rows": count, "example": redact(example)} for reason, (count, example) in found.items()}

    def load_state(self, state: dict[str, dict[str, Any]]) -> None:
        """Go on counting inside the epoch that `state` is of."""
        found = {reason: (each["rows"], each["example"]) for reason, each in state.items()}
        self._mine = found if self.env.is_main else {}

    def require_few(self) -> None:
        """Raises TooManySkipped on all ranks if the rows that were skipped until now are too many (collective)."""
        total = torch.tensor(sum(count for count, _ in self._mine.values()), device=self.env.device)
        dist.all_reduce(total)
        allowed = self.limit if isinstance(self.limit, int) else self.limit * self.loader.rows
        if int(total) > allowed or int(total) >= self.loader.rows:
            raise self._error()

    def reasons(self) -> dict[str, int]:
        """Reason -> rows of all ranks, the most frequent first (collective)."""
        return dict(Counter({reason: count for reason, (count, _) in self._gathered().items()}).most_common())

    def _error(self) -> TooManySkipped:
        """What to say about too many (collective): how many, why, and an example of each reason."""
        found = sorted(self._gathered().items(), key=lambda item: -item[1][0])
        skipped, rows = sum(count for _, (count, _) in found), self.loader.rows
        reasons = "; ".join(f"{count:,} x {reason} (such as {example})" for reason, (count, example) in found[:SHOWN])
        more = f"; and {len(found) - SHOWN} other reasons" if len(found) > SHOWN else ""
        files = f"{self.name} ({self.loader.source.path!r})"
        if skipped >= rows:
            return TooManySkipped(
                f"all {rows:,} rows of {files} are bad and were skipped, so nothing is left of them: {reasons}{more}. "
                "Correct the files, or what the config says about these columns"
            )
        share = "a share of " if isinstance(self.limit, float) else ""
        return TooManySkipped(
            f"{skipped:,} of the {rows:,} rows of {files} are bad and were skipped, and data.max_bad_rows allows "
            f"{share}{self.limit}: {reasons}{more}. Correct the files, or raise data.max_bad_rows"
        )

    def _gathered(self) -> Reasons:
        parts: list[Reasons] = [{}] * self.env.world_size
        dist.all_gather_object(parts, self._mine)
        return _added(parts)


class TrainedRows(Hook):
    """Counts bad rows as training gets to them, and ends it where they are too many: asked as often as the log is written."""

    def __init__(self, run: Run, skipped: SkippedRows) -> None:
        self._skipped, self._every = skipped, run.config.training.log_every_steps

    def begin_epoch(self, continued: bool) -> None:
        """Each epoch is counted for itself."""
        if not continued:
            self._skipped.begin()

    def step(self, info: StepInfo) -> None:
        """Raises TooManySkipped."""
        self._skipped.add(info.batch)
        if self._skipped.loader.skips and info.step % self._every == 0:
            self._skipped.require_few()

    def end(self, stopped: bool) -> None:
        """Raises TooManySkipped."""
        if self._skipped.loader.skips and not stopped:
            self._skipped.require_few()


def _added(parts: Iterable[Reasons]) -> Reasons:
    whole: Reasons = {}
    for part in parts:
        for reason, (count, example) in part.items():
            before, first = whole.get(reason, (0, example))
            whole[reason] = (before + count, first)
    return whole
