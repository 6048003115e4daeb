"""What the user allows each table. In: a constraints file and the run's `sharding` section; out: the options a table may have, or why not.

What a table may have at all is written in distributed/sharding_types.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce

from pydantic import Field, ValidationError, model_validator

from interformer_rec import strict_yaml
from interformer_rec.config.errors import explain
from interformer_rec.config.run import ShardingConfig, ShardingType
from interformer_rec.config.strict import Name, Strict, Width
from interformer_rec.distributed.lookup.communication import Precision
from interformer_rec.distributed.sharding import TableInfo
from interformer_rec.distributed.sharding_types import (
    HOST_KERNELS,
    KERNELS,
    SHARDING_TYPES,
    Kernel,
    check_wish,
    not_automatic,
    not_possible,
    passed_over,
)
from interformer_rec.errors import InputError
from interformer_rec.planning.search.rank_groups import MOST, Places, RankGroup, group_of_hosts, group_of_ranks

EVERYWHERE = ("row_wise", "data_parallel")  # these have a shard on every rank


class TableConstraints(Strict):
    """Of one table."""

    sharding: tuple[ShardingType, ...] = Field((), description="allowed sharding types; empty: all that are possible")
    kernels: tuple[Kernel, ...] = Field((), description="allowed kernels; empty: fused, and dense for data_parallel")
    hosts: Places = Field((), description="allowed hosts: numbers, ranges (0-7), names of host_groups; empty: all")
    ranks: Places = Field((), description="allowed ranks, if hosts are too coarse; only one of the two")

    min_partition: Width | None = Field(
        None,
        description="floats that a piece of a table cut by columns has at least; null: the planner chooses, from 64",
    )

    @model_validator(mode="after")
    def _check(self) -> TableConstraints:
        if self.hosts != () and self.ranks != ():
            raise ValueError("hosts and ranks are both given: write one of them")
        return self


class Constraints(Strict):
    """A constraints file: per table, and for all others."""

    default: TableConstraints = TableConstraints()
    tables: dict[Name, TableConstraints] = Field(default_factory=dict)
    together: tuple[tuple[Name, ...], ...] = Field((), description="groups of tables that lie on one rank, table-wise")
    host_groups: dict[Name, Places] = Field(default_factory=dict, description="name -> hosts, for `hosts` of a table")
    deduplicate: bool | None = Field(None, description="sharding.deduplicate of the plan; null: the planner chooses")
    communication: tuple[Precision, ...] = Field(
        (), description="sharding.communication of the plan is one of these; empty: as the config allows"
    )
    host_cache: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of the rows that the cache of a fused_uvm_caching table has; null: the config's, else the planner chooses",
    )

    def of(self, table: str) -> TableConstraints:
        """The table's own, or the default."""
        return self.tables.get(table, self.default)

    def kernels(self, table: str, device: str) -> tuple[Kernel, ...]:
        """Of a fused table; a data-parallel one may have `dense` unless the table's own kernels leave it out."""
        return self.of(table).kernels or KERNELS

    @property
    def confine(self) -> bool:
        """Is any table kept on some hosts or ranks?"""
        return any(own.hosts != () or own.ranks != () for own in (self.default, *self.tables.values()))

    def groups(self, tables: Iterable[str], hosts: int, local: int) -> dict[str, RankGroup]:
        """Of the tables that may not lie everywhere: the ranks they may lie on, in a job of `hosts` x `local` ranks.

        Tables that are kept together have one group. Raises InputError for hosts that are not there, tables without a rank.
        """
        found = {name: group for name in tables if (group := self._group(name, hosts, local)) is not None}
        for names in self.together:
            kept = [found[name] for name in names if name in found]
            if not kept:
                continue
            joint = reduce(lambda a, b: a & b, kept)
            if not joint.ranks:
                raise InputError(
                    f"constraints keep tables {', '.join(names)} together, but on {joint.label}: no rank is in both"
                )
            found.update(dict.fromkeys(names, joint))
        different = {group.ranks for group in found.values()}
        if len(different) > MOST:
            raise InputError(
                f"constraints divide the tables into {len(different)} different groups of ranks; at most {MOST}"
            )
        return found

    def _group(self, table: str, hosts: int, local: int) -> RankGroup | None:
        own = self.of(table)
        try:
            if own.hosts != ():
                group = group_of_hosts(own.hosts, self.host_groups, hosts, local)
            elif own.ranks != ():
                group = group_of_ranks(own.ranks, {}, hosts * local)
            else:
                return None
        except InputError as error:
            raise InputError(f"constraints of table {table!r}: {error}") from None
        return group if len(group.ranks) < hosts * local else None


class RunConstraints(Constraints):
    """A constraints file over the `sharding` section of a run config, whose default holds where a table may have it."""

    preferred: ShardingType = "auto"  # sharding.default
    explicit: dict[str, ShardingType] = Field(default_factory=dict)  # sharding.tables, less those that the file has
    cached: bool = False  # sharding.host_cache

    def kernels(self, table: str, device: str) -> tuple[Kernel, ...]:
        """With sharding.host_cache rows of a GPU's tables lie in host memory, where the file does not say otherwise."""
        if self.cached and device == "cuda" and not self.of(table).kernels:
            return ("fused_uvm_caching",)
        return super().kernels(table, device)


@dataclass(frozen=True)
class TableKind:
    """What decides about a table's options."""

    name: str
    pooled: bool
    dim: int
    optimizer: str = ""  # of the tables


def kinds_of(infos: Mapping[str, TableInfo], optimizer: str) -> dict[str, TableKind]:
    """Of every table of a model; `optimizer`: of the tables."""
    return {n: TableKind(n, info.pooled, info.config.embedding_dim, optimizer) for n, info in infos.items()}


def load_constraints(path: str | None, sharding: ShardingConfig, tables: Mapping[str, TableKind]) -> Constraints:
    """The file's constraints over those of the run config. Raises InputError for unknown tables and keys."""
    given = Constraints()
    if path is not None:
        tree = strict_yaml.read(path, "constraints file")
        if not isinstance(tree, dict):
            raise InputError(f"constraints file {path!r} must be a mapping with {', '.join(Constraints.model_fields)}")
        try:
            given = Constraints.model_validate(tree)
        except ValidationError as error:
            raise InputError(f"constraints file {path!r} is not valid:\n{explain(error, Constraints)}") from None
    explicit = {name: kind for name, kind in sharding.tables.items() if name not in given.tables}
    listed = {name: TableConstraints(sharding=(kind,)) for name, kind in explicit.items()}
    merged = RunConstraints(
        default=given.default,
        tables={**listed, **given.tables},
        together=given.together,
        host_groups=given.host_groups,
        deduplicate=given.deduplicate,
        communication=given.communication,
        host_cache=given.host_cache,
        preferred=sharding.default,
        explicit=explicit,
        cached=sharding.host_cache is not None,
    )
    for name in (*merged.tables, *(name for group in merged.together for name in group)):
        if name not in tables:
            raise InputError(
                f"constraints name table {name!r}, which is not under features.tables: {', '.join(list(tables)[:20])}"
            )
    twice = [name for group in merged.together for name in group]
    if len(set(twice)) < len(twice):
        raise InputError(
            f"constraints: table {max(twice, key=twice.count)!r} is in two groups of `together`; join the groups"
        )
    return merged


def why_not(
    table: TableKind,
    sharding: str,
    kernel: str,
    constraints: Constraints,
    device: str,
    ranks: int,
    group: RankGroup | None = None,
) -> str | None:
    """Why a table may not be sharded so; None: it may. `group`: the ranks it has to stay on (Constraints.groups)."""
    if (reason := not_possible(table.pooled, sharding, device, kernel)) is not None:
        return reason
    own = constraints.of(table.name)
    wanted = tuple(kind for kind in own.sharding if kind != "auto") if "auto" not in own.sharding else ()
    preferred = _preferred(table, constraints, device, ranks, group)
    if wanted and sharding not in wanted:
        return f"constraints allow {', '.join(wanted)} only"
    if preferred and sharding != preferred:
        return f"sharding.default is {preferred}"
    if (
        not wanted
        and not preferred
        and (reason := not_automatic(sharding, table.dim, ranks, table.optimizer)) is not None
    ):
        return reason
    if group is not None and sharding in EVERYWHERE:
        return f"constraints allow {group.label} only, and {sharding} is on all {ranks} ranks"
    kernels = constraints.kernels(table.name, device)
    if kernel not in kernels and (own.kernels or sharding != "data_parallel" or kernel != "dense"):
        if kernel in HOST_KERNELS and kernels == KERNELS:
            return f"rows lie in host memory only if asked for (kernels: [{kernel}])"
        return f"kernel {kernel} is not among the allowed {', '.join(kernels)}"
    return None


def _preferred(
    table: TableKind, constraints: Constraints, device: str, ranks: int, group: RankGroup | None
) -> str | None:
    """sharding.default, where the table has none of its own and may have it."""
    own = constraints.of(table.name)
    if not isinstance(constraints, RunConstraints) or constraints.preferred == "auto" or own.sharding:
        return None
    alone = Constraints(tables={table.name: own.model_copy(update={"sharding": (constraints.preferred,)})})
    able = any(
        why_not(table, constraints.preferred, kernel, alone, device, ranks, group) is None
        for kernel in (*KERNELS, *HOST_KERNELS)
    )
    return constraints.preferred if able else None


def without_default(
    tables: Iterable[TableKind], constraints: Constraints, device: str, ranks: int, groups: Mapping[str, RankGroup]
) -> str | None:
    """The sentence about the tables that sharding.default cannot hold for; None: there are none."""
    if not isinstance(constraints, RunConstraints) or constraints.preferred == "auto":
        return None
    free = [table for table in tables if not constraints.of(table.name).sharding]
    unable = [t.name for t in free if _preferred(t, constraints, device, ranks, groups.get(t.name)) is None]
    return passed_over(constraints.preferred, unable)


def allowed(
    table: TableKind, constraints: Constraints, device: str, ranks: int, group: RankGroup | None = None
) -> dict[str, list[str]]:
    """Sharding type -> kernels; `group` as in why_not. Raises InputError that says what the table could have had instead."""
    if isinstance(constraints, RunConstraints):
        check_wish(table.name, table.pooled, constraints.explicit.get(table.name, "auto"), device)
    found: dict[str, list[str]] = {
        sharding: [
            k
            for k in (*KERNELS, *HOST_KERNELS)
            if why_not(table, sharding, k, constraints, device, ranks, group) is None
        ]
        for sharding in SHARDING_TYPES
    }
    found = {sharding: kernels for sharding, kernels in found.items() if kernels}
    if not found:
        free = allowed(table, Constraints(), device, ranks, group)
        options = "; ".join(f"{sharding} ({', '.join(kernels)})" for sharding, kernels in free.items())
        own = constraints.of(table.name)
        raise InputError(
            f"constraints leave table {table.name!r} no option: sharding {', '.join(own.sharding) or 'any'} with kernels "
            f"{', '.join(own.kernels or KERNELS)} on {f'{group.label} of ' if group else ''}{device}; it may have {options}"
        )
    return found
