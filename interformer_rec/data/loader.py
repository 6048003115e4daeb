"""Parquet files -> a stream of (Batch, Cursor) for one rank. In: a path, the schema and what was fitted; out: the same stream whatever
the number of workers, and as many batches on every rank.

`workers` threads decode units ahead (Arrow and numpy release the interpreter's lock), as many collate; the consumer puts them in order.
"""

from __future__ import annotations

import functools
import logging
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from interformer_rec.batch import Batch
from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.history_pretraining import HistoryPretrainingConfig
from interformer_rec.data.balance import events
from interformer_rec.data.collate import Piece, collate, empty_batch
from interformer_rec.data.decode.columns import Columns, join
from interformer_rec.data.decode.decoder import Decoder
from interformer_rec.data.decode.jagged import Rows
from interformer_rec.data.decode.kinds import check_kinds, columns_of
from interformer_rec.data.epoch_plan import Cursor, Plan, Span, plan_epoch
from interformer_rec.data.files.source import Source, open_source
from interformer_rec.data.fit import Fitted
from interformer_rec.data.history_pretraining import EventSampler
from interformer_rec.data.meaning import require_meaning
from interformer_rec.redaction import redact

log = logging.getLogger(__name__)

DECODE_ROWS = 16_384  # read and decoded at a time
BATCHES_AHEAD = 4  # collated and waiting, at least


class _Unit(NamedTuple):
    columns: Columns
    order: np.ndarray  # the unit's rows in the order they are read
    table: pa.Table | None  # all input columns, for prediction


class _Made(NamedTuple):
    batch: Batch
    kept: list[Kept]  # in order; [] unless input columns are kept


class Kept(NamedTuple):
    """Input columns of a batch's rows, bad ones included."""

    table: pa.Table
    good: np.ndarray  # (rows,) bool: those that are in the batch


class Loader:
    """Batches of one rank. Raises InputError for files that do not suit the schema, here, and for bad rows while iterating.

    `path`: local path, glob, directory or URI, or an open Source. `workers` 0 decodes in the consumer's thread. `labels` False:
    label, weight and group columns need not exist. With `on_bad_row` "skip" bad rows are left out, counted and logged; a batch is
    then smaller, and a filler if nothing is left, so that all ranks keep step. `balance` "events" shuffles so that every batch of every
    rank has about as many events, "groups" so that the rows of one group (the schema's `group`) of a shuffle buffer follow each other;
    nothing changes where rows are not shuffled. `history_pretraining`: its first epochs are events of histories instead of the rows.
    """

    def __init__(
        self,
        path: str | Source,
        features: FeatureSchema,
        fitted: Fitted,
        *,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
        shuffle_rows: int = 0,
        balance: str = "none",
        workers: int = 1,
        prefetch: int = 2,
        on_bad_row: str = "error",
        labels: bool = True,
        history_pretraining: HistoryPretrainingConfig | None = None,
        max_decoded_bytes: int | None = None,
    ) -> None:
        assert 0 <= rank < world_size and batch_size > 0 and workers >= 0
        assert on_bad_row in ("error", "skip") and balance in ("none", "events", "groups")
        self.source = path if isinstance(path, Source) else open_source(path, max_decoded_bytes)
        check_kinds(self.source, features, labels)
        if fitted.meaning is not None:
            require_meaning(fitted.meaning, self.source, features, labels)
        self._columns = columns_of(features, labels)
        self._decoder = Decoder(features, fitted, labels=labels, skip_bad=on_bad_row == "skip")
        self._batch_size, self._rank, self._world_size = batch_size, rank, world_size
        self._seed, self._shuffle_rows, self._balance = seed, shuffle_rows, balance
        self._pretraining_epochs = history_pretraining.epochs if history_pretraining else 0
        self._sampler = EventSampler(features, history_pretraining) if history_pretraining else None
        self._workers, self._prefetch, self._skip = workers, prefetch, on_bad_row == "skip"
        self._tasks = len(features.labels) if labels else 0
        self.rows = self.source.rows  # of all ranks
        self.steps = self._plan(0).steps  # batches that every rank yields in an epoch
        self.bad_rows: dict[str, int] = {}  # reason -> rows this rank has skipped since iteration began

    def _plan(self, epoch: int, shuffle_rows: int | None = None) -> Plan:
        return plan_epoch(
            self.source.group_rows,
            batch_size=self._batch_size,
            world_size=self._world_size,
            seed=self._seed,
            epoch=epoch,
            shuffle_rows=self._shuffle_rows if shuffle_rows is None else shuffle_rows,
            balance=self._balance,
            checksum=self.source.checksum,
        )

    def batches(self, epoch: int = 0, cursor: Cursor | None = None) -> Iterator[tuple[Batch, Cursor]]:
        """This rank's batches of an epoch, each with the place after it.

        With a cursor: what is left of the cursor's epoch (`epoch` is not used). With the same world and batch size these are the same
        batches, bit for bit; with another, the unread rows are divided anew, and the number of batches is that of `steps_left`.
        """
        plan = self._plan(epoch) if cursor is None else self._plan(cursor.epoch).remaining(cursor)
        for step, made in self._made(plan, None):
            yield made.batch, plan.cursor(step + 1)

    @property
    def skips(self) -> bool:
        """Whether bad rows are left out and counted."""
        return self._skip

    def steps_left(self, cursor: Cursor) -> int:
        """Batches that `batches(cursor=cursor)` yields on every rank."""
        plan = self._plan(cursor.epoch).remaining(cursor)
        return plan.steps - plan.first_step

    def tables(self) -> Generator[tuple[Batch, Kept], None, None]:
        """This rank's rows in file order, each batch with the input's columns for the same rows, untouched; a filler has no rows.

        Files that differ give the columns of FileSchemas.whole; what that leaves out is logged. Skipped rows are in the table and not in
        the batch.
        """
        schema, left_out = self.source.columns.whole(self._columns)
        for reason in left_out if self._rank == 0 else ():
            log.warning("column left out of the output: %s", reason)
        for _, made in self._made(self._plan(0, shuffle_rows=0), schema.names):
            kept = made.kept or [Kept(schema.empty_table(), np.zeros(0, bool))]
            yield made.batch, Kept(pa.concat_tables([k.table for k in kept]), np.concatenate([k.good for k in kept]))

    def _made(self, plan: Plan, keep: list[str] | None) -> Iterator[tuple[int, _Made]]:
        """(step, batch) in order; `keep`: input columns to hand through."""
        self.bad_rows = {}
        run = _inline if self._workers == 0 else self._threaded
        try:
            for step, made in run(
                plan, self._rank, lambda u: self._decode(plan, u, keep), lambda s, p: self._collate(plan, s, p)
            ):
                self._count(made.batch.skipped)
                yield step, made
        finally:
            for reason, count in self.bad_rows.items():
                log.warning("skipped %d row(s) of %s: %s", count, redact(self.source.path), reason)

    def _decode(self, plan: Plan, unit: int, keep: list[str] | None) -> _Unit:
        """A few row groups at a time, so that Arrow's memory is used again while it is in the cache."""
        parts, tables = [], []
        for groups in _portions(plan.units[unit].tolist(), self.source.group_rows):
            if keep is None:
                table = self.source.read(groups, self._columns, strings=True)
            else:
                table = self.source.read(groups, keep)
                tables.append(table)
            parts.append(self._decoder(table, functools.partial(self.source.where_row, groups)))
        columns = join(parts)
        if self._sampler is not None and plan.epoch < self._pretraining_epochs:
            columns = self._sampler(columns, plan.epoch, plan.draws(unit))
        histories = columns.jagged[: len(self._decoder.features.sequences)]
        counts = events(histories, len(columns.weights)) if plan.balance == "events" else None
        order = plan.order(unit, counts, columns.groups)
        return _Unit(columns, order, pa.concat_tables(tables) if tables else None)

    def _collate(self, plan: Plan, step: int, pieces: list[tuple[_Unit, Span]]) -> _Made:
        chosen: list[Piece] = []
        kept: list[Kept] = []
        skipped: dict[str, tuple[int, str]] = {}
        for unit, span in pieces:
            rows = self._good_rows(plan, unit, span, skipped)
            if unit.table is not None:  # then in file order
                good = np.zeros(span.stop - span.start, bool)
                good[slice(None) if isinstance(rows, slice) else rows - span.start] = True
                kept.append(Kept(unit.table.slice(span.start, len(good)), good))
            if isinstance(rows, slice) or len(rows):
                chosen.append((unit.columns, rows))
        layout, features, loss_rows = self._decoder.layout, self._decoder.features, plan.loss_rows(step)
        if chosen:
            batch = collate(layout, features, chosen, loss_rows)
        else:
            batch = empty_batch(layout, features, self._tasks, loss_rows)
        if self._skip:
            batch.loss_rows, batch.skipped = float(max(1, batch.rows)), skipped
        return _Made(batch, kept)

    def _good_rows(self, plan: Plan, unit: _Unit, span: Span, skipped: dict[str, tuple[int, str]]) -> Rows:
        """The span's rows without the bad ones, which are added to `skipped`; a slice where they lie in file order."""
        bad = unit.columns.bad
        if bad is None:
            return unit.order[span.start : span.stop] if plan.shuffle_rows else slice(span.start, span.stop)
        rows = unit.order[span.start : span.stop]
        codes = bad[rows]
        for code, count in zip(*np.unique(codes[codes > 0], return_counts=True), strict=True):
            reason, example = unit.columns.reasons[code - 1]
            before, first = skipped.get(reason, (0, example))
            skipped[reason] = (before + int(count), first)
        return rows[codes == 0]

    def _count(self, skipped: dict[str, tuple[int, str]]) -> None:
        for reason, (count, example) in skipped.items():
            if reason not in self.bad_rows:
                log.warning("skipping bad rows, such as %s", example)
            self.bad_rows[reason] = self.bad_rows.get(reason, 0) + count

    def _threaded(self, plan: Plan, rank: int, decode: Decode, make: Make) -> Iterator[tuple[int, _Made]]:
        """Decode and collate ahead. A worker's exception is raised where its batch would have come."""
        ahead = max(self._prefetch, self._workers)
        units, steps = deque(plan.rank_units(rank)), iter(range(plan.first_step, plan.steps))
        decoding: dict[int, Future[_Unit]] = {}
        made: deque[tuple[int, Future[_Made]]] = deque()
        decoders = ThreadPoolExecutor(self._workers, thread_name_prefix="decode")
        collators = ThreadPoolExecutor(self._workers, thread_name_prefix="collate")
        try:
            step = next(steps, None)
            while step is not None or made:
                while step is not None and len(made) < BATCHES_AHEAD + self._workers:
                    spans = plan.batch(rank, step)
                    while units and (len(decoding) <= ahead or (spans and spans[-1].unit not in decoding)):
                        unit = units.popleft()
                        decoding[unit] = decoders.submit(decode, unit)
                    waited = [decoding[span.unit] for span in spans]
                    if made and not all(future.done() and future.exception() is None for future in waited):
                        break  # there is a batch to hand out first
                    pieces = [(future.result(), span) for future, span in zip(waited, spans, strict=True)]
                    made.append((step, collators.submit(make, step, pieces)))
                    for unit in [unit for unit in decoding if spans and unit < spans[-1].unit]:
                        del decoding[unit]
                    step = next(steps, None)
                number, future = made.popleft()
                yield number, future.result()
        finally:
            for pool in (decoders, collators):
                pool.shutdown(wait=True, cancel_futures=True)


def _portions(groups: list[int], rows: np.ndarray) -> Iterator[list[int]]:
    """Row groups in runs of at most DECODE_ROWS rows (or one row group): a call per column and tiny row group would be slow."""
    portion: list[int] = []
    for group in groups:
        if portion and rows[[*portion, group]].sum() > DECODE_ROWS:
            yield portion
            portion = []
        portion.append(group)
    yield portion


Decode = Callable[[int], _Unit]
Make = Callable[[int, list[tuple[_Unit, Span]]], _Made]


def _inline(plan: Plan, rank: int, decode: Decode, make: Make) -> Iterator[tuple[int, _Made]]:
    """Everything in the consumer's thread, a unit at a time."""
    units: dict[int, Any] = {}
    for step in range(plan.first_step, plan.steps):
        spans = plan.batch(rank, step)
        for span in spans:
            if span.unit not in units:
                units[span.unit] = decode(span.unit)
        yield step, make(step, [(units[span.unit], span) for span in spans])
        for unit in [unit for unit in units if spans and unit < spans[-1].unit]:
            del units[unit]
