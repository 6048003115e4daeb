"""Batches across requests, in one scoring thread. In: work from the event loop; out: its results as futures.

No request waits for a batch to fill: the thread takes what has come while it scored the last batch, so batches grow with the load. Work is
taken in the order in which it came, up to `cap` candidates: measured, batches of more win nothing and delay the small requests.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Work = TypeVar("Work")
Result = TypeVar("Result")


class LateError(Exception):
    """The deadline of a request passed before it was scored."""


class ClosedError(Exception):
    """The server is ending: it takes no more work."""


@dataclass(frozen=True)
class Scored(Generic[Result]):
    """A result and how it came about, in seconds."""

    value: Result
    waited: float  # from submission to the start of its batch
    took: float  # of the batch
    together: int  # requests in the batch


@dataclass
class _Job(Generic[Work, Result]):
    work: Work
    size: int
    deadline: float
    came: float
    future: Future[Scored[Result]] = field(default_factory=Future)


class Batcher(Generic[Work, Result]):
    """`score` gets the work of a batch and returns a result, or an exception in its place, for each."""

    def __init__(
        self,
        score: Callable[[Sequence[Work]], Sequence[Result | Exception]],
        cap: int,
        seen: Callable[[int, int], None] = lambda requests, candidates: None,
    ) -> None:
        self._score, self._cap, self._seen = score, cap, seen
        self._waiting: deque[_Job[Work, Result]] = deque()
        self._between: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="scoring", daemon=True)
        self._thread.start()

    @property
    def depth(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        """Whether the scoring thread runs."""
        return self._thread.is_alive()

    def submit(self, work: Work, size: int, deadline: float) -> Future[Scored[Result]]:
        """Queue the work of one request with `size` candidates; `deadline` is a time of time.monotonic().

        The future raises LateError where the batch would begin after the deadline. A cancelled future is not scored.
        """
        job: _Job[Work, Result] = _Job(work, size, deadline, time.monotonic())
        with self._changed:
            if self._closed:
                raise ClosedError("the server is ending")
            self._waiting.append(job)
            self._changed.notify()
        return job.future

    def between(self, act: Callable[[], Any]) -> Future[Any]:
        """Run `act` in the scoring thread after the batch that is being scored and before the next."""
        future: Future[Any] = Future()
        with self._changed:
            if self._closed:
                raise ClosedError("the server is ending")
            self._between.append((act, future))
            self._changed.notify()
        return future

    def close(self) -> None:
        """Score what waits, then end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._between or self._closed)
                acts = list(self._between)
                self._between.clear()
                batch = self._take() if not acts else []
                ended = self._closed and not (batch or acts or self._waiting)
            if ended:
                return
            for act, future in acts:
                if future.set_running_or_notify_cancel():
                    _settle(future, act)
            if batch:
                self._serve(batch)

    def _take(self) -> list[_Job[Work, Result]]:
        """The oldest work whose deadline has not passed: at least one request, then up to the cap."""
        batch: list[_Job[Work, Result]] = []
        size, now = 0, time.monotonic()
        while self._waiting and (not batch or size + self._waiting[0].size <= self._cap):
            job = self._waiting.popleft()
            if not job.future.set_running_or_notify_cancel():
                continue
            if job.deadline < now:
                job.future.set_exception(LateError(f"waited {now - job.came:.3f} s for its turn"))
                continue
            batch.append(job)
            size += job.size
        return batch

    def _serve(self, batch: list[_Job[Work, Result]]) -> None:
        began = time.monotonic()
        results = self._results(batch)
        took = time.monotonic() - began
        for job, result in zip(batch, results, strict=True):
            if isinstance(result, Exception):
                job.future.set_exception(result)
            else:
                job.future.set_result(Scored(result, began - job.came, took, len(batch)))
        self._seen(len(batch), sum(job.size for job in batch))

    def _results(self, batch: list[_Job[Work, Result]]) -> Sequence[Result | Exception]:
        """One request that cannot be scored does not fail the others of its batch: they are scored again one by one."""
        try:
            return self._score([job.work for job in batch])
        except Exception as error:
            if len(batch) == 1:
                return [error]
        return [result for job in batch for result in self._results([job])]


def _settle(future: Future[Any], act: Callable[[], Any]) -> None:
    try:
        future.set_result(act())
    except Exception as error:
        future.set_exception(error)
