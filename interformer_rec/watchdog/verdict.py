"""Who holds a job up. In: what is known of every rank (Seen); out: a Verdict, which names the culprits and the cure.

Pure functions, no clocks and no messages: the watchdog gathers, this judges. In a job that hangs every rank stands still,
because each collective waits for the last one to come; the culprit is the one that did not come.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from interformer_rec.text import seconds

# Collective activities: a rank in one of them most likely waits for a rank that is not.
WAITS_FOR_OTHERS = frozenset({"training", "exchanging metrics", "evaluating"})
NAMED = 3  # of 128 culprits nobody reads more

CURES = {
    "silent": "Look at that process and its host: stopped, out of memory, host down, network cut?",
    "failed": "The output of that rank says more.",
    "waiting for data": "Look at the storage its files are on; if it is only slow, set training.hang_seconds higher.",
    "behind": "The stacks in that rank's output say where; if it is only slow, set training.hang_seconds higher.",
    "together": "Nobody is behind: suspect what they share, the network between the hosts or the storage.",
}


@dataclass(frozen=True)
class Seen:
    """One rank as of its last beat. Durations are in seconds, measured by the clock of the reader."""

    rank: int
    host: str
    pid: int
    step: int = 0
    doing: str = "starting"
    idle: float = 0.0  # since its main thread last began something
    quiet: float = 0.0  # since its watchdog's last sign of life
    state: str = "running"  # or "done", "failed": it left the watchdog, without or with an error
    error: str = ""  # of a failed one
    reason: str = ""  # why it cannot answer, where the reader knows

    @property
    def who(self) -> str:
        """Which process on which machine."""
        return f"rank {self.rank} (host {self.host}, pid {self.pid})"


@dataclass(frozen=True)
class Verdict:
    """The ranks that the others wait for, worst first."""

    kind: str  # silent, failed, behind (it moves less than others) or together (all stand at the same place)
    ranks: tuple[Seen, ...]  # at most NAMED
    count: int  # how many there are

    @property
    def text(self) -> str:
        """What is wrong, as a sentence without its full stop."""
        first = self.ranks[0]
        if self.kind == "together" and self.count > 1:
            place = f"at step {first.step} ({first.doing}) for {seconds(first.idle)}"
            return f"all {self.count} ranks have been {place}; the last to come was {first.who}"
        ranks = ", ".join(_SENTENCES[self.kind](seen) for seen in self.ranks)
        return ranks + (f", and {self.count - len(self.ranks)} ranks more" if self.count > len(self.ranks) else "")

    @property
    def cure(self) -> str:
        """What to do, as a sentence."""
        doing = self.ranks[0].doing
        return CURES[doing if self.kind == "behind" and doing in CURES else self.kind]


def judge(seen: Iterable[Seen], limit: float, silent_after: float) -> Verdict | None:
    """The culprits if the job stands still, else None.

    It stands still when no rank in it has begun anything for `limit` seconds (silent ranks included: no news is no
    progress). One rank that stands while another moves is no hang yet: it may wait for the one that moves, as all
    do while rank 0 writes a file. Ranks that left are not waited for. A rank is silent after `silent_after` seconds.
    """
    seen = list(seen)
    running = [one for one in seen if one.state == "running"]
    if not running or min(one.idle for one in running) <= limit:
        return None
    return accuse(seen, silent_after)


def accuse(seen: Iterable[Seen], silent_after: float) -> Verdict | None:
    """The most suspect ranks, whether or not the job stands still; None if every rank is done.

    Silent ranks first, the longest silence first: whoever is stopped or unreachable cannot come. Then those that left
    with an error, the first one first, as the later ones may have failed because of it. Then the smallest step; at
    equal steps those that do something of their own (wait for data, write a file) before those in a collective.
    """
    seen = list(seen)
    running = [one for one in seen if one.state == "running"]
    silent = [one for one in running if one.quiet > silent_after or one.reason]
    failed = [one for one in seen if one.state == "failed"]
    if silent or failed:
        kind, found = ("silent", silent) if silent else ("failed", failed)
        return _verdict(kind, sorted(found, key=lambda one: -one.quiet))
    if not running:
        return None
    step = min(one.step for one in running)
    last = [one for one in running if one.step == step]
    own = [one for one in last if one.doing not in WAITS_FOR_OTHERS]
    found = own or last
    alike = len({one.doing for one in found}) == 1
    kind = "together" if len(found) == len(running) > 1 and alike else "behind"
    # Together, the last one to come to the place where all stand is the most interesting; else the one there longest.
    return _verdict(kind, sorted(found, key=lambda one: one.idle if kind == "together" else -one.idle))


def prints(rank: int, beside: Iterable[int], accused: Verdict | None) -> int:
    """The rank that prints rank 0's verdict for `rank` and those `beside` it, whose output is read in one place.

    It is the first one, but not an accused one, which may not get to it: those of one agent (torchrun) each have one that does.
    """
    hindered = {one.rank for one in accused.ranks} if accused is not None else set()
    return min({rank, *beside} - hindered, default=rank)


def older(seen: Seen, quiet: float) -> Seen:
    """What a beat held, `quiet` seconds after it was received: no step has begun since, as far as is known."""
    return replace(seen, quiet=quiet, idle=seen.idle + quiet)


def _verdict(kind: str, found: list[Seen]) -> Verdict:
    return Verdict(kind, tuple(found[:NAMED]), len(found))


def _silent(seen: Seen) -> str:
    reason = seen.reason or "its process is stopped, its host is dead, or the network to it is cut"
    place = f"last seen {seconds(seen.quiet)} ago at step {seen.step}, {seen.doing}"
    return f"{seen.who} is silent ({place}): {reason}"


def _failed(seen: Seen) -> str:
    return f"{seen.who} left with an error at step {seen.step}, {seen.doing}: {seen.error}"


def _behind(seen: Seen) -> str:
    return f"{seen.who} has been {seen.doing} at step {seen.step} for {seconds(seen.idle)}"


_SENTENCES = {"silent": _silent, "failed": _failed, "behind": _behind, "together": _behind}
