"""The watchdog's side channel. In: this rank's Beat; out: the latest beats of the ranks that it receives them from.

A TCPStore of its own, hosted by rank 0, used by one thread per rank and never by the training: no collective, nothing of the
process group. Rank 0 reads the beats of all, the others read rank 0's, which carries its judgement. Everything passes
through rank 0's store, so when rank 0 is silent nobody could learn more by reading all; and 512 ranks cost two
messages a rank and interval, not 512.

Operations of a TCPStore block for as long as its server's process is stopped or cut off, whatever its timeout (torch 2.13:
the timeout is the server's to keep). So the thread in here does nothing but exchange: whoever judges must not wait for it.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from interformer_rec.distributed.environment import Environment
from interformer_rec.watchdog.verdict import Seen, Verdict

CONNECT_SECONDS = 10.0
LEAVE_SECONDS = 1.0  # to send the last beat: the thread may be blocked


@dataclass(frozen=True)
class Place:
    """Where a rank's process is."""

    host: str
    pid: int
    agent: int  # its parent: ranks with the same host and parent see each other's processes


@dataclass(frozen=True)
class Beat:
    """What a rank says of itself; rank 0 also what it thinks of the others."""

    number: int  # counts up: an old number is an old beat
    me: Seen
    left: bool = False  # this rank does not use the store any more
    accused: Verdict | None = None  # rank 0's: whom to suspect first
    verdict: str = ""  # rank 0's: the job has to end, and why

    def to_json(self) -> str:
        """For the wire: values without names, as rank 0 reads those of all ranks."""
        accused = self.accused and (self.accused.kind, list(map(_values, self.accused.ranks)), self.accused.count)
        return json.dumps([_values(self.me), self.number, self.left, self.verdict, accused])

    @staticmethod
    def from_json(text: bytes | str) -> Beat:
        """From the wire."""
        me, number, left, verdict, accused = json.loads(text)
        if accused is not None:
            kind, ranks, count = accused
            accused = Verdict(kind, tuple(Seen(*values) for values in ranks), count)
        return Beat(number, Seen(*me), left, accused, verdict)


class Channel:
    """One rank's end of the side channel.

    `places` are all ranks' by rank; `received` the latest beat by rank, as of exchange number `exchanges`; `lost` says why rank 0's
    store cannot be reached, or "".
    The channel's thread calls `beat` for what to send and `news` when beats came in.
    """

    def __init__(self, env: Environment, interval: float, beat: Callable[[], Beat], news: Callable[[], None]) -> None:
        """Collective: rank 0 opens the store, all connect. A rank that cannot within CONNECT_SECONDS goes on without."""
        self.rank, self.interval, self.beat, self.news = env.rank, interval, beat, news
        self.received: dict[int, Beat] = {}
        self.exchanges = 0
        self.lost = ""
        self._store: dist.TCPStore | None = None
        self._others = [rank for rank in range(env.world_size) if rank != env.rank]
        port = 0
        if env.is_main:
            self._store = _store("localhost", 0, server=True)
            for rank in range(env.world_size):  # a read of a missing key would wait for it
                self._store.set(str(rank), "")
            port = self._store.port
        facts: list[Any] = [None] * env.world_size
        dist.all_gather_object(facts, (Place(socket.gethostname(), os.getpid(), os.getppid()), _address(env), port))
        self.places: list[Place] = [place for place, _, _ in facts]
        self._host, self._port = facts[0][1:]
        self._leaving = threading.Event()
        connected = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(connected,), name="heartbeat", daemon=True)
        self._thread.start()
        connected.wait(CONNECT_SECONDS)
        # From here on the others receive this rank's beats.
        dist.barrier(device_ids=[env.device.index] if env.device.type == "cuda" else None)

    def siblings(self) -> dict[int, int]:
        """Rank -> pid of the other ranks whose processes this one can see."""
        here = self.places[self.rank]
        return {
            rank: place.pid
            for rank, place in enumerate(self.places)
            if rank != self.rank and (place.host, place.agent) == (here.host, here.agent)
        }

    def close(self, last: Beat) -> None:
        """Send the last beat; safe in any order of ranks, bounded in time.

        Rank 0 holds the store open until the ranks that still beat have received its last one: they ask once an interval.
        """
        self.beat = lambda: last
        self._leaving.set()
        self._thread.join(LEAVE_SECONDS)
        if self.rank == 0 and not self.lost:
            deadline = time.monotonic() + 1.5 * self.interval
            while time.monotonic() < deadline and not self._all_left():
                time.sleep(0.02)
                self._exchange()
        self._store = None

    def _all_left(self) -> bool:
        return all(rank in self.received and self.received[rank].left for rank in self._others)

    def _run(self, connected: threading.Event) -> None:
        """Until the last beat is sent, rank 0 left, or the connection broke: a server that died does not come back."""
        while True:
            last = self._leaving.is_set()
            try:
                self._store = self._store or _store(self._host, self._port, server=False)
                self._exchange()
            except RuntimeError as error:  # torch.distributed's errors are
                self.lost = str(error).splitlines()[0]
            connected.set()
            self.news()
            if last or self.lost or self._rank_0_left():
                return
            self._leaving.wait(self.interval)

    def _exchange(self) -> None:
        store = self._store
        assert store is not None
        store.set(str(self.rank), self.beat().to_json())
        readable = self._others if self.rank == 0 else [0]
        texts = store.multi_get([str(rank) for rank in readable])
        self.received = {rank: Beat.from_json(text) for rank, text in zip(readable, texts, strict=True) if text}
        self.exchanges += 1
        if self._rank_0_left():
            store.set(str(self.rank), replace(self.beat(), left=True).to_json())

    def _rank_0_left(self) -> bool:
        return self.rank != 0 and 0 in self.received and self.received[0].left


def _values(seen: Seen) -> list[Any]:
    return list(vars(seen).values())  # in the order of its fields


def _store(host: str, port: int, server: bool) -> dist.TCPStore:
    timeout = timedelta(seconds=CONNECT_SECONDS)
    return dist.TCPStore(host, port, None, server, timeout, wait_for_workers=False)


def _address(env: Environment) -> str:
    """A name of rank 0's host that the other ranks can reach; of interest on rank 0 only."""
    if "MASTER_ADDR" in os.environ:
        return os.environ["MASTER_ADDR"]
    return "localhost" if env.local_world_size == env.world_size else socket.gethostname()
