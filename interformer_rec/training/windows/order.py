"""Which window a run is in, and which comes next. In: data.windows, and what a checkpoint keeps; out: a window with its rows.

Rank 0 looks and decides, all ranks get its answer: they never see different windows. What a checkpoint keeps of each window that was read
(name, sizes, footers) is compared with what lies there, so that a window that changed or came late is named (data/windows/judge.py).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from interformer_rec.config.data import DataConfig
from interformer_rec.config.windows import WindowsConfig
from interformer_rec.data.files.locate import Unreachable
from interformer_rec.data.files.source import Source
from interformer_rec.data.windows.judge import Judged, judge, left_out_empty
from interformer_rec.data.windows.partitions import Partitions
from interformer_rec.data.windows.time_cut import TimeCut
from interformer_rec.data.windows.window import Seen
from interformer_rec.distributed.environment import Environment
from interformer_rec.errors import InputError
from interformer_rec.redaction import redact


@dataclass(frozen=True)
class Present:
    """The window that a run is in. JSON-able but for `source`."""

    seen: Seen
    begin_epoch: int
    end_epoch: int  # the first epoch after it
    evaluated: bool = False  # before any of its rows was trained on
    source: Source | None = None  # of its rows; None where it is left behind

    @property
    def name(self) -> str:
        """Of the folder or file, or of the time at which it begins."""
        return self.seen.name


class Look(NamedTuple):
    """What rank 0 has found."""

    seen: list[Seen]
    found: tuple[Seen, Source] | None
    waiting: str | None
    notes: list[str]


class Order:
    """The windows of a run; methods are collective."""

    def __init__(
        self, data: DataConfig, env: Environment, message: Callable[[str], None], poll_seconds: float | None = None
    ) -> None:
        """`message`: takes what the user should know of a window. `poll_seconds`: between two looks for the first windows, and a store that
        does not answer is asked again; None: what is not there now is an error."""
        assert data.windows is not None
        self.options: WindowsConfig = data.windows
        self._poll_seconds = poll_seconds
        self.left: list[Seen] = []  # left behind, in the order in which they were
        self.present: Present | None = None
        self.waiting: str | None = None  # why the next window is not read, as far as one is there
        self._env, self._message = env, message
        if data.windows.by == "time":
            self._finder: Partitions | TimeCut = TimeCut(data.windows, data.max_decoded_bytes, poll_seconds is not None)
        else:
            self._finder = Partitions(data.windows, data.max_decoded_bytes)

    @property
    def rows(self) -> int:
        """Of the windows that were entered."""
        return sum(one.rows for one in self.left) + (self.present.seen.rows if self.present is not None else 0)

    @property
    def trained(self) -> int:
        """Windows that were trained on before the present one."""
        return sum(one.outcome == "trained" for one in self.left)

    def first(self) -> Source:
        """The rows of the first windows, which vocabularies are fitted on. Raises InputError where they are not there yet."""
        said = ""
        while True:
            source, why = self._env.on_main(self._first)
            if source is not None:
                return source
            if self._poll_seconds is None:
                raise InputError(f"{why}. Start again when they are there, or with --follow, which waits")
            if why != said:
                self._message(f"{why}: waiting, with a look every {self._poll_seconds:g} s (training.follow)")
            said = why
            time.sleep(self._poll_seconds)

    def next(self, epoch: int, epochs: int) -> bool:
        """Leave the present window and enter the next, for `epochs` epochs from `epoch` on. False: none is there that is whole."""
        look = self._env.on_main(self._look)
        for note in look.notes:
            self._message(note)
        self.waiting = look.waiting
        if look.found is None:
            here = self.present.name if self.present is not None else None
            self.left = [one for one in look.seen if one.name != here]
            if self.present is not None:
                self.present = replace(self.present, seen=next(one for one in look.seen if one.name == here))
            return False
        self.left = look.seen
        seen, source = look.found
        self.present = Present(seen, epoch, epoch + epochs, source=source)
        return True

    def evaluated(self) -> None:
        """The present window was evaluated on."""
        assert self.present is not None
        self.present = replace(self.present, evaluated=True)

    def state(self) -> dict[str, Any]:
        """For a checkpoint; JSON-able."""
        present = self.present and {
            "seen": self.present.seen._asdict(),
            "begin_epoch": self.present.begin_epoch,
            "end_epoch": self.present.end_epoch,
            "evaluated": self.present.evaluated,
        }
        return {"left": [one._asdict() for one in self.left], "present": present}

    def load_state(self, state: dict[str, Any], epoch: int) -> None:
        """Continue from `state()` in `epoch`. Raises InputError where the window that training is in is not as it was."""
        self.left = [Seen(**one) for one in state["left"]]
        self.present = None
        if (kept := state["present"]) is not None:
            seen = Seen(**kept["seen"])
            source = self._env.on_main(lambda: self._again(seen)) if epoch < kept["end_epoch"] else None
            self.present = Present(seen, kept["begin_epoch"], kept["end_epoch"], kept["evaluated"], source)

    def _first(self) -> tuple[Source | None, str]:
        """On rank 0: the rows, or why they are not there."""
        wanted, path = self.options.fit_on, redact(self.options.path)
        windows = self._finder.find()
        whole = [window for window in windows if window.unfinished is None and window.files]
        if len(whole) < wanted:
            why = next((f"; {one.name!r} is not whole: {one.unfinished}" for one in windows if one.unfinished), "")
            return None, (
                f"data.windows.path {path!r} has {len(whole)} window(s) that are whole and hold a file, and vocabularies are fitted on the "
                f"first {wanted} (data.windows.fit_on){why}"
            )
        source = self._finder.open(whole[:wanted])
        if source is None or not source.rows:
            names = ", ".join(repr(window.name) for window in whole[:wanted])
            raise InputError(f"there is no row to fit vocabularies on in the first window(s) of {path!r}: {names}")
        return source, ""

    def _look(self) -> Look:
        """On rank 0: the next window that has a row."""
        seen = [*self.left, *([self.present.seen] if self.present is not None else [])]
        notes: list[str] = []
        try:
            windows = self._finder.find()
        except Unreachable as error:
            if self._poll_seconds is None:
                raise
            return Look(seen, None, f"warning: {error}", notes)
        while True:
            judged: Judged = judge(windows, seen, self.options, lambda window: _checksum(self._finder.open([window])))
            notes += judged.notes
            if judged.next is None:
                return Look(judged.seen, None, judged.waiting, notes)
            window, source = judged.next, self._finder.open([judged.next])
            if source is not None and source.rows:
                found = Seen(window.name, "trained", window.sizes, window.modified, source.checksum, source.rows)
                return Look(judged.seen, (found, source), None, notes)
            seen = [*judged.seen, left_out_empty(window, self.options)]
            notes.append(f"window {window.name!r} has no rows, and is passed over (data.windows.empty: skip)")

    def _again(self, seen: Seen) -> Source:
        """On rank 0: the window that training stopped in."""
        window = next((one for one in self._finder.find() if one.name == seen.name), None)
        source = self._finder.open([window]) if window is not None else None
        if source is None or source.checksum != seen.footers:
            what = "is not there any more" if source is None else "has changed since the checkpoint"
            raise InputError(
                f"cannot resume inside window {seen.name!r}: it {what}. Restore its files as they were, or start a new run"
            )
        return source


def _checksum(source: Source | None) -> int:
    return source.checksum if source is not None else 0
