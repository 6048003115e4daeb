"""What a trial's process says to the one that started it. Loads no torch: the parent needs none."""

from typing import NamedTuple

EVALUATED = "evaluated"  # a value at a step; the answer says whether to go on
DONE = "done"  # value, epoch
PRUNED = "pruned"
FAILED = "failed"  # why
REFUSED = "refused"  # why: bad input, or settings that contradict each other
NO_DATA = "no data"  # why: this machine has not the files of the config
STOPPED = "stopped"  # by a signal; everything is saved


class Message(NamedTuple):
    """One of the above, and what belongs to it."""

    kind: str
    value: float | None = None
    step: int | None = None
    epoch: int | None = None
    why: str = ""
