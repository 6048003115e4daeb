"""Dense features of requests: numbers as JSON writes them -> what the model reads. In: parsed values, a list a column; out: float32.

The steps are those of data/decode/dense.transform, for all features of a row at once: with a request's few rows, calls are what costs.
A number is rounded first as the training files rounded it (float32, float16, decimals).
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from interformer_rec.config.features import DenseFeature
from interformer_rec.data.decode.dense import LARGEST, Moments
from interformer_rec.serving.encode.refusal import Wrong, one_by_one

# The largest numbers that a narrower type does not round to infinity, and of float64 the largest number.
ENDS = {
    16: float(np.nextafter(65_520.0, 0)),
    32: float(np.nextafter((2 - 2**-24) * 2.0**127, 0)),
    64: np.finfo(np.float64).max,
}
NUMBERS = {int, float}
CURE_NUMBER = "Write a number, without quotes"


class DenseColumns:
    """The dense features of one side."""

    def __init__(
        self,
        features: Sequence[DenseFeature],
        types: Mapping[str, pa.DataType],
        moments: Mapping[str, Moments],
    ) -> None:
        self.columns = [feature.column for feature in features]
        of_each = [types[column] for column in self.columns]
        floats = [type_.bit_width if pa.types.is_floating(type_) else 64 for type_ in of_each]
        self._features, self._types = tuple(features), of_each
        self._plain = [not (pa.types.is_boolean(type_) or pa.types.is_decimal(type_)) for type_ in of_each]
        self._ends = np.array([ENDS[bits] for bits in floats])
        self._narrow = [
            (type_, np.array([bits == width for bits in floats]))
            for width, type_ in ((16, np.float16), (32, np.float32))
            if width in floats
        ]
        self._fill = np.array([np.nan if feature.fill is None else feature.fill for feature in features])
        clips = [feature.clip or (-np.inf, np.inf) for feature in features]
        self._clips = np.array(clips).T if any(feature.clip for feature in features) else None
        self._logs = _mask([feature.log1p for feature in features])
        self._bounded = _mask(
            [feature.standardise and _bytes(type_) > 4 for feature, type_ in zip(features, of_each, strict=True)]
        )
        pairs = [moments.get(feature.name, Moments(0.0, 1.0)) for feature in features]
        scaled = any(feature.name in moments for feature in features)
        self._moments = np.array([(mean, std or 1.0) for mean, std in pairs]).T if scaled else None

    def __call__(self, columns: Mapping[str, list[Any]], count: int) -> np.ndarray:
        """(count, m) float32. Raises Wrong; `at` is then row * m + feature."""
        values, null = self._read(columns, count)
        wrong = ~(np.abs(values) <= self._ends)  # and what is no number
        if null is not None:
            wrong &= ~null
        if wrong.any():
            raise self._wrong(
                columns, wrong, "not a finite number in", "a number too large for the training files' type in"
            )
        for type_, places in self._narrow:
            values[:, places] = values[:, places].astype(type_)
        if null is not None:
            values = np.where(null, self._fill, values)
        out = self._transform(values)
        wrong = ~(np.abs(out) <= ENDS[32])
        if wrong.any():
            raise self._wrong(columns, wrong, "a null without `fill` in", "a number too large for float32 in")
        return out.astype(np.float32)

    def _read(self, columns: Mapping[str, list[Any]], count: int) -> tuple[np.ndarray, np.ndarray | None]:
        """(count, m) float64 and the places of nulls, where NaN stands."""
        if count == 1 and all(self._plain):
            row = _together([columns[column][0] for column in self.columns])
            if row is not None:
                return row[None], None
        values, null = np.empty((count, len(self.columns))), None
        for place, column in enumerate(self.columns):
            given = columns[column]
            if None in given:
                null = np.zeros(values.shape, bool) if null is None else null
                null[:, place] = [value is None for value in given]
                found = _together([np.nan if value is None else value for value in given])
            else:
                found = _together(given)
            values[:, place] = self._closely(given, place) if found is None or not self._plain[place] else found
        return values, null

    def _closely(self, given: list[Any], place: int) -> list[float]:
        """One column, value by value; nulls are NaN."""
        try:
            return one_by_one(lambda value: np.nan if value is None else _number(value, self._types[place]), given)
        except Wrong as wrong:
            wrong.what = f"{wrong.what} in dense feature {self._features[place].name!r}"
            wrong.at = wrong.at * len(self.columns) + place
            raise

    def _transform(self, values: np.ndarray) -> np.ndarray:
        if self._clips is not None:  # np.clip with bounds of each column would turn -0.0 into 0.0
            low, high = self._clips
            values = np.where(values < low, low, values)
            values = np.where(values > high, high, values)
        if self._logs is not None:
            given = values[:, self._logs]
            values[:, self._logs] = np.copysign(np.log1p(np.abs(given)), given)
        if self._bounded is not None:
            given = values[:, self._bounded]
            values[:, self._bounded] = np.where(np.abs(given) <= LARGEST, given, np.nan)
        if self._moments is not None:
            values = (values - self._moments[0]) / self._moments[1]
        return values

    def _wrong(self, columns: Mapping[str, list[Any]], wrong: np.ndarray, undefined: str, large: str) -> Wrong:
        """About the first of them: `undefined` where the request has null or no number, else `large`."""
        at = int(np.flatnonzero(wrong)[0])
        row, place = divmod(at, len(self.columns))
        value, feature = columns[self.columns[place]][row], self._features[place]
        if value is None or value - value != 0:
            cure = "Write a number; or train with `fill` on the feature" if value is None else CURE_NUMBER
            return Wrong(f"{undefined} dense feature {feature.name!r}", cure, value, at)
        return Wrong(
            f"{large} dense feature {feature.name!r}", "Correct it, or train with `clip` on the feature", value, at
        )


def _together(given: list[Any]) -> np.ndarray | None:
    """(n,) float64 of numbers; None: something among them needs a closer look."""
    if not NUMBERS.issuperset(map(type, given)):
        return None
    try:
        return np.array(given, np.float64)
    except OverflowError:
        return None


def _mask(chosen: Sequence[bool]) -> np.ndarray | None:
    return np.array(chosen) if any(chosen) else None


def _bytes(type_: pa.DataType) -> int:
    """Of a value as data/decode/arrays.flat has it."""
    known = pa.types.is_integer(type_) or pa.types.is_floating(type_)
    return type_.bit_width // 8 if known else 1 if pa.types.is_boolean(type_) else 8


def _number(value: Any, type_: pa.DataType) -> float:
    """A number in a column of this type. Raises Wrong."""
    if pa.types.is_boolean(type_):
        if type(value) is not bool:
            raise Wrong("no true or false", "Write true or false, without quotes", value)
        return float(value)
    if type(value) not in NUMBERS:
        raise Wrong("no number", CURE_NUMBER, value)
    if pa.types.is_decimal(type_) and value - value == 0:
        try:  # Arrow's rounding to float64, which is not the nearest in the last bit
            return pa.array([Decimal(repr(value))], type_).cast(pa.float64())[0].as_py()
        except (pa.ArrowException, ValueError):  # more digits than the files had
            pass
    try:
        return float(value)
    except OverflowError:
        raise Wrong("a number too large", "Correct it, or train with `clip` on the feature", value) from None
