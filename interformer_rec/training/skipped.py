"""Rows that `data.on_bad_row: skip` leaves out, over all ranks, and whether they are too many. In: a Loader; out: counts, or an error."""

from __future__ import annotations

from collections import Counter

import torch
import torch.distributed as dist

from interformer_rec.data.loader import Loader
from interformer_rec.distributed.environment import Environment
from interformer_rec.errors import InputError

SHOWN = 5  # reasons in a message


class SkippedRows:
    """The bad rows of one data set. `limit` is data.max_bad_rows: a share of the rows (a float), or a number of rows (an int)."""

    def __init__(self, loader: Loader, limit: float | int, name: str, env: Environment) -> None:
        """`name`: where the user has named the files, for example data.train."""
        self.loader, self.limit, self.name, self.env = loader, limit, name, env

    @property
    def here(self) -> int:
        """Rows that this rank has skipped since it began to read the files."""
        return sum(self.loader.bad_rows.values())

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

    def _gathered(self) -> dict[str, tuple[int, str]]:
        mine = {reason: (count, self.loader.examples[reason]) for reason, count in self.loader.bad_rows.items()}
        parts: list[dict[str, tuple[int, str]]] = [{}] * self.env.world_size
        dist.all_gather_object(parts, mine)
        whole: dict[str, tuple[int, str]] = {}
        for part in parts:
            for reason, (count, example) in part.items():
                before, first = whole.get(reason, (0, example))
                whole[reason] = (before + count, first)
        return whole
