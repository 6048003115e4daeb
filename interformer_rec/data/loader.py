"""Parquet files -> a stream of (Batch, Cursor) for one rank. In: a path, the schema and what was fitted; out: the same stream whatever
the number of workers, and as many batches on every rank.

`workers` threads decode buffers ahead (Arrow and numpy release the interpreter's lock), as many collate; the consumer puts them in order.
"""

from __future__ import annotations

import functools
import logging
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from interformer_rec.batch import Batch
from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.run import DataConfig
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


class _Buffer(NamedTuple):
    columns: Columns
    order: np.ndarray  # the buffer's rows in the order they are read
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

    `path`: local path, glob, directory or URI, or an open Source. `data` says how the rows are read and cut into batches; where
    `shuffle_rows` is 0 they come in file order, whatever `balance` is. Bad rows that `on_bad_row` skips are left out, counted and
    logged; a batch is then smaller, and a filler if nothing is left, so that all ranks keep step. `part`: this rank, and of how many.
    `labels` False: label, weight and group columns need not exist.
    """

    def __init__(
        self,
        path: str | Source,
        features: FeatureSchema,
        fitted: Fitted,
        data: DataConfig,
        seed: int,
        part: tuple[int, int] = (0, 1),
        labels: bool = True,
    ) -> None:
        self.source = path if isinstance(path, Source) else open_source(path, data.max_decoded_bytes)
        check_kinds(self.source, features, labels)
        if fitted.meaning is not None:
            require_meaning(fitted.meaning, self.source, features, labels)
        self._data, self._seed, (self._rank, self._world_size) = data, seed, part
        self.skips = data.on_bad_row == "skip"  # bad rows are left out and counted
        self._columns = columns_of(features, labels)
        self._decoder = Decoder(features, fitted, labels=labels, skip_bad=self.skips)
        self._sampler = EventSampler(features, data.history_pretraining) if data.history_pretraining else None
        self._tasks = len(features.labels) if labels else 0
        self.rows = self.source.rows  # of all ranks
        self.steps = self._plan(0).steps  # batches that every rank yields in an epoch
        self.bad_rows: dict[str, int] = {}  # reason -> rows this rank has skipped since iteration began

    def _plan(self, epoch: int, in_file_order: bool = False) -> Plan:
        return plan_epoch(
            self.source.group_rows,
            batch_size=self._data.batch_size,
            world_size=self._world_size,
            seed=self._seed,
            epoch=epoch,
            shuffle_rows=0 if in_file_order else self._data.shuffle_rows,
            balance=self._data.balance,
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
        for _, made in self._made(self._plan(0, in_file_order=True), schema.names):
            kept = made.kept or [Kept(schema.empty_table(), np.zeros(0, bool))]
            yield made.batch, Kept(pa.concat_tables([k.table for k in kept]), np.concatenate([k.good for k in kept]))

    def _made(self, plan: Plan, keep: list[str] | None) -> Iterator[tuple[int, _Made]]:
        """(step, batch) in order; `keep`: input columns to hand through."""
        self.bad_rows = {}
        try:
            for step, made in self._ahead(plan, keep):
                self._count(made.batch.skipped)
                yield step, made
        finally:
            for reason, count in self.bad_rows.items():
                log.warning("skipped %d row(s) of %s: %s", count, redact(self.source.path), reason)

    def _decode(self, plan: Plan, buffer: int, keep: list[str] | None) -> _Buffer:
        """A few row groups at a time, so that Arrow's memory is used again while it is in the cache."""
        parts, tables = [], []
        for groups in _portions(plan.buffers[buffer].tolist(), self.source.group_rows):
            if keep is None:
                table = self.source.read(groups, self._columns, strings=True)
            else:
                table = self.source.read(groups, keep)
                tables.append(table)
            parts.append(self._decoder(table, functools.partial(self.source.where_row, groups)))
        columns = join(parts)
        if self._sampler is not None and plan.epoch < self._data.pretraining_epochs:
            columns = self._sampler(columns, plan.epoch, plan.draws(buffer))
        histories = columns.jagged[: len(self._decoder.features.sequences)]
        counts = events(histories, len(columns.weights)) if plan.balance == "events" else None
        order = plan.order(buffer, counts, columns.groups)
        return _Buffer(columns, order, pa.concat_tables(tables) if tables else None)

    def _collate(self, plan: Plan, step: int, pieces: list[tuple[_Buffer, Span]]) -> _Made:
        chosen: list[Piece] = []
        kept: list[Kept] = []
        skipped: dict[str, tuple[int, str]] = {}
        for buffer, span in pieces:
            rows = self._good_rows(plan, buffer, span, skipped)
            if buffer.table is not None:  # then in file order
                good = np.zeros(span.stop - span.start, bool)
                good[slice(None) if isinstance(rows, slice) else rows - span.start] = True
                kept.append(Kept(buffer.table.slice(span.start, len(good)), good))
            if isinstance(rows, slice) or len(rows):
                chosen.append((buffer.columns, rows))
        layout, features, loss_rows = self._decoder.layout, self._decoder.features, plan.loss_rows(step)
        if chosen:
            batch = collate(layout, features, chosen, loss_rows)
        else:
            batch = empty_batch(layout, features, self._tasks, loss_rows)
        if self.skips:
            batch.loss_rows, batch.skipped = float(max(1, batch.rows)), skipped
        return _Made(batch, kept)

    def _good_rows(self, plan: Plan, buffer: _Buffer, span: Span, skipped: dict[str, tuple[int, str]]) -> Rows:
        """The span's rows without the bad ones, which are added to `skipped`; a slice where they lie in file order."""
        bad = buffer.columns.bad
        if bad is None:
            return buffer.order[span.start : span.stop] if plan.shuffle_rows else slice(span.start, span.stop)
        rows = buffer.order[span.start : span.stop]
        codes = bad[rows]
        for code, count in zip(*np.unique(codes[codes > 0], return_counts=True), strict=True):
            reason, example = buffer.columns.reasons[code - 1]
            before, first = skipped.get(reason, (0, example))
            skipped[reason] = (before + int(count), first)
        return rows[codes == 0]

    def _count(self, skipped: dict[str, tuple[int, str]]) -> None:
        for reason, (count, example) in skipped.items():
            if reason not in self.bad_rows:
                log.warning("skipping bad rows, such as %s", example)
            self.bad_rows[reason] = self.bad_rows.get(reason, 0) + count

    def _ahead(self, plan: Plan, keep: list[str] | None) -> Iterator[tuple[int, _Made]]:
        """Decode and collate ahead. A worker's exception is raised where its batch would have come."""
        workers, ahead = self._data.workers, max(self._data.prefetch, self._data.workers)
        buffers, steps = deque(plan.rank_buffers(self._rank)), iter(range(plan.first_step, plan.steps))
        decoding: dict[int, Future[_Buffer]] = {}
        made: deque[tuple[int, Future[_Made]]] = deque()
        decoders = ThreadPoolExecutor(workers, thread_name_prefix="decode")
        collators = ThreadPoolExecutor(workers, thread_name_prefix="collate")
        try:
            step = next(steps, None)
            while step is not None or made:
                while step is not None and len(made) < BATCHES_AHEAD + workers:
                    spans = plan.batch(self._rank, step)
                    while buffers and (len(decoding) <= ahead or (spans and spans[-1].buffer not in decoding)):
                        buffer = buffers.popleft()
                        decoding[buffer] = decoders.submit(self._decode, plan, buffer, keep)
                    waited = [decoding[span.buffer] for span in spans]
                    if made and not all(future.done() and future.exception() is None for future in waited):
                        break  # there is a batch to hand out first
                    pieces = [(future.result(), span) for future, span in zip(waited, spans, strict=True)]
                    made.append((step, collators.submit(self._collate, plan, step, pieces)))
                    for buffer in [buffer for buffer in decoding if spans and buffer < spans[-1].buffer]:
                        del decoding[buffer]
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
