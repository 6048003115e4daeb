"""This host, or the container it runs in. In: what the kernel says; out: its memory and what is left of it in bytes, the usable cores.

Both versions of control groups count, and every group above this process's own: the tightest one decides. Version 1 writes about 2^63
where there is no limit, which is more than any host has.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import psutil

CGROUP = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")  # the groups of this process, one line a hierarchy


class _Files(NamedTuple):
    """Names of a control group's files; the first key of `statistics` that is there counts."""

    limit: str
    used: str
    cache: tuple[str, ...]


V1 = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "inactive_file"))
V2 = _Files("memory.max", "memory.current", ("inactive_file",))


class Limit(NamedTuple):
    """What one control group allows."""

    total: int
    free: int


def usable_cores() -> int:
    """Cores this process may run on, which a container or a scheduler may have limited."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def total_memory(root: Path = CGROUP, own: Path = OWN) -> int:
    """Bytes of this host, or of its container if that has fewer."""
    return min([psutil.virtual_memory().total, *(limit.total for limit in limits(root, own))])


def free_memory(root: Path = CGROUP, own: Path = OWN) -> int:
    """Bytes this process's host, or its container, can still give."""
    return max(0, min([psutil.virtual_memory().available, *(limit.free for limit in limits(root, own))]))


def limits(root: Path = CGROUP, own: Path = OWN) -> list[Limit]:
    """Of every control group of this process that has a memory limit; [] outside containers, and where there are no such files."""
    return [limit for folder, files in _groups(root, own) if (limit := _read(folder, files)) is not None]


def _groups(root: Path, own: Path) -> Iterator[tuple[Path, _Files]]:
    """The process's own groups and those above, as far as they are mounted here: in a container often the top one alone."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = ["0::/", "1:memory:/"]
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "memory" not in controllers.split(","):
            continue
        inside = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
        # version 2 alone, beside version 1 ("hybrid"), and version 1
        tops = [root / "memory", root / controllers] if controllers else [root, root / "unified"]
        for top in dict.fromkeys(tops):
            for depth in range(len(inside), -1, -1):
                yield top.joinpath(*inside[:depth]), V1 if controllers else V2


def _read(folder: Path, files: _Files) -> Limit | None:
    """None: no such group here, no limit, or a file that holds something else."""
    try:
        limit = (folder / files.limit).read_text(encoding="utf-8").strip()
        if limit == "max":
            return None
        used = int((folder / files.used).read_text(encoding="utf-8"))
        return Limit(int(limit), int(limit) - used + _cache(folder, files))  # the file cache gives way
    except (OSError, ValueError):
        return None


def _cache(folder: Path, files: _Files) -> int:
    try:
        statistics = dict(
            line.split(maxsplit=1) for line in (folder / "memory.stat").read_text(encoding="utf-8").splitlines()
        )
    except (OSError, ValueError):
        return 0
    return next((int(statistics[key]) for key in files.cache if key in statistics), 0)
