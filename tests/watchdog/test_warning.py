"""A warning of the watchdog and its taking back, in one process that says what is heard of both ranks."""

import torch

from interformer_rec.distributed.environment import Environment
from interformer_rec.watchdog.verdict import Seen
from interformer_rec.watchdog.watchdog import Watchdog
from tests.watchdog.test_watchdog import wait_for


class _Told(Watchdog):
    """Hears of both ranks what a test says."""

    def _everybody(self) -> list[Seen]:
        return [Seen(0, "a", 1, 7, "training", self.idle), Seen(1, "b", 2, 7, "waiting for data", self.idle)]


def test_a_warning_is_taken_back_once_and_only_for_a_rank_that_moved():
    lines = []  # a heartbeat carries its rank's own idle time: a late one and the next may differ
    dog = _Told(Environment(0, 2, 0, 2, torch.device("cpu")), 8.0, lines.append)
    for dog.idle, said in ((1.9, 0), (2.1, 1), (1.9, 1), (2.2, 1), (1.1, 1), (0.0, 2), (0.5, 2), (2.1, 3)):
        dog._look()
        wait_for(lambda said=said: len(lines) >= said)
        assert len(lines) == said, (dog.idle, lines)
    assert "went on" in lines[1] and "waiting for data" in lines[2]
