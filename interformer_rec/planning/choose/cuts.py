"""How wide the pieces of a table cut by columns may be. In: tables with their sharding types; out: constraints for TorchRec's enumerator.

TorchRec cuts a row into the narrowest equal pieces of at least 128 floats, so a table of 128 is never cut. Here every cut into equal
pieces of at least 64 is an option of its own, and the search takes the one that balances best.
"""

from collections.abc import Iterator, Mapping

from torchrec.distributed.planner import ParameterConstraints

from interformer_rec.distributed.sharding_types import MIN_COLUMN_SHARD
from interformer_rec.planning.cost.load import TableLoad
from interformer_rec.planning.cost.work import BY_COLUMNS

ALIGNED = 4  # floats; TorchRec cuts nowhere else


def widths(dim: int, least: int | None) -> list[int | None]:
    """Floats of a piece, the narrowest first; None: TorchRec's own. `least`: of a wish, which leaves the narrowest cut from there on."""
    found: list[int | None] = [w for w in range(least or MIN_COLUMN_SHARD, dim) if dim % w == 0 and w % ALIGNED == 0]
    return (found or [None if least is None else dim])[: None if least is None else 1]


def constraint(table: TableLoad, kinds: list[str], kernels: list[str], width: int | None) -> ParameterConstraints:
    """What TorchRec may make of a table, and how many ids a row reads from it."""
    means = [length.mean for length in table.lengths]
    return ParameterConstraints(
        sharding_types=kinds, compute_kernels=kernels, pooling_factors=means, min_partition=width
    )


def cuts(
    tables: Mapping[str, TableLoad],
    options: Mapping[str, tuple[list[str], list[str]]],
    least: Mapping[str, int | None],
) -> Iterator[tuple[dict[str, ParameterConstraints], set[str]]]:
    """Constraints of all tables, and those whose options they are for: once for every width.

    `options`: table -> sharding types and kernels; `least`: min_partition of its wish. TorchRec enumerates all tables of a model or none.
    """
    of_table = {name: widths(tables[name].dim, least[name]) for name in options}
    for number in range(max(map(len, of_table.values()), default=0)):
        constraints, meant = {}, set[str]()
        for name, (kinds, kernels) in options.items():
            more = [kind for kind in kinds if kind in BY_COLUMNS or number == 0]
            if number < len(of_table[name]) and more:
                meant.add(name)
                constraints[name] = constraint(tables[name], more, kernels, of_table[name][number])
            else:
                constraints[name] = constraint(tables[name], ["table_wise"], ["fused"], None)
        if meant:
            yield constraints, meant
