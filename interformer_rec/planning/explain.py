"""Why this plan and not another one. In: a Placed; out: for each table what every other option would have cost, and what would help.

An option is judged with all other tables where they are: its shards go to the least loaded ranks that have room. So "slower by"
is what choosing it alone would add to the slowest rank and so to the step, which the search minimises.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torchrec.distributed.planner.types import Shard, ShardingOption

from interformer_rec.distributed.sharding_types import SHARDING_TYPES
from interformer_rec.planning.answer import Placed
from interformer_rec.planning.constraints import HOST_KERNELS, TableKind, why_not
from interformer_rec.planning.cost.timing import step_time
from interformer_rec.planning.cost.work import BY_COLUMNS
from interformer_rec.planning.search.options import ShardRuns
from interformer_rec.planning.search.rank_groups import RankGroup
from interformer_rec.text import GIB

EXPLAINED = sys.maxsize  # tables with all their rejected options: all of them
FAR = 1e18  # bytes that a rank outside a table's group lacks


@dataclass(frozen=True)
class Rejected:
    """An option that was not taken. `slowest_ms` and `all_ms`: added to the slowest rank and to the sum of ranks; None: impossible."""

    sharding: str
    kernel: str
    reason: str
    slowest_ms: float | None = None
    all_ms: float | None = None


@dataclass(frozen=True)
class TableReport:
    """One table's place in the plan."""

    name: str
    rows: int
    dim: int
    sharding: str
    kernel: str
    ranks: tuple[int, ...]
    device_bytes: int  # over all ranks
    host_bytes: int
    ms: float  # lookup, exchange and update, summed over ranks
    ids_per_row: float
    rejected: tuple[Rejected, ...]
    kept_on: str = ""  # the hosts or ranks that constraints allow; empty: all


def explain(placed: Placed, limit: int = EXPLAINED, first: Sequence[str] = ()) -> list[TableReport]:
    """Every table, costliest first; the first `limit` and those named in `first` with their rejected options."""
    order = sorted(placed.options, key=lambda option: (-total_ms(option), option.name))
    judge = _Judge(placed) if limit or first else None
    return [_report(placed, o, judge if i < limit or o.name in first else None) for i, o in enumerate(order)]


def total_ms(option: ShardingOption) -> float:
    """Over all shards."""
    return sum(shard.perf.total for shard in option.shards)  # type: ignore[union-attr]


def _report(placed: Placed, option: ShardingOption, judge: _Judge | None) -> TableReport:
    table = placed.problem.tables[option.name]
    on_cpu = placed.problem.cluster.device == "cpu"
    stored = [shard.storage for shard in option.shards]
    hbm, ddr = (sum(getattr(part, memory) for part in stored) for memory in ("hbm", "ddr"))
    return TableReport(
        name=option.name,
        rows=table.rows,
        dim=table.dim,
        sharding=option.sharding_type,
        kernel=option.compute_kernel,
        ranks=tuple(sorted({int(shard.rank) for shard in option.shards})),  # type: ignore[arg-type]
        device_bytes=ddr if on_cpu else hbm,
        host_bytes=0 if on_cpu else ddr,
        ms=total_ms(option),
        ids_per_row=table.ids_per_row,
        rejected=tuple(judge.rejected(option)) if judge else (),
        kept_on=placed.problem.groups[option.name].label if option.name in placed.problem.groups else "",
    )


class _Judge:
    """Tries the other options of a table, one at a time."""

    def __init__(self, placed: Placed) -> None:
        problem = placed.problem
        self.problem, self.local = problem, problem.cluster.devices_per_node
        self._needs: dict[int, tuple[Sequence[Shard], np.ndarray]] = {}
        self.options: dict[str, list[ShardingOption]] = defaultdict(list)
        for option in problem.all_options(placed.counts_exchange):
            self.options[option.name].append(option)
        devices = [device.storage for device in placed.topology.devices]
        self.loads = np.zeros(problem.ranks)  # ms
        self.free = np.array([[d.hbm, d.ddr] for d in devices], float)  # (ranks, 2) bytes
        self.chosen = {o.name: (np.array([s.rank for s in o.shards]), _needs(o.shards)) for o in placed.options}
        for option in placed.options:
            self._put(option, 1)
        self.slowest, self.sum = float(self.loads.max()), float(self.loads.sum())

    def _put(self, option: ShardingOption, sign: int) -> None:
        """Add a placed table, or with -1 take it away."""
        ranks, needs = self.chosen[option.name]
        np.add.at(self.loads, ranks, sign * needs[:, 0])
        np.subtract.at(self.free, ranks, sign * needs[:, 1:])

    def needs(self, option: ShardingOption) -> np.ndarray:
        """[shards, 3] ms, device and host bytes; tables that are alike share their shards, so most are found again."""
        if id(option.shards) not in self._needs:
            self._needs[id(option.shards)] = (option.shards, _needs(option.shards))
        return self._needs[id(option.shards)][1]

    def rejected(self, chosen: ShardingOption) -> list[Rejected]:
        """Every option but the chosen one."""
        table, problem = self.problem.tables[chosen.name], self.problem
        kind, group = TableKind(table.name, table.pooled, table.dim, table.optimizer), problem.groups.get(table.name)
        self._put(chosen, -1)  # its own place is free while its other options are tried
        found: list[Rejected] = []
        there: dict[tuple[str, str], list[ShardingOption]] = defaultdict(list)
        for option in self.options[chosen.name]:
            there[option.sharding_type, option.compute_kernel].append(option)
        for sharding in SHARDING_TYPES:
            kernel = "dense" if sharding == "data_parallel" else "fused"
            if (sharding, kernel) == (chosen.sharding_type, chosen.compute_kernel):
                others = [option for option in there[sharding, kernel] if len(option.shards) != len(chosen.shards)]
                found += [self._try(option, group) for option in others]
                continue
            why = why_not(kind, sharding, kernel, problem.constraints, problem.job.device, problem.ranks, group)
            tried = self._best([self._try(option, group) for option in there[sharding, kernel]])
            if why is not None or tried is None:
                tried = Rejected(sharding, kernel, (why or "TorchRec offers none") + _would(tried))
            found.append(tried)
        self._put(chosen, 1)
        if problem.job.device == "cuda" and chosen.compute_kernel == "fused":
            for kernel in HOST_KERNELS:
                why = why_not(kind, chosen.sharding_type, kernel, problem.constraints, "cuda", problem.ranks, group)
                reason = why or "the rows fit in device memory, which is faster"
                found.append(Rejected(chosen.sharding_type, kernel, reason))
        return found

    @staticmethod
    def _best(tried: Sequence[Rejected]) -> Rejected | None:
        """Of several cuts the one that would cost least."""
        return min(
            tried, key=lambda one: (one.slowest_ms is None, one.slowest_ms or 0.0, one.all_ms or 0.0), default=None
        )

    def _try(self, option: ShardingOption, group: RankGroup | None) -> Rejected:
        found = self._tried(option, group)
        columns = next(iter(option.shards)).size[1]
        if option.sharding_type in BY_COLUMNS and columns < option.tensor.shape[1]:
            return replace(found, reason=f"in pieces of {columns} floats: {found.reason}")
        return found

    def _tried(self, option: ShardingOption, group: RankGroup | None) -> Rejected:
        needs = self.needs(option)
        ranks, lack = self._ranks(option, needs, group)
        if lack > 0:
            only = f" ({group.label} only)" if group else ""
            reason = f"does not fit: {lack / GIB:.2f} GiB too much on rank {ranks[-1]}{only}"
            return Rejected(option.sharding_type, option.compute_kernel, reason)
        loads = self.loads.copy()
        np.add.at(loads, ranks, needs[:, 0])
        slowest, everyone = float(loads.max()) - self.slowest, float(loads.sum()) - self.sum
        if slowest > 1e-9:
            reason = f"slower by {slowest:.4g} ms on the slowest rank"
        elif everyone > 1e-9:
            reason = f"the slowest rank stays as it is, but {everyone:.4g} ms more work over all ranks"
        else:
            reason = f"as fast: {slowest:+.4g} ms on the slowest rank, {everyone:+.4g} ms over all ranks"
        return Rejected(option.sharding_type, option.compute_kernel, reason, slowest, everyone)

    def _ranks(self, option: ShardingOption, needs: np.ndarray, group: RankGroup | None) -> tuple[list[int], float]:
        """Ranks of the shards and 0; or ranks up to the one that comes closest to holding a shard, and the bytes it lacks."""
        every = np.arange(len(self.loads))
        free, loads, taken = self.free.copy(), self.loads.copy(), list[int]()
        step, choices = 1, every[:, None]  # a shard at once, on any rank
        if option.partition_by == "uniform":
            step, choices = len(needs), every[None, : len(needs)]
        elif group is not None:
            free[np.isin(every, group.ranks, invert=True)] = -FAR
        if option.partition_by in ("host", "multi_host"):
            step, choices = self.local, every.reshape(-1, self.local)
        for start in range(0, len(needs), step):
            shards = needs[start : start + step]
            places = choices[:, : len(shards)]  # [choices, shards] ranks
            lack = (shards[None, :, 1:] - free[places]).max(axis=2)  # [choices, shards] bytes
            ends = np.where(lack.max(axis=1) <= 0, (loads[places] + shards[None, :, 0]).max(axis=1), np.inf)
            best = int(ends.argmin() if np.isfinite(ends).any() else lack.max(axis=1).argmin())
            if lack[best].max() > 0:
                return [*taken, int(places[best, lack[best].argmax()])], float(lack[best].max())
            loads[places[best]] += shards[:, 0]
            free[places[best]] -= shards[:, 1:]
            taken += places[best].tolist()
        return taken, 0.0


def _needs(shards: Sequence[Shard]) -> np.ndarray:
    """[shards, 3] ms, bytes of device memory (of host memory on the CPU: hbm is 0 there), of host memory."""
    runs = shards.runs if isinstance(shards, ShardRuns) else [(1, shard) for shard in shards]
    rows = [[s.perf.total, s.storage.hbm, s.storage.ddr] for _, s in runs]  # type: ignore[union-attr]
    return np.repeat(np.array(rows, dtype=float), [count for count, _ in runs], axis=0)


def _would(tried: Rejected | None) -> str:
    """What a ruled-out option would have brought."""
    return f" (without that: {tried.reason})" if tried is not None else ""


def what_would_help(placed: Placed) -> dict[str, float]:
    """Change -> milliseconds a step would take with the same plan."""
    problem, now = placed.problem, placed.time
    found = {}
    for link in ("inter_node", "intra_node"):
        name = f"{link}_gb_per_s"
        faster = problem.cluster.model_copy(update={name: 2 * getattr(problem.cluster, name)})
        time = step_time(problem.changed(cluster=faster), placed.options)
        found[f"twice the {link.replace('_', '-')} bandwidth"] = time.total
    tables = {"lookup": now.lookup / 2, "update": now.update / 2}
    found["twice the memory bandwidth for tables"] = replace(now, **tables).total  # type: ignore[arg-type]
    dense = replace(now, dense_forward=now.dense_forward / 2, dense_backward=now.dense_backward / 2)
    found["a dense part twice as fast"] = dense.total
    found["tables spread perfectly evenly"] = now.total - float(now.by_rank.max() - now.by_rank.mean())
    found["half the host's time (fewer sharding types, compiled or captured steps)"] = replace(
        now, host=now.host / 2
    ).total
    return {what: ms for what, ms in found.items() if ms < 0.99 * now.total}
