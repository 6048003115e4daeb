"""Files that a benchmark trains on. In: the user's config and what is varied; out: a Parquet file a point, and what was fitted.

Batches, buffers and row groups of these files are as large as a batch, so that a turn of a few steps reads, decodes and trains side by
side as a long run does. Files of long histories hold fewer batches, and are read again from their start.
"""

import pickle
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from interformer_rec.benchmarking.arguments import BenchmarkOptions
from interformer_rec.benchmarking.point import Point, config_of
from interformer_rec.benchmarking.rows import made_up, own
from interformer_rec.config.request import candidate_columns, counted_column
from interformer_rec.config.run import RunConfig
from interformer_rec.data.decode.arrays import lists
from interformer_rec.data.fit import Fitted, fit
from interformer_rec.planning.cost.sizes import find_sizes

FEWEST, AROUND = 4, 9  # batches a file; and steps beside the measured ones that a file should have a batch for
FILE_BYTES = 96 << 20  # of histories, before compression
FITTED = "fitted.pickle"


@dataclass(frozen=True)
class Written:
    """The rows of a point."""

    path: Path
    batch_size: int  # candidates a rank and step
    longest: int  # events of a history in the file
    events_a_row: float  # mean events of all histories, a row of the file


class Prepared:
    """Reads or makes up rows once, and writes what a point needs when it is asked for. `folder` is this host's."""

    def __init__(self, base: RunConfig, config_path: str, options: BenchmarkOptions, folder: Path) -> None:
        self._base, self._config_path, self._options, self._folder = base, config_path, options, folder
        self._written: dict[tuple[int, int | None, int], Written] = {}

    @property
    def own(self) -> bool:
        """Rows are the user's."""
        return self._options.distribution == "data"

    @cached_property
    def fitted(self) -> Fitted:
        """Vocabularies of all training rows, or made up for tables of the sizes that are known. Raises InputError."""
        features, workers = self._base.features, self._base.data.workers
        if self.own:
            return replace(fit(features, own.open_training(self._base), workers), meaning=None)
        return made_up.fitted_of(features, find_sizes(self._base, self._config_path).rows)

    @cached_property
    def _sample(self) -> pa.Table:
        return own.sample(own.open_training(self._base), self._base.features, own.SAMPLE_ROWS)

    def save_fitted(self) -> Path:
        """Where ranks find it."""
        path = self._folder / FITTED
        if not path.is_file():
            path.write_bytes(pickle.dumps(self.fitted))
        return path

    def write(self, point: Point) -> Written:
        """The rows of a point. Raises InputError."""
        key = point.rows_key
        if key not in self._written:
            self._written[key] = self._write(point)
        return self._written[key]

    def config(self, point: Point) -> RunConfig:
        """The config of a point, with its rows. Raises InputError."""
        written = self.write(point)
        return config_of(self._base, point, str(written.path), written.batch_size)

    def _write(self, point: Point) -> Written:
        few = self._rows(point, 256 * (point.candidates or 1))
        row = _events(few, self._base) / len(few)
        each = self._candidates(few, point)
        batch = self._batch_size(point, row / each)
        per_batch = 8 * row / each * batch * point.ranks * _columns(self._base)
        batches = min(self._options.steps + AROUND, max(FEWEST, int(FILE_BYTES / max(1.0, per_batch))))
        table = self._rows(point, batches * batch * point.ranks)
        path = self._folder / f"{point.longest}-{point.candidates}-{point.ranks}.parquet"
        pq.write_table(table, path, row_group_size=max(1, round(batch / each)), compression="zstd")
        return Written(path, batch, _longest(table, self._base), _events(table, self._base) / len(table))

    def _batch_size(self, point: Point, events: float) -> int:
        """The config's, or fewer rows where those have too many events. `events`: a candidate's mean."""
        size = self._base.data.batch_size
        if self._options.events is None:
            return size
        return max(1, min(size, round(self._options.events / max(1.0, events))))

    def _rows(self, point: Point, candidates: int) -> pa.Table:
        """A table with so many candidates, in requests where the point has them."""
        features, options, each = self._base.features, self._options, point.candidates
        if not self.own:
            size = (self.fitted.table_rows, candidates, point.longest, options.distribution, options.fill)
            table = made_up.rows_of(features, *size)
            return table if each is None else own.requests_of(table, self._candidate_columns, each)
        table = self._sample
        if features.request is not None:
            if each is not None:
                table = own.with_candidates(table, self._candidate_columns, counted_column(features), each)
            table = own.repeated(table, max(1, round(candidates / self._candidates(table, point))))
        else:
            table = own.repeated(table, candidates)
            if each is not None:
                table = own.requests_of(table, self._candidate_columns, each)
        return own.stretched(table, features, point.longest)

    @property
    def _candidate_columns(self) -> frozenset[str]:
        return candidate_columns(self._base.features)

    def _candidates(self, table: pa.Table, point: Point) -> float:
        """Mean of a row of the file."""
        features = self._base.features
        if point.candidates is not None:
            return float(point.candidates)
        if features.request is None:
            return 1.0
        return max(1e-9, float(lists(table[counted_column(features)]).lengths.mean()))


def _columns(base: RunConfig) -> int:
    """Columns of an event, on average over the histories."""
    groups = base.features.sequences
    return max(1, sum(len(group.columns) + (group.timestamp is not None) for group in groups) // max(1, len(groups)))


def _events(table: pa.Table, base: RunConfig) -> int:
    return sum(int(lists(table[group.columns[0].column]).lengths.sum()) for group in base.features.sequences)


def _longest(table: pa.Table, base: RunConfig) -> int:
    groups = base.features.sequences
    return max((int(lists(table[g.columns[0].column]).lengths.max(initial=0)) for g in groups), default=0)
