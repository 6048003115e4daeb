"""Parquet files -> a stream of (Batch, Cursor) for one rank. In: a path, the schema and what was fitted; out: the same stream whatever
the number of workers, and as many batches on every rank.

`workers` threads decode buffers ahead (Arrow and numpy release the interpreter's lock), as many collate; the consumer puts them in order.
"""

from __future__ import annotations

import functools
import logging
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from interformer_rec.batch import Batch
from interformer_rec.config.data import DataConfig
from interformer_rec.config.features import FeatureSchema
from interformer_rec.data.balance import events
from interformer_rec.data.collate import Piece, collate, empty_batch
from interformer_rec.data.decode.columns import Columns, join
from interformer_rec.data.decode.decoder import Decoder
from interformer_rec.data.decode.jagged import Rows
from interformer_rec.data.decode.kinds import check_kinds, columns_of
from interformer_rec.data.decode.requests import RequestDecoder, candidate_rows, candidate_schema, candidate_table
from interformer_rec.data.epoch_plan import Cursor, Plan, Span, plan_epoch
from interformer_rec.data.event_store.joined import JoinedSource, open_rows
from interformer_rec.data.files.source import Source
from interformer_rec.data.fit import Fitted
from interformer_rec.data.history_pretraining import EventSampler
from interformer_rec.data.id_dropout import IdDropout, RequestIdDropout
from interformer_rec.data.meaning import require_meaning
from interformer_rec.data.request_batches import collate_requests
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
        self.source = open_rows(path, data, features)
        self.joined = self.source.given if isinstance(self.source, JoinedSource) else ()  # columns that no file has
        check_kinds(self.source, features, labels)
        if fitted.meaning is not None:
            require_meaning(fitted.meaning, self.source, features, labels)
        self._data, self._seed, (self._rank, self._world_size) = data, seed, part
        self.table_rows = fitted.table_rows  # of every table
        self.skips = data.on_bad_row == "skip"  # bad rows are left out and counted
        self._columns = columns_of(features, labels)
        self._features = features
        self._decoder: Decoder | RequestDecoder
        self._group_rows = self.source.group_rows
        if features.request is None:
            self._decoder = Decoder(features, fitted, labels=labels, skip_bad=self.skips)
            self._collated: Any = functools.partial(collate, self._decoder.layout, features)
        else:
            self._decoder = RequestDecoder(features, fitted, labels=labels, skip_bad=self.skips)
            self._collated = functools.partial(collate_requests, self._decoder.layout, features)
            self._group_rows = candidate_rows(self.source, features, data.workers)
        self._sampler = EventSampler(features, data.history_pretraining) if data.history_pretraining else None
        strength, windows = data.id_dropout, data.windows is not None
        dropout = IdDropout if features.request is None else RequestIdDropout
        self._dropout = dropout(features, fitted, strength, growing_only=windows) if strength else None
        self._tasks = len(features.labels) if labels else 0
        self.rows = int(self._group_rows.sum())  # of all ranks; candidates where a row of the files is a request
        self.steps = self._plan(0).steps  # batches that every rank yields in an epoch
        self.bad_rows: dict[str, int] = {}  # reason -> rows this rank has skipped since iteration began

    def _plan(self, epoch: int, in_file_order: bool = False) -> Plan:
        return plan_epoch(
            self._group_rows,
            self._data.model_copy(update={"shuffle_rows": 0}) if in_file_order else self._data,
            world_size=self._world_size,
            seed=self._seed,
            epoch=epoch,
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
        empty = candidate_schema(schema, self._features.candidate_columns).empty_table()
        for _, made in self._made(self._plan(0, in_file_order=True), schema.names):
            kept = made.kept or [Kept(empty, np.zeros(0, bool))]
            yield made.batch, Kept(pa.concat_tables([k.table for k in kept]), np.concatenate([k.good for k in kept]))

    def decoded(self, also: Sequence[str]) -> Iterator[tuple[Columns, pa.Table]]:
        """The rows of all ranks in file order, a row group at a time, bad ones marked, and the input's columns `also` of the same rows."""
        plan = self._plan(0, in_file_order=True)
        for number in range(len(plan.buffers)):
            buffer = self._decode(plan, number, list(dict.fromkeys([*self._columns, *also])))
            assert buffer.table is not None
            yield buffer.columns, buffer.table.select(list(also))

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
            for line in self.source.counted.said() if isinstance(self.source, JoinedSource) else ():
                log.warning("%s: %s", redact(self.source.path), line)

    def pretraining_events(self) -> Iterator[tuple[int, tuple[int, int]]]:
        """This rank's shuffle buffers of the first epoch: number, events that history pre-training can draw from it, good rows.

        Decodes each buffer as it is asked for.
        """
        assert self._sampler is not None
        plan = self._plan(0)
        for buffer in plan.rank_buffers(self._rank):
            yield buffer, self._sampler.count(self._decoded(plan, buffer, None)[0])

    def _decode(self, plan: Plan, buffer: int, keep: list[str] | None) -> _Buffer:
        draws = plan.epoch_draws(buffer)
        if self._sampler is not None and plan.epoch < self._data.pretraining_epochs:
            columns, tables = self._decoded(plan, buffer, keep)
            columns = self._sampler(columns, plan.epoch, plan.draws(buffer))
            if self._dropout is not None:
                columns = self._dropout(columns, draws)
        else:
            columns, tables = self._decoded(plan, buffer, keep, draws)
        order = self._order(plan, buffer, columns)
        return _Buffer(columns, order, pa.concat_tables(tables) if tables else None)

    def _decoded(
        self, plan: Plan, buffer: int, keep: list[str] | None, draws: np.random.Generator | None = None
    ) -> tuple[Columns, list[pa.Table]]:
        """A few row groups at a time, so that memory is used again while it is in the cache. `draws`: for id dropout, in order."""
        parts, tables = [], []
        for groups in _portions(plan.buffers[buffer].tolist(), self.source.group_rows):
            if keep is None:
                table = self.source.read(groups, self._columns, strings=True)
            else:
                table = self.source.read(groups, keep)
                tables.append(table)
            part = self._decoder(table, functools.partial(self.source.where_row, groups))
            if part.requests is not None:
                part.requests.numbers = self.source.row_numbers(groups)
            parts.append(part if draws is None or self._dropout is None else self._dropout(part, draws))
        return join(parts), tables

    def _order(self, plan: Plan, buffer: int, columns: Columns) -> np.ndarray:
        """The buffer's rows in the order they are read; candidates of a request stay together."""
        once = columns if columns.requests is None else columns.requests.columns
        histories, rows = once.jagged[: len(self._features.sequences)], len(once.weights)
        counts = events(histories, rows) if plan.balance == "events" else None
        order = plan.order(buffer, counts, once.groups, rows)
        return order if columns.requests is None else columns.requests.candidates_of(order)

    def _collate(self, plan: Plan, step: int, pieces: list[tuple[_Buffer, Span]]) -> _Made:
        chosen: list[Piece] = []
        kept: list[Kept] = []
        skipped: dict[str, tuple[int, str]] = {}
        for buffer, span in pieces:
            rows = self._good_rows(plan, buffer, span, skipped)
            if buffer.table is not None:  # then in file order
                good = np.zeros(span.stop - span.start, bool)
                good[slice(None) if isinstance(rows, slice) else rows - span.start] = True
                kept.append(Kept(self._input(buffer, span), good))
            if isinstance(rows, slice) or len(rows):
                chosen.append((buffer.columns, rows))
        loss_rows = plan.loss_rows(step)
        if chosen:
            batch = self._collated(chosen, loss_rows)
        else:
            batch = empty_batch(self._features, self._tasks, loss_rows)
        if self.skips:
            batch.loss_rows, batch.skipped = float(max(1, batch.rows)), skipped
        return _Made(batch, kept)

    def _input(self, buffer: _Buffer, span: Span) -> pa.Table:
        """The input's columns of rows in file order; a candidate's are its own and its request's."""
        assert buffer.table is not None
        requests = buffer.columns.requests
        if requests is None:
            return buffer.table.slice(span.start, span.stop - span.start)
        return candidate_table(buffer.table, self._features.candidate_columns, requests, span.start, span.stop)

    def _good_rows(self, plan: Plan, buffer: _Buffer, span: Span, skipped: dict[str, tuple[int, str]]) -> Rows:
        """The span's rows without the bad ones, which are added to `skipped`; a slice where they lie in file order."""
        if buffer.columns.bad is None:
            return buffer.order[span.start : span.stop] if plan.shuffle_rows else slice(span.start, span.stop)
        rows = buffer.order[span.start : span.stop]
        return rows[buffer.columns.count_bad(rows, skipped) == 0]

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
