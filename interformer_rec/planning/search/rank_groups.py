"""Ranks that a table may lie on. In: numbers, ranges and names, as a constraints file has them; out: a RankGroup, or what is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from interformer_rec.errors import InputError
from interformer_rec.text import ranges

Places = int | str | tuple[int | str, ...]  # 3, "0-7", the name of a group, or several of them
MOST = 32  # different groups in one plan: each is a resource more for the search to count


@dataclass(frozen=True)
class RankGroup:
    """Some ranks of a job, ascending, and how a sentence calls them: 'hosts 0-1'."""

    label: str
    ranks: tuple[int, ...]

    def __and__(self, other: RankGroup) -> RankGroup:
        """The ranks of both; the label says 'hosts 0-1 and ranks 4-7'."""
        if self.ranks == other.ranks:
            return self
        both = set(self.ranks) & set(other.ranks)
        return RankGroup(f"{self.label} and {other.label}", tuple(sorted(both)))


def group_of_hosts(places: Places, named: Mapping[str, Places], hosts: int, local: int) -> RankGroup:
    """All ranks of the hosts; `local` ranks a host. Raises InputError for a host that is not there."""
    chosen = _checked("host", _numbers(places, named), hosts)
    return RankGroup(_label("host", chosen), tuple(host * local + i for host in chosen for i in range(local)))


def group_of_ranks(places: Places, named: Mapping[str, Places], ranks: int) -> RankGroup:
    """Raises InputError for a rank that is not there."""
    chosen = _checked("rank", _numbers(places, named), ranks)
    return RankGroup(_label("rank", chosen), tuple(chosen))


def _label(what: str, numbers: Sequence[int]) -> str:
    return f"{what}{'s' if len(numbers) > 1 else ''} {ranges(numbers)}"


def _checked(what: str, numbers: Iterable[int], count: int) -> list[int]:
    chosen = sorted(set(numbers))
    missing = [number for number in chosen if not 0 <= number < count]
    if missing:
        there = f"{what}s 0-{count - 1}" if count > 1 else f"{what} 0 only"
        raise InputError(f"there is no {_label(what, missing)}: this job has {there}")
    return chosen


def _numbers(places: Places, named: Mapping[str, Places]) -> list[int]:
    if isinstance(places, int):
        return [places]
    if isinstance(places, tuple):
        return [number for place in places for number in _numbers(place, named)]
    if places in named:
        return _numbers(named[places], {})
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", places.strip())
    if match is None or (match[2] and int(match[2]) < int(match[1])):
        raise InputError(
            f"{places!r} is neither a number, nor a range such as 0-7, nor under host_groups ({', '.join(named) or 'none'})"
        )
    return list(range(int(match[1]), int(match[2] or match[1]) + 1))
