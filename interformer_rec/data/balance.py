"""Orders of rows that keep batches equally long, or groups together. In: events or the group of each row; out: a shuffled order.

The rows, sorted by events, are cut into strata of equal size. The order goes round and round the strata, always in the same sequence,
and takes a random row of each. So any STRATA neighbours hold one row of every stratum, wherever a batch begins and however large it
is: the sum of events varies by what the strata are wide, not by what the rows differ, and so does the sum of any function of the events
(attention costs their square). Eight rows in four strata, by their events:

    strata   1 2 | 5 6 | 20 30 | 400 900         visited as 0 2 1 3:    2 20 5 900 | 1 30 6 400

The sequence of visits is van der Corput's with Owen's nested scrambling: shorter runs are spread over the strata, too, and each place
is as likely to get one row as another (but in the last, incomplete round), as in a plain shuffle. A batch is a stratified sample: means
over its rows, of labels say, are unbiased, and vary less than a plain shuffle's where they go with the events.
"""

from collections.abc import Sequence

import numpy as np

from interformer_rec.config.features import NULL_GROUP
from interformer_rec.data.decode.jagged import Jagged

STRATA = 128  # divides usual batch sizes: a batch then holds as many rows of each stratum, wherever it begins
LEAST = 8  # rows of a stratum at least: with fewer the same rows would meet again and again


def events(histories: Sequence[Jagged], rows: int) -> np.ndarray:
    """(rows,) int64 events of each row over all histories."""
    return sum((history.lengths for history in histories), np.zeros(rows, np.int64))


def spread(events_R: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(R,) the rows 0 .. R-1 in an order in which every run of rows has nearly its share of all events."""
    rows = len(events_R)
    strata = 1
    while strata < STRATA and 2 * strata * LEAST <= rows:
        strata *= 2
    first = random.permutation(rows)  # decides between rows of as many events
    stratum_R = np.empty(rows, np.uint8)
    stratum_R[first[_sorted(events_R[first])]] = np.arange(rows) * strata // max(rows, 1)
    # decides when a stratum's row is read; not `first`, which has sorted within the strata
    second = random.permutation(rows)
    inside = second[_sorted(stratum_R[second])]
    sizes = np.bincount(stratum_R, minlength=strata)  # they differ by one at most
    rounds = np.full((strata, sizes.max()), -1)
    rounds[np.arange(sizes.max()) < sizes[:, None]] = inside
    order = rounds[_visits(strata, random)].T.reshape(-1)
    return order[order >= 0]


def together(groups_R: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(R,) the rows 0 .. R-1 in an order in which the rows of a group follow each other; groups and their rows are shuffled.

    Each row without a group (NULL_GROUP) is a group of its own."""
    distinct, group_R = np.unique(groups_R, return_inverse=True)
    alone, count = np.flatnonzero(groups_R == NULL_GROUP), len(distinct)
    group_R[alone] = count + np.arange(len(alone))
    first = random.permutation(len(groups_R))
    return first[np.argsort(random.permutation(count + len(alone))[group_R[first]], kind="stable")]


def _sorted(keys: np.ndarray) -> np.ndarray:
    """argsort; numpy sorts 16 bits by radix, several times as fast as 64."""
    small = keys.size and keys.dtype.itemsize > 2 and keys.max() < 1 << 16
    return np.argsort(keys.astype(np.uint16) if small else keys, kind="stable")


def _visits(strata: int, random: np.random.Generator) -> np.ndarray:
    """(strata,) the strata (a power of 2), each once; any 2^k neighbours from a multiple of 2^k on lie in different 2^k-ths of them."""
    visits = np.zeros(1, np.int64)
    while len(visits) < strata:
        half = random.integers(0, 2, len(visits))
        visits = np.concatenate([2 * visits + half, 2 * visits + 1 - half])
    return visits
