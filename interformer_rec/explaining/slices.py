"""How good a model is on parts of its rows. In: columns of the input and logits; out: metrics of every value, or bucket of numbers.

A column of few values (text, truth values, at most MOST_VALUES different whole numbers) is cut by value, the rarest together; other
numbers and times by quantiles; lists by their length.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from interformer_rec.config.features import MISSING_ROW, UNKNOWN_ROW, FeatureSchema, SequenceGroup
from interformer_rec.data.decode.columns import Columns
from interformer_rec.data.decode.layout import Layout
from interformer_rec.data.files.unify import is_any_list, is_text
from interformer_rec.errors import InputError
from interformer_rec.explaining.rows import KeptRows
from interformer_rec.explaining.scoring import RowScorer
from interformer_rec.metrics.evaluation import EvalMetrics

MOST_VALUES = 20
BUCKETS = 5
Slice = tuple[str, np.ndarray]  # how it is called; (rows,) bool


def check_columns(schema: pa.Schema) -> None:
    """Raises InputError for a column that cannot be cut."""
    for field in schema:
        type_ = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if not (is_any_list(type_) or _is_value(type_) or _is_number(type_)):
            raise InputError(
                f"--slices {field.name}: the column holds {field.type}; slices are made of text, truth values, numbers, times and the "
                "lengths of lists. Leave it out"
            )


class Slices:
    """Metrics of parts of the kept rows."""

    def __init__(self, rows: KeptRows, logits: np.ndarray, features: FeatureSchema, scorer: RowScorer) -> None:
        """`logits` (rows, tasks)."""
        self._rows, self._logits, self._features, self._scorer = rows, logits, features, scorer
        self._unknown = _unknown_ids(rows.columns, features)

    def of(self, column: str) -> list[dict[str, Any]]:
        """A row for each slice of a column (collective)."""
        return [self._row(name, mask) for name, mask in cut(self._rows.table[column])]

    def whole(self) -> dict[str, Any]:
        """All rows as one slice (collective). Raises InputError where no metric of them is defined."""
        rows = self._rows.rows
        if (reason := self._metrics(np.arange(rows)[self._scorer.share(rows)]).undefined()) is not None:
            raise InputError(f"nothing can be explained: {reason}")
        return self._row("all rows", np.ones(rows, bool))

    def _row(self, name: str, mask: np.ndarray) -> dict[str, Any]:
        columns, places = self._rows.columns, np.flatnonzero(mask)
        values = self._metrics(places[self._scorer.share(len(places))]).compute()
        labels = {}
        for task, label in enumerate(one.name for one in self._features.labels):
            found = {key.rpartition("/")[2]: value for key, value in values.items() if key.startswith(f"{label}/")}
            labels[label] = {"positives": float(columns.labels[mask, task].sum(dtype=np.float64)), **found}
        return {"value": name, "rows": len(places), "labels": labels, **self._shares(mask)}

    def _metrics(self, mine: np.ndarray) -> EvalMetrics:
        """Over all ranks; `mine`: the rows of this one."""
        columns, features = self._rows.columns, self._features
        metrics = EvalMetrics(
            [label.name for label in features.labels], features.group is not None, self._scorer.env.device
        )
        parts = (self._logits, columns.labels, columns.weights, columns.groups)
        metrics.update(*(torch.from_numpy(part[mine]) for part in parts))
        return metrics

    def _shares(self, mask: np.ndarray) -> dict[str, Any]:
        """Of ids that the vocabularies do not know, of all and by input; None where there is no id."""
        sums = {key: (int(unknown[mask].sum()), int(ids[mask].sum())) for key, (unknown, ids) in self._unknown.items()}
        unknown, ids = (sum(part) for part in zip(*sums.values(), strict=True)) if sums else (0, 0)
        by_input = {key: some / every if every else None for key, (some, every) in sums.items()}
        return {"unknown_ids": unknown / ids if ids else None, "unknown_ids_by_input": by_input}


def cut(column: pa.ChunkedArray) -> list[Slice]:
    """The slices of a column; none of them is empty, and every row is in one."""
    values = column.combine_chunks()
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if is_any_list(values.type):
        values = pc.list_value_length(values)
    null = values.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
    slices = _by_value(values, null) if _is_value(values.type) else _by_number(values, null)
    return [*slices, *([("null", null)] if null.any() else [])]


def _by_value(values: pa.Array, null: np.ndarray) -> list[Slice]:
    """The most frequent values first, the rest together."""
    encoded = values.dictionary_encode()
    index = np.where(null, -1, encoded.indices.fill_null(0).to_numpy(zero_copy_only=False))
    counts = np.bincount(index[~null], minlength=len(encoded.dictionary))
    names = [str(name) for name in encoded.dictionary.to_pylist()]
    order = sorted(
        (place for place in range(len(names)) if counts[place]), key=lambda place: (-counts[place], names[place])
    )
    found = [(names[place], index == place) for place in order[:MOST_VALUES]]
    rest = order[MOST_VALUES:]
    return [*found, *([(f"other ({len(rest):,} values)", np.isin(index, rest))] if rest else [])]


def _by_number(values: pa.Array, null: np.ndarray) -> list[Slice]:
    """Few whole numbers one by one, other numbers by quantiles, each called by its lowest and highest."""
    whole = pa.types.is_integer(values.type)
    order = values.cast(pa.float64()) if pa.types.is_decimal(values.type) else values
    if pa.types.is_temporal(values.type):
        order = values.view(pa.int32() if values.type.bit_width == 32 else pa.int64())
    numbers = order.fill_null(0).to_numpy(zero_copy_only=False)
    distinct = np.unique(numbers[~null])
    if not len(distinct):
        return []
    if whole and len(distinct) <= MOST_VALUES:
        return [(str(value), (numbers == value) & ~null) for value in distinct]
    edges, times = np.unique(
        np.quantile(numbers[~null], np.arange(1, BUCKETS) / BUCKETS, method="lower"), return_counts=True
    )
    # of values that are frequent enough for a slice of their own
    below = np.searchsorted(distinct, edges[times > 1]) - 1
    edges = np.union1d(edges, distinct[below[below >= 0]])
    bucket = np.searchsorted(edges, numbers, side="left")  # an edge is the last value of its bucket
    found = []
    for number in range(len(edges) + 1):
        mask = (bucket == number) & ~null
        if mask.any():
            places = np.flatnonzero(mask)[[numbers[mask].argmin(), numbers[mask].argmax()]]
            first, last = (_text(values[int(place)].as_py()) for place in places)
            found.append((first if first == last else f"{first} to {last}", mask))
    return found


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _is_value(type_: pa.DataType) -> bool:
    return is_text(type_) or pa.types.is_boolean(type_) or pa.types.is_null(type_)


def _is_number(type_: pa.DataType) -> bool:
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_temporal)
    return any(is_kind(type_) for is_kind in kinds)


def _unknown_ids(columns: Columns, features: FeatureSchema) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Input -> (rows,) ids that are unknown, and all that are not null; of inputs of vocab tables, which alone have an unknown row."""
    layout, found = Layout(features), {}
    for place, single in enumerate(layout.singles):
        if features.tables[single.table].ids == "vocab":
            ids = columns.singles[:, place]
            found[single.name] = (ids == UNKNOWN_ROW, ids != MISSING_ROW)
    for place, jagged in enumerate(layout.jagged):
        events = columns.jagged[place]
        inputs = (
            [(jagged.name, jagged.table)]
            if not isinstance(jagged, SequenceGroup)
            else [(f"{jagged.name}.{one.name}", one.table) for one in jagged.columns]
        )
        for number, (name, table) in enumerate(inputs):
            if features.tables[table].ids == "vocab":
                ids = events.events[:, number]
                found[name] = (_by_row(ids == UNKNOWN_ROW, events.offsets), _by_row(ids != MISSING_ROW, events.offsets))
    return found


def _by_row(mask: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """(events,) bool -> (rows,) how many are True."""
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(mask)])
    return before[offsets[1:]] - before[offsets[:-1]]
