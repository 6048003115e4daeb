"""Dense features: raw numbers -> what the model reads. In: values and null mask of a column; out: float64 values."""

from typing import NamedTuple

import numpy as np

from interformer_rec.config.features import DenseFeature

LARGEST = float(np.finfo(np.float32).max)


class Moments(NamedTuple):
    """Mean and standard deviation (of the population) of a dense feature after fill, clip and log1p."""

    mean: float
    std: float


def transform(
    values: np.ndarray, null: np.ndarray | None, feature: DenseFeature, moments: Moments | None = None
) -> np.ndarray:
    """(rows,) float64: fill nulls, clip, log1p, standardise, in this order (schema.DenseFeature).

    NaN stays NaN and marks a null without `fill`; infinities become NaN, so that clipping cannot hide them, and so does what float32
    cannot hold before it is standardised: it would leave no moments to standardise by.
    """
    out = values.astype(np.float64)
    if values.dtype.kind == "f" and not np.isfinite(out).all():
        out[~np.isfinite(out)] = np.nan
    if null is not None:
        out[null] = np.nan if feature.fill is None else feature.fill
    if feature.clip is not None:
        np.clip(out, *feature.clip, out=out)
    if feature.log1p:
        out = np.copysign(np.log1p(np.abs(out)), out)
    if feature.standardise and values.dtype.itemsize > 4 and len(out) and not max(out.max(), -out.min()) <= LARGEST:
        out[~(np.abs(out) <= LARGEST)] = np.nan
    if moments is not None:
        out -= moments.mean
        out /= moments.std or 1.0  # a constant feature becomes 0
    return out
