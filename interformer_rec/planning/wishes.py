"""What the user allows each table. In: a constraints file and the run's `sharding` section; out: the options a table may have, or why not.

Which options exist is asked of TorchRec's sharders. Three rules are ours, the same as in distributed/sharding.py: data-parallel
tables of an EmbeddingCollection crash in TorchRec 1.8.0, narrow rows are cut by columns only by wish, and one rank replicates nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Literal

from pydantic import Field, ValidationError, model_validator
from torchrec.distributed.embedding import EmbeddingCollectionSharder
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder

from interformer_rec import strict_yaml
from interformer_rec.config import ShardingConfig, ShardingType
from interformer_rec.config_base import Name, Strict
from interformer_rec.config_errors import explain
from interformer_rec.distributed.sharding import MIN_COLUMN_SHARD
from interformer_rec.errors import InputError
from interformer_rec.planning.groups import MOST, Group, Places, group_of_hosts, group_of_ranks

Kernel = Literal["fused", "dense", "fused_uvm", "fused_uvm_caching"]
KERNELS: tuple[Kernel, ...] = ("fused", "dense")  # where a table's rows lie in the memory of the device
HOST_KERNELS: tuple[Kernel, ...] = ("fused_uvm", "fused_uvm_caching")  # in host memory; CUDA only, by wish
SHARDING_TYPES: tuple[str, ...] = (
    "data_parallel", "table_wise", "row_wise", "column_wise", "table_row_wise", "table_column_wise", "grid_shard",
)  # fmt: skip
EVERYWHERE = ("row_wise", "data_parallel")  # these have a shard on every rank


class TableWish(Strict):
    """Of one table."""

    sharding: tuple[ShardingType, ...] = Field((), description="allowed sharding types; empty: all that are possible")
    kernels: tuple[Kernel, ...] = Field((), description="allowed kernels; empty: fused, and dense for data_parallel")
    hosts: Places = Field((), description="allowed hosts: numbers, ranges (0-7), names of host_groups; empty: all")
    ranks: Places = Field((), description="allowed ranks, if hosts are too coarse; only one of the two")

    @model_validator(mode="after")
    def _check(self) -> TableWish:
        if self.hosts != () and self.ranks != ():
            raise ValueError("hosts and ranks are both given: write one of them")
        return self


class Wishes(Strict):
    """A constraints file: per table, and for all others."""

    default: TableWish = TableWish()
    tables: dict[Name, TableWish] = Field(default_factory=dict)
    together: tuple[tuple[Name, ...], ...] = Field((), description="groups of tables that lie on one rank, table-wise")
    host_groups: dict[Name, Places] = Field(default_factory=dict, description="name -> hosts, for `hosts` of a table")

    def of(self, table: str) -> TableWish:
        """The table's own wish, or the default."""
        return self.tables.get(table, self.default)

    @property
    def confine(self) -> bool:
        """Is any table kept on some hosts or ranks?"""
        return any(wish.hosts != () or wish.ranks != () for wish in (self.default, *self.tables.values()))

    def groups(self, tables: Iterable[str], hosts: int, local: int) -> dict[str, Group]:
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

    def _group(self, table: str, hosts: int, local: int) -> Group | None:
        wish = self.of(table)
        try:
            if wish.hosts != ():
                group = group_of_hosts(wish.hosts, self.host_groups, hosts, local)
            elif wish.ranks != ():
                group = group_of_ranks(wish.ranks, {}, hosts * local)
            else:
                return None
        except InputError as error:
            raise InputError(f"constraints of table {table!r}: {error}") from None
        return group if len(group.ranks) < hosts * local else None


@dataclass(frozen=True)
class TableKind:
    """What decides about a table's options."""

    name: str
    pooled: bool
    dim: int


def load_wishes(path: str | None, sharding: ShardingConfig, tables: Mapping[str, TableKind]) -> Wishes:
    """The file's wishes over those of the run config. Raises InputError for unknown tables and keys."""
    listed = {name: TableWish(sharding=_types(kind)) for name, kind in sharding.tables.items()}
    merged = Wishes(default=TableWish(sharding=_types(sharding.default)), tables=listed)
    if path is not None:
        tree = strict_yaml.read(path, "constraints file")
        if not isinstance(tree, dict):
            raise InputError(f"constraints file {path!r} must be a mapping with default, tables, together, host_groups")
        try:
            given = Wishes.model_validate(tree)
        except ValidationError as error:
            raise InputError(f"constraints file {path!r} is not valid:\n{explain(error, Wishes)}") from None
        default = given.default if given.default != TableWish() else merged.default
        merged = given.model_copy(update={"default": default, "tables": {**merged.tables, **given.tables}})
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


def _types(kind: str) -> tuple[ShardingType, ...]:
    return () if kind == "auto" else (kind,)  # type: ignore[return-value]


def why_not(
    table: TableKind,
    sharding: str,
    kernel: str,
    wishes: Wishes,
    device: str,
    ranks: int,
    group: Group | None = None,
) -> str | None:
    """Why a table may not be sharded so; None: it may. `group`: the ranks it has to stay on (Wishes.groups)."""
    sharder = EmbeddingBagCollectionSharder() if table.pooled else EmbeddingCollectionSharder()
    where = "an EmbeddingBagCollection" if table.pooled else "an EmbeddingCollection (a history reads it)"
    if sharding not in sharder.sharding_types(device):
        return f"TorchRec has no {sharding} for {where} on {device}"
    if kernel not in sharder.compute_kernels(sharding, device):
        return f"TorchRec has no kernel {kernel} for {sharding} on {device}"
    if sharding == "data_parallel" and not table.pooled:
        return "TorchRec 1.8.0 fails for a data-parallel table of an EmbeddingCollection"
    wish = wishes.of(table.name)
    if wish.sharding and "auto" not in wish.sharding:
        if sharding not in wish.sharding:
            return f"constraints allow {', '.join(wish.sharding)} only"
    elif sharding == "grid_shard":
        return "by wish only, as in TorchRec's planner"
    elif "column" in sharding and table.dim < 2 * MIN_COLUMN_SHARD:
        return f"rows of {table.dim} floats would be cut into pieces under {MIN_COLUMN_SHARD}; by wish only"
    elif sharding == "data_parallel" and ranks == 1:
        return "one rank has nobody to replicate for"
    if group is not None and sharding in EVERYWHERE:
        return f"constraints allow {group.label} only, and {sharding} is on all {ranks} ranks"
    if kernel not in (wish.kernels or KERNELS) and not (sharding == "data_parallel" and kernel == "dense"):
        if kernel in HOST_KERNELS and not wish.kernels:
            return f"rows lie in host memory by wish only (kernels: [{kernel}])"
        return f"kernel {kernel} is not among the allowed {', '.join(wish.kernels or KERNELS)}"
    return None


def allowed(
    table: TableKind, wishes: Wishes, device: str, ranks: int, group: Group | None = None
) -> dict[str, list[str]]:
    """Sharding type -> kernels; `group` as in why_not. Raises InputError that says what the table could have had instead."""
    found: dict[str, list[str]] = {
        sharding: [
            k for k in (*KERNELS, *HOST_KERNELS) if why_not(table, sharding, k, wishes, device, ranks, group) is None
        ]
        for sharding in SHARDING_TYPES
    }
    found = {sharding: kernels for sharding, kernels in found.items() if kernels}
    if not found:
        free = allowed(table, Wishes(), device, ranks, group)
        options = "; ".join(f"{sharding} ({', '.join(kernels)})" for sharding, kernels in free.items())
        wish = wishes.of(table.name)
        raise InputError(
            f"constraints leave table {table.name!r} no option: sharding {', '.join(wish.sharding) or 'any'} with kernels "
            f"{', '.join(wish.kernels or KERNELS)} on {f'{group.label} of ' if group else ''}{device}; it may have {options}"
        )
    return found
