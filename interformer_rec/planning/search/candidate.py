"""One way to shard a table, as arrays. In: what its shards need; out: Candidate, and which of several are not worth keeping.

Legend as in space.py: W ranks, L ranks of a host, H hosts, R resources.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

PERF, HBM, DDR, SSD, PASS = range(5)  # PASS: the first of as many as there are groups
Runs = tuple[tuple[int, tuple[float, ...]], ...]  # (how many shards, what one needs)


@dataclass(frozen=True)
class TablePart:
    """What one table puts into a Candidate: its option, and which rows of the candidate's arrays are its shards."""

    option: int  # of the table's options in canonical order
    place: str  # uniform: shard i on rank i; block: rows of L shards, one host each; free: one rank each
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class Candidate:
    """One way to shard one table, or several that depend on each other."""

    parts: tuple[TablePart, ...]
    runs: Runs  # uniform shards, in rank order; empty without
    blocks: np.ndarray  # [blocks, L, R]: row i of a block on local rank i of the block's host
    free: np.ndarray  # [shards, R]
    same_host: bool  # free shards on one host, that of the block if there is one
    distinct: bool  # no two free shards on one rank

    @cached_property
    def uniform(self) -> np.ndarray | None:
        """[W, R], or None where no table of the candidate is on every rank."""
        if not self.runs:
            return None
        return np.repeat(np.array([need for _, need in self.runs]), [count for count, _ in self.runs], axis=0)

    @cached_property
    def total(self) -> np.ndarray:
        """[R]: sum over shards."""
        uniform = sum((count * np.array(need) for count, need in self.runs), np.zeros(self.free.shape[1]))
        return uniform + self.blocks.sum(axis=(0, 1)) + self.free.sum(axis=0)

    @cached_property
    def largest(self) -> np.ndarray:
        """[R]: the most that a rank must take at once."""
        peaks = [np.array(need) for _, need in self.runs]
        resources = self.free.shape[1]
        return np.max([*peaks, *self.blocks.reshape(-1, resources), *self.free, np.zeros(resources)], axis=0)

    @cached_property
    def peak(self) -> tuple[float, ...]:
        """`largest` as plain numbers: many are compared one by one."""
        return tuple(self.largest.tolist())

    @cached_property
    def everywhere(self) -> tuple[float, ...]:
        """[R] the least that every rank takes of each resource, wherever the other shards lie."""
        return tuple(map(min, zip(*(need for _, need in self.runs), strict=True))) or (0.0,) * self.free.shape[1]

    @cached_property
    def shards(self) -> np.ndarray:
        """[distinct shards, R]: one of each run, then blocks rank by rank, then the free ones."""
        resources = self.free.shape[1]
        runs = np.array([need for _, need in self.runs]).reshape(-1, resources)
        return np.concatenate([runs, self.blocks.reshape(-1, resources), self.free])


def join(candidates: Iterable[Candidate]) -> Candidate:
    """One candidate of several tables: uniform shards added up, blocks added up (they share the host), free ones in a row."""
    parts: list[TablePart] = []
    uniform: np.ndarray | float = 0.0
    blocks: list[np.ndarray] = []
    free: list[np.ndarray] = []
    host_size, rows, resources = 0, 0, 0
    for candidate in candidates:
        (part,) = candidate.parts
        host_size, resources = candidate.blocks.shape[1:]
        if candidate.uniform is not None:
            uniform = uniform + candidate.uniform
        blocks.extend(candidate.blocks)
        free.extend(candidate.free)
        parts.append(
            TablePart(part.option, part.place, rows, rows + len(candidate.free)) if part.place == "free" else part
        )
        rows += len(candidate.free)
    runs = tuple((1, tuple(row)) for row in uniform) if isinstance(uniform, np.ndarray) else ()
    block = np.sum(blocks, axis=0)[None] if blocks else np.zeros((0, host_size, resources))
    return Candidate(tuple(parts), runs, block, np.array(free).reshape(-1, resources), True, False)


def fits_alone(candidate: Candidate, capacity: np.ndarray, host_size: int) -> bool:
    """Could the candidate be placed if it were the only one?"""
    uniform = candidate.uniform
    room = capacity if uniform is None else capacity - uniform
    if (uniform is not None and (room < 0).any()) or (candidate.total > capacity.clip(min=0).sum(axis=0)).any():
        return False
    hosts = room[: len(room) // host_size * host_size].reshape(-1, host_size, room.shape[1])
    each = all((hosts >= block).all(axis=(1, 2)).any() for block in candidate.blocks)
    return each and all((room >= shard).all(axis=1).any() for shard in candidate.free)


def undominated(candidates: list[Candidate]) -> list[Candidate]:
    """Without those that another one replaces in any plan, at no cost in time or memory; of equals the first stays."""
    kept: list[Candidate] = []
    for i, candidate in enumerate(candidates):
        others = ((j, other) for j, other in enumerate(candidates) if j != i)
        if not any(_replaces(o, candidate) and (j < i or not _replaces(candidate, o)) for j, o in others):
            kept.append(candidate)
    return kept


def _replaces(one: Candidate, other: Candidate) -> bool:
    """May `one` stand wherever `other` stands? Its shards must be no larger and at least as free to move."""
    if any(mine > theirs for mine, theirs in zip(one.peak, other.peak, strict=True)):
        return False
    if one.runs or len(one.blocks):
        alike = len(one.runs) == len(other.runs) and one.blocks.shape == other.blocks.shape and not len(one.free)
        counts = [n for n, _ in one.runs] == [n for n, _ in other.runs]
        smaller = all((np.array(a) <= np.array(b)).all() for (_, a), (_, b) in zip(one.runs, other.runs, strict=False))
        return alike and counts and not len(other.free) and smaller and bool((one.blocks <= other.blocks).all())
    if (one.same_host and not (other.same_host or len(other.free) == 1)) or (one.distinct and not other.distinct):
        return False
    if len(one.free) == 1:  # one shard may stand for any shard of the other
        resources = one.free.shape[1]
        theirs = np.array([need for _, need in other.runs] + [*other.blocks.reshape(-1, resources), *other.free])
        theirs = theirs.reshape(-1, resources)
        return bool((one.free[0] <= theirs).all(axis=1).any()) and not one.same_host
    alike = one.free.shape == other.free.shape and not other.runs and not len(other.blocks)
    return alike and bool((one.free <= other.free).all())
