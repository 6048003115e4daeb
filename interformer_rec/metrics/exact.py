"""Exact AUC, GAUC and calibration bins of rows spread over ranks. In: a rank's rows; out: numbers, equal on all ranks.

One algorithm serves all three, a distributed sample sort of the rows by (key, score):

    each rank sorts its rows and adds up ties           keys    5 5 5 | 9 9     scores .1 .3 .7 | .2 .8
    quantiles of all ranks' samples cut the order       rank 0: 5/.1 5/.3       rank 1: 5/.7 9/.2 9/.8
    an all-to-all gives every rank one range            equal (key, score) pairs always meet on one rank
    pairs are counted within ranges; a key that is cut by a border is completed from the ranks' first and last keys

GAUC's key is the user. AUC is the GAUC of one user: all keys 0. A tie counts half, as in scikit-learn's roc_auc_score.
A range holds at most about 1 / ranks of the distinct rows (half as much again in the worst case), however skewed the
shares of the ranks, the scores or the users are: neither ties nor a user with most of the rows make one rank special.
"""

from typing import NamedTuple

import numpy as np

from interformer_rec.metrics.ranks import Ranks

SAMPLES_PER_RANK = 4  # samples a rank sends, times the ranks: a border is off by at most 1 / (4 ranks) of all rows
MOST_SAMPLES = 2048  # beyond 512 ranks the gathered samples would outgrow the rows


class ScoredRows(NamedTuple):
    """Rows in ascending order of (key, score), no such pair twice; weights of equal pairs are added up."""

    keys: np.ndarray  # (n,) int64
    scores: np.ndarray  # (n,) float32
    positive: np.ndarray  # (n,) float64, weight * label
    negative: np.ndarray  # (n,) float64, weight * (1 - label)


class Keys(NamedTuple):
    """Per key, in ascending order: the weight of its positives and negatives, and of the pairs in the right order."""

    keys: np.ndarray  # (k,) int64
    positive: np.ndarray  # (k,) float64
    negative: np.ndarray  # (k,) float64
    pairs: np.ndarray  # (k,) float64, sum of positive * (negatives with a lower score + half of those with an equal)


def scored_rows(keys: np.ndarray | None, scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> ScoredRows:
    """Sort a rank's rows, (n,) each, and add up ties. Rows of weight 0 are left out; without keys all have key 0.

    A label between 0 and 1 counts as that much of a positive and the rest of a negative.
    """
    positive = weights.astype(np.float64)
    negative = positive * np.subtract(1.0, labels, dtype=np.float64)
    positive *= labels
    if keys is None:
        keys = np.zeros(len(scores), np.int64)
    used = weights > 0
    if not used.all():
        keys, scores, positive, negative = keys[used], scores[used], positive[used], negative[used]
    return _sorted(keys, scores, positive, negative)


def spread(rows: ScoredRows, ranks: Ranks) -> ScoredRows:
    """Give every rank one range of the order over all ranks: those of rank 0 come first. A collective."""
    if ranks.size == 1:
        return rows
    cuts = _cuts(rows, *_borders(rows, ranks))
    sends = np.diff(cuts, prepend=0, append=len(rows.scores)).astype(np.int64)
    return _sorted(*(ranks.exchange(column, sends) for column in rows))


def grouped_auc(rows: ScoredRows, ranks: Ranks) -> float:
    """Mean of the keys' AUCs, each weighted by its sum of weights. A collective, on what `spread` returned.

    Keys whose positives or negatives weigh nothing have no AUC and are left out; NaN if none is left.
    """
    found = per_key(rows)
    inner, edges = _split_edges(found)
    whole = _complete(ranks.gather(edges))
    auc_sum, weight_sum = ranks.sum(_weighted_auc(inner)) + _weighted_auc(whole)
    return float(auc_sum / weight_sum) if weight_sum > 0 else float("nan")


def quantile_bins(rows: ScoredRows, bins: int, ranks: Ranks) -> np.ndarray:
    """(b, 3) float64: sums of weight * probability, weight * label and weight in `bins` bins of equal weight, by score.

    A collective, on what `spread` returned; the score is a logit. Equal scores are never divided, so with many ties
    some bins are empty and left out: b <= bins.
    """
    weights = rows.positive + rows.negative
    totals = ranks.gather(np.array([weights.sum()]))[:, 0]
    below = totals[: ranks.rank].sum() + np.cumsum(weights) - weights / 2
    total = totals.sum() or 1.0
    index = np.minimum((below / total * bins).astype(np.int64), bins - 1)
    probabilities = sigmoid(rows.scores)
    columns = (weights * probabilities, rows.positive, weights)
    sums = np.stack([np.bincount(index, column, minlength=bins) for column in columns], axis=1)
    sums = ranks.sum(sums.astype(np.float64))  # bincount of no rows is int64
    return sums[sums[:, 2] > 0]


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities in float64, without overflow."""
    return np.exp(-np.logaddexp(0.0, -logits.astype(np.float64)))


def _sorted(keys: np.ndarray, scores: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> ScoredRows:
    if not len(keys):
        return ScoredRows(keys, scores, positive, negative)
    order = np.argsort(scores)
    order = order[np.argsort(keys[order], kind="stable")]  # twice as fast as np.lexsort((scores, keys))
    keys, scores = keys[order], scores[order]
    starts = np.flatnonzero(_changes(keys) | _changes(scores))
    sums = (np.add.reduceat(column[order], starts) for column in (positive, negative))
    return ScoredRows(keys[starts], scores[starts], *sums)


def _changes(column: np.ndarray) -> np.ndarray:
    """True where an element differs from the one before, and at the first."""
    changes = np.ones(len(column), bool)
    changes[1:] = column[1:] != column[:-1]
    return changes


def _borders(rows: ScoredRows, ranks: Ranks) -> tuple[np.ndarray, np.ndarray]:
    """Keys and scores, (ranks - 1,) each, that cut the order over all ranks into ranges of about equal size."""
    samples = min(SAMPLES_PER_RANK * ranks.size, MOST_SAMPLES)
    count = len(rows.scores)
    keys, scores = np.zeros(samples, np.int64), np.zeros(samples, np.float32)
    if count:
        places = ((np.arange(samples) + 0.5) * count / samples).astype(np.int64)
        keys, scores = rows.keys[places], rows.scores[places]
    keys, scores = ranks.gather(keys).ravel(), ranks.gather(scores).ravel()
    stands_for = np.repeat(ranks.gather(np.array([count]))[:, 0], samples)  # rows, in units of 1 / samples
    order = np.lexsort((scores, keys))
    order = order[stands_for[order] > 0]
    if not len(order):
        return np.zeros(ranks.size - 1, np.int64), np.zeros(ranks.size - 1, np.float32)
    filled = np.cumsum(stands_for[order])
    wanted = filled[-1] * np.arange(1, ranks.size) / ranks.size
    picks = order[np.minimum(np.searchsorted(filled, wanted, side="right"), len(order) - 1)]
    return keys[picks], scores[picks]


def _cuts(rows: ScoredRows, keys: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """For each border, how many of the rows are below it."""
    first, last = np.searchsorted(rows.keys, keys, side="left"), np.searchsorted(rows.keys, keys, side="right")
    cuts = [a + np.searchsorted(rows.scores[a:b], score) for a, b, score in zip(first, last, scores, strict=True)]
    return np.array(cuts, np.int64)


def per_key(rows: ScoredRows) -> Keys:
    """What the rows of each key give, of this rank's rows alone."""
    if not len(rows.keys):
        return Keys(rows.keys, rows.positive, rows.negative, rows.positive)
    new = _changes(rows.keys)
    starts = np.flatnonzero(new)
    lower = np.cumsum(rows.negative) - rows.negative  # negatives of lower scores, those of lower keys included
    lower -= lower[starts][np.cumsum(new) - 1]
    pairs = rows.positive * (lower + 0.5 * rows.negative)
    sums = (np.add.reduceat(column, starts) for column in (rows.positive, rows.negative, pairs))
    return Keys(rows.keys[starts], *sums)


def _split_edges(found: Keys) -> tuple[Keys, np.ndarray]:
    """Keys that this rank alone holds; its first and last key, (2, 5) int64: used or not, key, three floats' bits."""
    edges = np.zeros((2, 5), np.int64)
    places = sorted({0, len(found.keys) - 1}) if len(found.keys) else []
    for edge, place in zip(edges, places, strict=False):
        sums = np.array([found.positive[place], found.negative[place], found.pairs[place]])
        edge[:] = [1, found.keys[place], *sums.view(np.int64)]
    return Keys(*(column[1:-1] for column in found)), edges


def _complete(edges: np.ndarray) -> Keys:
    """(ranks, 2, 5), from _split_edges -> the keys at the borders, whole: pairs across a border are added."""
    keys: list[int] = []
    sums: list[list[float]] = []
    for used, key, *bits in edges.reshape(-1, 5).tolist():
        if not used:
            continue
        positive, negative, pairs = np.array(bits, np.int64).view(np.float64).tolist()
        if keys and keys[-1] == key:
            pairs += positive * sums[-1][1]  # every negative of this key on a lower rank has a lower score
            sums[-1] = [sums[-1][0] + positive, sums[-1][1] + negative, sums[-1][2] + pairs]
        else:
            keys.append(key)
            sums.append([positive, negative, pairs])
    columns = np.array(sums, np.float64).reshape(-1, 3).T
    return Keys(np.array(keys, np.int64), *columns)


def _weighted_auc(keys: Keys) -> np.ndarray:
    """(2,): sum of weight * AUC and sum of weights, over the keys that have both classes."""
    possible = keys.positive * keys.negative
    both = possible > 0
    weight = (keys.positive + keys.negative)[both]
    return np.array([(weight * (keys.pairs[both] / possible[both])).sum(), weight.sum()])
