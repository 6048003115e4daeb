import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future

import pytest

from interformer_rec.serving.engine.batcher import Batcher, ClosedError, LateError, Scored

FAR = 1e9


class Doubler:
    """Doubles numbers; waits for `go` before the first batch, and remembers the batches."""

    def __init__(self) -> None:
        self.go, self.begun = threading.Event(), threading.Event()
        self.batches: list[list[int]] = []

    def __call__(self, work: Sequence[int]) -> list[int | Exception]:
        self.begun.set()
        assert self.go.wait(30)
        self.batches.append(list(work))
        if -1 in work:
            raise RuntimeError("minus one")
        return [2 * one if one != 7 else KeyError("seven") for one in work]


def submitted(
    batcher: Batcher[int, int], doubler: Doubler, work: Sequence[int], size: int = 1
) -> list[Future[Scored[int]]]:
    """One request (0) that is being scored, and `work` behind it."""
    first = batcher.submit(0, 1, FAR)
    assert doubler.begun.wait(30)
    return [first, *(batcher.submit(one, size, FAR) for one in work)]


def test_what_comes_while_a_batch_is_scored_is_the_next_batch() -> None:
    doubler = Doubler()
    seen: list[tuple[int, int]] = []
    batcher: Batcher[int, int] = Batcher(doubler, 500, lambda requests, candidates: seen.append((requests, candidates)))
    futures = submitted(batcher, doubler, range(1, 6), size=10)
    assert batcher.depth == 5
    doubler.go.set()
    assert [future.result(30).value for future in futures] == [0, 2, 4, 6, 8, 10]
    assert doubler.batches == [[0], [1, 2, 3, 4, 5]]
    assert futures[1].result().together == 5
    assert futures[1].result().waited > 0
    batcher.close()
    assert seen == [(1, 1), (5, 50)]


@pytest.mark.parametrize(
    ("size", "batches"),
    [(200, [[1, 2], [3, 4], [5]]), (500, [[1], [2], [3], [4], [5]]), (900, [[1], [2], [3], [4], [5]])],
)
def test_a_batch_has_at_most_cap_candidates_or_one_request(size: int, batches: list[list[int]]) -> None:
    doubler = Doubler()
    batcher: Batcher[int, int] = Batcher(doubler, 500)
    futures = submitted(batcher, doubler, range(1, 6), size)
    doubler.go.set()
    assert [future.result(30).value for future in futures] == [0, 2, 4, 6, 8, 10]
    assert doubler.batches[1:] == batches
    batcher.close()


def test_a_request_that_fails_fails_alone() -> None:
    doubler = Doubler()
    batcher: Batcher[int, int] = Batcher(doubler, 500)
    futures = submitted(batcher, doubler, [1, -1, 7, 3])
    doubler.go.set()
    assert [futures[i].result(30).value for i in (0, 1, 4)] == [0, 2, 6]
    with pytest.raises(RuntimeError, match="minus one"):
        futures[2].result(30)
    with pytest.raises(KeyError, match="seven"):
        futures[3].result(30)
    batcher.close()


def test_late_and_cancelled_requests_are_not_scored() -> None:
    doubler = Doubler()
    batcher: Batcher[int, int] = Batcher(doubler, 500)
    first, cancelled = submitted(batcher, doubler, [1])
    late = batcher.submit(2, 1, time.monotonic() - 1)
    good = batcher.submit(3, 1, FAR)
    assert cancelled.cancel()
    doubler.go.set()
    assert good.result(30).value == 6
    with pytest.raises(LateError, match="waited"):
        late.result(30)
    assert first.result(30).value == 0
    assert doubler.batches == [[0], [3]]
    batcher.close()


def test_between_runs_in_the_scoring_thread_before_what_waits() -> None:
    doubler = Doubler()
    batcher: Batcher[int, int] = Batcher(doubler, 500)
    futures = submitted(batcher, doubler, [1])
    seen: list[tuple[int, str]] = []

    def act() -> int:
        seen.append((len(doubler.batches), threading.current_thread().name))
        return 5

    changed, failed = batcher.between(act), batcher.between(lambda: 1 / 0)
    doubler.go.set()
    assert changed.result(30) == 5
    assert seen == [(1, "scoring")]
    with pytest.raises(ZeroDivisionError):
        failed.result(30)
    assert futures[1].result(30).value == 2
    batcher.close()


def test_close_scores_what_waits_and_takes_no_more() -> None:
    doubler = Doubler()
    batcher: Batcher[int, int] = Batcher(doubler, 500)
    futures = submitted(batcher, doubler, [1, 2])
    closing = threading.Thread(target=batcher.close)
    closing.start()
    doubler.go.set()
    closing.join(30)
    assert not closing.is_alive()
    assert [future.result(0).value for future in futures] == [0, 2, 4]
    for refused in (lambda: batcher.submit(1, 1, FAR), lambda: batcher.between(lambda: None)):
        with pytest.raises(ClosedError):
            refused()
