"""What a column says of the label, alone. In: sampled values of both; out: an AUC, or whether the label goes up or down with the column.

For `inspect`: one column that ranks the rows nearly perfectly knows their outcome, and integers along which the label changes steadily
are numbers rather than names of things.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.metrics import roc_auc_score

from interformer_rec.data.inspect.profile import Column

FEWEST_ROWS, FEWEST_OF_A_CLASS = 400, 60  # below, a good AUC may be luck
BINS = 64  # of equal rows, for numbers
TREND_BINS = 10
SMOOTHING = 1.0  # rows of the mean label that every value is given
LEAK = 0.95  # AUC


@dataclass(frozen=True)
class Outcome:
    """The label in the kept rows: `known` (n,) bool, `positive` (n,) bool where it is known, else False."""

    known: np.ndarray
    positive: np.ndarray

    @classmethod
    def of(cls, label: Column | None) -> Outcome | None:
        """None without a label, and where the sample has too few rows of a class to judge by."""
        if label is None:
            return None
        values = _numbers(label.sample())
        known = np.isfinite(values)
        positive = known & (values > 0.5)
        ones, rows = int(positive.sum()), int(known.sum())
        enough = rows >= FEWEST_ROWS and min(ones, rows - ones) >= FEWEST_OF_A_CLASS
        return cls(known, positive) if enough else None

    def auc(self, column: Column) -> float:
        """Of the column's values as the only feature, in [0.5, 1] but for noise; of a list its newest element, or its length.

        The mean label of every value (of numbers: in BINS bins) is taken from one half of the rows, and ranks the other half.
        """
        found = [self._auc(_codes(column))]
        if column.is_list:
            found.append(self._auc(np.unique(column.kept_lengths(), return_inverse=True)[1]))
        return max(found)

    def _auc(self, codes: np.ndarray) -> float:
        half = np.random.default_rng(0).random(len(codes)) < 0.5
        first, second = half & self.known, ~half & self.known
        truth = self.positive[second]
        if not 0 < truth.sum() < len(truth):
            return 0.5
        count = int(codes.max()) + 1
        rows = np.bincount(codes[first], minlength=count)
        ones = np.bincount(codes[first], weights=self.positive[first], minlength=count)
        mean = self.positive[first].mean()
        return float(roc_auc_score(truth, ((ones + SMOOTHING * mean) / (rows + SMOOTHING))[codes[second]]))

    def trend(self, column: Column) -> bool:
        """Whether the label's mean goes up, or down, from bin to bin of the column's values, by more than chance."""
        values = _numbers(column.sample())
        use = self.known & np.isfinite(values)
        codes = _bins(values[use], TREND_BINS)
        rows = np.bincount(codes)
        if len(rows) < TREND_BINS // 2 or rows.min() < FEWEST_OF_A_CLASS // 2:
            return False
        means = np.bincount(codes, weights=self.positive[use]) / rows
        order = np.corrcoef(np.argsort(np.argsort(means)), np.arange(len(means)))[0, 1]
        low, high = len(means) // 3, len(means) - len(means) // 3
        sides = [codes < low, codes >= high]
        rates = [self.positive[use][side].mean() for side in sides]
        error = np.sqrt(sum(rate * (1 - rate) / side.sum() for rate, side in zip(rates, sides, strict=True)))
        return bool(abs(order) >= 0.9 and abs(rates[1] - rates[0]) > 5 * error)


def _numbers(values: pa.Array) -> np.ndarray:
    """float64; nulls are NaN."""
    return np.asarray(values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)


def _codes(column: Column) -> np.ndarray:
    """(n,) int of the kept values, null one of them: of ids one a value, of many numbers one a bin."""
    values = column.sample()
    if column.kind == "float" or (column.kind == "int" and column.distinct > BINS and not column.is_list):
        numbers = _numbers(values)
        codes = np.zeros(len(numbers), np.int64)
        there = np.isfinite(numbers)
        if there.any():
            codes[there] = 1 + _bins(numbers[there], BINS)
        return codes
    coded = pc.fill_null(pc.dictionary_encode(values).indices, -1)
    return np.asarray(coded.to_numpy(zero_copy_only=False), np.int64) + 1


def _bins(values: np.ndarray, bins: int) -> np.ndarray:
    """(n,) int from 0 without gaps: quantile bins, equal values together."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1]))
    return np.asarray(np.unique(np.searchsorted(edges, values, side="right"), return_inverse=True)[1])
