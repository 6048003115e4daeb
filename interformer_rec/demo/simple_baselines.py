"""Two baselines any model has to beat, without sequences: item popularity and logistic regression (scikit-learn).

In: Parquet paths and the run's FeatureSchema. Out: {"auc", "logloss"} on the test rows. Read whole, in memory: meant
for data of a size where such a baseline is what one tries first."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_matrix, hstack
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from interformer_rec.config.features import DenseFeature, FeatureSchema
from interformer_rec.data.files.source import open_source
from interformer_rec.errors import InputError

SMOOTHING = 5.0  # rows of the overall rate that an item starts with
INVERSE_PENALTY = 1.0  # scikit-learn's C


def popularity(train: str, test: str, features: FeatureSchema, feature: str) -> dict[str, float]:
    """Score a row by the smoothed rate of the label over the training rows with the same id of `feature`.

    An id that the training rows do not have gets the overall rate.
    """
    named = {one.name: one.column for one in features.ids}
    if feature not in named:
        raise InputError(
            f"popularity of {feature!r}: it is not under features.ids (there: {', '.join(named) or 'none'})"
        )
    column, target = named[feature], features.labels[0].column
    before, after = _read(train, [column, target]), _read(test, [column, target])
    known, codes = _codes(before[column], None)
    clicks = np.bincount(codes, weights=_numbers(before[target]), minlength=len(known) + 1)
    views = np.bincount(codes, minlength=len(known) + 1)
    overall = clicks.sum() / views.sum()
    rate = (clicks + SMOOTHING * overall) / (views + SMOOTHING)
    rate[-1] = overall
    return _measure(_numbers(after[target]), rate[_codes(after[column], known)[1]])


def logistic_regression(train: str, test: str, features: FeatureSchema, also: tuple[str, ...] = ()) -> dict[str, float]:
    """Linear model on the non-sequence features: dense as the schema says, ids one-hot, bags multi-hot.

    `also` names id columns of the files that the schema leaves out but a linear model should have.
    """
    target = features.labels[0].column
    numbers = [one.column for one in features.dense]
    fields = [*(one.column for one in features.ids), *(one.column for one in features.bags), *also]
    discrete = list(dict.fromkeys(fields))
    if not numbers and not discrete:
        raise InputError("logistic regression needs dense, ids or bags under features; there are only sequences")
    columns = list(dict.fromkeys([*numbers, *discrete, target]))
    before, after = _read(train, columns), _read(test, columns)
    blocks = [_dense(before[one.column], after[one.column], one) for one in features.dense]
    blocks += [_one_hot(before[column], after[column]) for column in discrete]
    fitted_on, scored = (hstack([block[side] for block in blocks], format="csr") for side in (0, 1))
    model = LogisticRegression(C=INVERSE_PENALTY, max_iter=300).fit(fitted_on, _numbers(before[target]))
    return _measure(_numbers(after[target]), model.predict_proba(scored)[:, 1])


def _measure(labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    return {"auc": float(roc_auc_score(labels, scores)), "logloss": float(log_loss(labels, scores))}


def _read(path: str, columns: list[str]) -> pa.Table:
    source = open_source(path)
    return source.read(range(len(source.group_rows)), columns).combine_chunks()


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """(rows,) float64, nulls as NaN."""
    return column.cast(pa.float64()).to_numpy(zero_copy_only=False)


def _codes(column: pa.ChunkedArray | pa.Array, known: pa.Array | None) -> tuple[pa.Array, np.ndarray]:
    """Values -> positions in `known` (default: the column's own distinct values, null among them), else len(known)."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    known = pc.unique(whole) if known is None else known
    codes = pc.index_in(whole, value_set=known)
    return known, pc.fill_null(codes, len(known)).to_numpy(zero_copy_only=False)


def _one_hot(train: pa.ChunkedArray, test: pa.ChunkedArray) -> tuple[csr_matrix, csr_matrix]:
    """Ids or lists of ids -> 0/1 columns, one for each value of `train`; a value only `test` has is left out."""
    known: pa.Array | None = None
    blocks = []
    for column in (train, test):
        rows = np.arange(len(column))
        values = column.combine_chunks()
        if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
            rows, values = pc.list_parent_indices(values).to_numpy(), pc.list_flatten(values)
        known, codes = _codes(values, known)
        rows, codes = rows[codes < len(known)], codes[codes < len(known)]
        block = csr_matrix((np.ones(len(rows)), (rows, codes)), shape=(len(column), len(known)))
        block.data = np.minimum(block.data, 1.0)
        blocks.append(block)
    return blocks[0], blocks[1]


def _dense(train: pa.ChunkedArray, test: pa.ChunkedArray, feature: DenseFeature) -> tuple[csr_matrix, csr_matrix]:
    """Fill, clip and log1p as the schema says; always standardised, because a linear model with a penalty needs it."""
    sides = []
    for column in (train, test):
        values = _numbers(column)
        values = np.where(np.isnan(values), 0.0 if feature.fill is None else feature.fill, values)
        if feature.clip is not None:
            values = np.clip(values, *feature.clip)
        sides.append(np.sign(values) * np.log1p(np.abs(values)) if feature.log1p else values)
    mean, deviation = sides[0].mean(), sides[0].std() or 1.0
    scaled = [csr_matrix(((side - mean) / deviation)[:, None]) for side in sides]
    return scaled[0], scaled[1]
