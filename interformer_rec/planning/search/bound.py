"""What no plan can beat. In: the ProgramColumns of a problem and a plan's time; out: milliseconds, a proven lower bound.

Three relaxations, the larger counts. (1) The work of all ranks, spread evenly. (2) A plan of z ms uses no shard longer than z:
its options are fewer, so its work is more. (3) A linear program with (2), the memory, the time that uniform options take from
every rank beside a table's longest shard, and dual feasible functions of bin packing: two shards longer than z/2 need two ranks.
All of it for all ranks, and for every group of ranks with what may not leave it.
"""

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_matrix, hstack, vstack

from interformer_rec.planning.search.candidate import PERF
from interformer_rec.planning.search.select import ProgramColumns

SHARES = (1 / 2, 2 / 5, 1 / 3, 1 / 4, 1 / 6)  # of z, for the dual feasible functions
HALVINGS = 10
SAFE = 1 - 1e-6  # HiGHS' tolerance


def threshold_bound(columns: ProgramColumns) -> float:
    """Relaxations (1) and (2) without memory: the smallest z with work(options of shards <= z) <= W z. Milliseconds."""
    perf, longest = columns.total[:, PERF], columns.largest[:, PERF]

    def too_short(z: float) -> bool:
        least = [columns.least_of_kind(np.where(longest <= z, inside, np.inf)) for inside in columns.inside[..., PERF]]
        return bool((np.array(least) @ columns.members > columns.ranks * z).any())

    low, high = 0.0, float(columns.least_of_kind(longest).max() + columns.least_of_kind(perf) @ columns.members)
    while too_short(high):
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if too_short(middle) else (low, middle)
    return low * SAFE


def lower_bound(columns: ProgramColumns, low: float, plan: float) -> float:
    """The largest z found for which relaxation (3) has no solution, so that no plan takes z ms or less.

    `low`: a bound that is known; `plan`: the time of a plan. Milliseconds.
    """
    high = plan
    for step in range(HALVINGS):
        if high <= low * (1 + 1e-3):
            break
        z = high * (1 - 1e-6) if step == 0 else (low + high) / 2
        if _possible(columns, z):
            high = z
        elif step == 0:
            return z
        else:
            low = z
    return low


def _possible(columns: ProgramColumns, z: float) -> bool:
    """Could a plan take z ms or less, as far as the linear program can tell?"""
    perf, longest = columns.total[:, PERF], columns.largest[:, PERF]
    allowed = longest <= z * (1 + 1e-9)
    if not np.isfinite(columns.least_of_kind(np.where(allowed, perf, np.inf))).all():
        return False
    work = columns.inside[..., PERF] / (z * columns.ranks[:, None])  # [P, columns]
    packed = np.vstack([_packed(columns, z, share) for share in SHARES])
    rows = np.vstack([work, packed, columns.memory_rows()])
    # One more column: u, the share of z that uniform options take from every rank.
    floor = np.array([c.everywhere[PERF] for c in columns.candidates]) / z
    peak = np.array([0.0 if c.runs else c.largest[PERF] for c in columns.candidates]) / z
    average = columns.one_each.multiply((peak / columns.members[columns.kind])[None, :]).tocsr()
    above = vstack(
        [
            hstack([csr_matrix(rows), csr_matrix((len(rows), 1))]),
            hstack([average, np.ones((len(columns.members), 1))]),
            hstack([csr_matrix(floor[None, :]), -np.ones((1, 1))]),
        ]
    )
    upper = np.append(np.where(allowed, columns.members[columns.kind], 0.0), 1.0)
    result = linprog(
        np.append(work[0], 0.0),
        A_ub=above,
        b_ub=np.concatenate([np.ones(len(rows)), np.ones(len(columns.members)), [0.0]]) * (1 + 1e-7),
        A_eq=hstack([columns.one_each, csr_matrix((len(columns.members), 1))]),
        b_eq=columns.members,
        bounds=np.stack([np.zeros_like(upper), upper], axis=1),
        method="highs",
    )
    return bool(result.status != 2)  # anything but infeasible proves nothing


def _packed(columns: ProgramColumns, z: float, share: float) -> np.ndarray:
    """[P, columns]: sum over shards of a dual feasible function, per rank: 1 above (1 - share) z, 0 below share z, else p / z."""
    perf = columns.shard_perf
    value = np.where(perf > (1 - share) * z, 1.0, np.where(perf < share * z, 0.0, perf / z))
    sums = [np.bincount(columns.shard_column, value * n, minlength=len(columns.kind)) for n in columns.shard_count]
    return np.array(sums) / columns.ranks[:, None]
