"""Ends a process whose job hangs. In: what the main thread begins (`at`); out: lines that name the slow or stuck rank, and exit 1.

Two threads a rank: one exchanges beats and may block (heartbeat.Channel), one judges and never does. Rank 0 judges all ranks
and sends the others its verdict; a rank that gets no more beats of rank 0 judges rank 0. A process ends when the job stood still
for `patience` seconds, whoever's fault it is, so that its agent (torchrun) can restart the group. Where a rank has left with an
error, AFTER_FAILURE seconds are enough: a collective that waits for it waits in vain, and gloo does not always notice.

All ages are measured by the judge's own clock, which stands still while its process does: a job that was suspended
(Ctrl-Z, scontrol suspend) and goes on blames nobody for the time it slept.
"""

from __future__ import annotations

import faulthandler
import math
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType

import psutil

from interformer_rec import errors
from interformer_rec.distributed.environment import Environment
from interformer_rec.text import seconds
from interformer_rec.watchdog.heartbeat import LEAVE_SECONDS, Beat, Channel
from interformer_rec.watchdog.verdict import WAITS_FOR_OTHERS, Seen, Verdict, accuse, judge, older, prints

SHORTEST, LONGEST = 0.1, 1.0  # seconds between two beats,
MANY = 256  # up to so many ranks; of more, each beats more slowly, as rank 0 reads them all
SILENT_BEATS = 3  # missed in a row
PRINT_SECONDS = 5.0  # the last words may block (a full pipe whose reader is stopped); the end must not
EVIDENCE_SECONDS = 10.0
AFTER_FAILURE = 60.0  # seconds that a collective may take once a rank has left with an error
STDERR = 2
MOST_SAID = 500  # characters of an error, for the other ranks
GONE = "its process is gone (killed?)"
HELD = "its process lives but does not answer (native code that keeps the GIL?)"
REASONS = {
    psutil.STATUS_ZOMBIE: GONE,
    psutil.STATUS_DEAD: GONE,
    psutil.STATUS_STOPPED: "its process is stopped (SIGSTOP?)",
    psutil.STATUS_TRACING_STOP: "its process is stopped by a debugger",
}


class Watchdog:
    """A context manager around the time when a rank must make progress.

    `patience` (seconds, training.hang_seconds) without progress ends the process; a quarter of it brings a warning through
    `say` (one line; default stderr). Leaving it with an error sends the error to the other ranks.
    """

    def __init__(
        self,
        env: Environment,
        patience: float,
        say: Callable[[str], None] | None = None,
        *,
        end: Callable[[int], None] = os._exit,
    ) -> None:
        self.env, self.patience, self._end = env, patience, end
        self._say = say or errors.say
        self.interval = min(max(patience / 20, SHORTEST), LONGEST * max(1.0, env.world_size / MANY))
        self.silent_after = SILENT_BEATS * self.interval
        self._place = (0, "starting")
        self._me = Seen(env.rank, socket.gethostname(), os.getpid())
        self._known, self._moved = self._place, 0.0  # the last place the judge saw, and when it was new
        self._clock, self._woke = 0.0, 0.0
        self._beats: dict[int, tuple[int, float]] = {}  # rank -> its last number, and when that was new
        self._number = 0
        self._accused: Verdict | None = None  # rank 0's opinion, for the other ranks
        self._last_words = ""
        self._limit = patience  # of the last look
        self._channel: Channel | None = None
        self._warned: Verdict | None = None
        self._since = 0.0  # when the standstill began that was warned of
        self._stop, self._news = threading.Event(), threading.Event()
        self._judge = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def at(self, step: int, doing: str) -> None:
        """The main thread begins `doing` ("waiting for data", "training", ...) at `step`; also the next piece of the same.

        One attribute store of a new tuple: the judge sees progress by the tuple's identity.
        """
        self._place = (step, doing)

    def __enter__(self) -> Watchdog:
        """Collective: open the side channel, start watching."""
        if self.env.world_size > 1:
            self._channel = Channel(self.env, self.interval, self._beat, self._news.set)
            if self._channel.lost:
                self._say(f"watchdog: rank {self.env.rank} cannot reach rank 0's store: {self._channel.lost}")
        self._woke = time.monotonic()
        self._judge.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Not collective: ranks leave in any order."""
        self._stop.set()
        self._news.set()
        self._judge.join(LEAVE_SECONDS)
        faulthandler.cancel_dump_traceback_later()
        if self._channel is not None:
            text = f"{type(error).__name__}: {error}".splitlines()[0][:MOST_SAID] if error is not None else ""
            last = self._beat()
            me = replace(last.me, state="failed" if text else "done", error=text)
            self._channel.close(replace(last, number=last.number + 1, me=me, left=True))

    def last_seen(self) -> str:
        """One sentence about the ranks that are missing, for the error of a collective that failed.

        Waits for evidence, EVIDENCE_SECONDS or 6 beats at most: right after a peer vanished nobody has missed it yet, and its last beat
        may be unread.
        """
        start = time.monotonic()
        complete: float | None = None  # the exchange that has all that a rank sent before it was missed
        while True:
            waited = time.monotonic() - start
            found = accuse(self._suspects(), self.silent_after)
            if found is None:
                return "no other rank is known"
            if found.kind == "failed":
                return found.text
            if found.kind == "silent":  # its last beat may have the reason: one sent, but not read here yet
                if complete is None:
                    complete = self._exchanges() + 2  # the one under way may have read before
                if self._exchanges() >= complete or waited > EVIDENCE_SECONDS:
                    return found.text
            elif waited > min(2 * self.silent_after, EVIDENCE_SECONDS):
                return f"no other rank is silent; of them {found.text}"
            time.sleep(self.interval / 4)

    def _exchanges(self) -> float:
        return self._channel.exchanges if self._channel is not None and not self._channel.lost else math.inf

    def _watch(self) -> None:
        while not self._stop.is_set():
            if self.env.world_size > 1:
                # For a main thread that hangs and keeps the GIL: no Python thread runs then, this one in C does. Not for
                # a rank alone, which may have been suspended by hand: its time counts here.
                faulthandler.dump_traceback_later(2 * self.patience, exit=True, file=STDERR)
            last_words, of_rank_0 = self._look()
            if last_words:
                self._finish(last_words, self._said_by() if of_rank_0 else None)
                return
            self._news.wait(self.interval)
            self._news.clear()

    def _look(self) -> tuple[str, bool]:
        """One look at everybody; the last words if the job has to end, else an empty string, and whether they are rank 0's."""
        now = time.monotonic()
        self._clock += min(now - self._woke, self.silent_after)
        self._woke = now
        if self._place is not self._known:
            self._known, self._moved = self._place, self._clock
        received = self._channel.received if self._channel is not None else {}
        for rank, beat in received.items():
            if beat.number != self._beats.get(rank, (-1, 0.0))[0]:
                self._beats[rank] = (beat.number, self._clock)
        everybody = self._everybody()
        # a late heartbeat makes a rank look fresher than it is: what was warned of has gone on only when it is far from the limit
        self._warn(self._judged(everybody, self.patience / (4 if self._warned is None else 8)))
        self._limit = self._patience_with(everybody)
        verdict = self._judged(everybody, self._limit)
        words = f"{verdict.text}. {verdict.cure}" if verdict else ""
        if self.env.is_main:
            self._accused, self._last_words = accuse(everybody, self.silent_after), words
        self._number += 1
        return (words, False) if words or 0 not in received else (received[0].verdict, True)

    def _beat(self) -> Beat:
        """What this rank says now; the channel's thread asks."""
        return Beat(self._number, self._myself(), False, self._accused, self._last_words)

    def _myself(self) -> Seen:
        place = self._place
        idle = self._clock - self._moved if place is self._known else 0.0
        return replace(self._me, step=place[0], doing=place[1], idle=idle)

    def _judged(self, everybody: list[Seen], limit: float) -> Verdict | None:
        """This rank's own judgement; None also where it is rank 0's to judge."""
        if not self.env.is_main and everybody[1].state == "running" and everybody[1].quiet <= limit:
            return None
        if judge(everybody, limit, self.silent_after) is None:
            return None
        return judge(map(self._with_reason, everybody), limit, self.silent_after)

    def _patience_with(self, everybody: list[Seen]) -> float:
        """Less where a rank failed and nobody does anything but wait in collectives; a checkpoint that is being written is left to end."""
        failed = any(one.state == "failed" for one in everybody)
        waiting = all(one.doing in WAITS_FOR_OTHERS for one in everybody if one.state == "running")
        return min(self.patience, AFTER_FAILURE) if failed and waiting else self.patience

    def _everybody(self) -> list[Seen]:
        """This rank and those whose beats it receives: all on rank 0, rank 0 on the others."""
        if self._channel is None:
            return [self._myself()]
        others = range(1, self.env.world_size) if self.env.is_main else [0]
        return [self._myself(), *(self._other(rank, self._channel) for rank in others)]

    def _other(self, rank: int, channel: Channel) -> Seen:
        beat, place = channel.received.get(rank), channel.places[rank]
        quiet = self._clock - self._beats.get(rank, (0, 0.0))[1]
        return older(beat.me if beat else Seen(rank, place.host, place.pid), quiet)

    def _suspects(self) -> list[Seen]:
        """All that is known of other ranks: those whose beats came, those that rank 0 reports, those whose process is gone."""
        channel = self._channel
        if channel is None:
            return []
        found = {one.rank: one for one in self._everybody()}
        zero = channel.received.get(0)
        if zero is not None and zero.accused is not None:
            found |= {one.rank: older(one, found[0].quiet) for one in zero.accused.ranks if one.rank}
        for rank in channel.siblings():
            seen = found.get(rank) or self._other(rank, channel)
            if rank in found or self._with_reason(seen).reason:
                found[rank] = seen
        return [self._with_reason(one) for rank, one in found.items() if rank != self.env.rank]

    def _with_reason(self, seen: Seen) -> Seen:
        """Why it cannot answer, where this process can see that."""
        channel = self._channel
        if channel is None or seen.state != "running":
            return seen
        reason = f"its connection broke ({channel.lost})" if channel.lost and seen.rank == 0 else ""
        if seen.rank in channel.siblings():
            try:
                held = HELD if seen.quiet > self.silent_after else ""
                reason = REASONS.get(psutil.Process(seen.pid).status(), reason or held)
            except psutil.NoSuchProcess:
                reason = GONE
        return replace(seen, reason=reason) if reason else seen

    def _warn(self, found: Verdict | None) -> None:
        """Once when the job begins to stand still, once when it goes on."""
        line = ""
        if found is not None and self._warned is None:
            waiting = "" if found.kind == "together" or self.env.world_size == 1 else "; the others wait"
            line = f"{found.text}{waiting}; after {seconds(self.patience)} the job ends"
            self._since = self._clock - found.ranks[0].idle
        elif found is None and self._warned is not None:
            who = "the ranks" if self._warned.kind == "together" else self._warned.ranks[0].who
            line = f"{who} went on after {seconds(self._clock - self._since)}"
        self._warned = found
        if line:  # in a thread of its own: it may block
            threading.Thread(target=self._say, args=[line], daemon=True).start()

    def _said_by(self) -> int | None:
        """The rank that prints rank 0's verdict in full where this one's output is read, too; None: this one does."""
        if self._channel is None:
            return None
        rank_0 = self._channel.received.get(0)
        first = prints(self.env.rank, self._channel.siblings(), rank_0.accused if rank_0 is not None else None)
        return first if first != self.env.rank else None

    def _finish(self, words: str, said_by: int | None = None) -> None:
        """Say why, unless rank `said_by` does, show where this process stands, end it."""
        timer = threading.Timer(PRINT_SECONDS, self._end, [1])
        timer.daemon = True
        timer.start()
        sys.stdout.flush()
        why = f"{words[0].upper()}{words[1:]}" if said_by is None else f"Rank {said_by} says why."
        of = "training.hang_seconds" if self._limit == self.patience else "after the failure of a rank"
        errors.say(
            f"watchdog: no progress for {seconds(self._limit)} ({of}), so rank {self.env.rank} ends. {why} "
            "Python stacks of this process:"
        )
        faulthandler.dump_traceback(STDERR)
        if self.env.is_main and self._channel is not None:
            time.sleep(2.5 * self.interval)  # the others read the verdict meanwhile
        timer.cancel()
        self._end(1)
