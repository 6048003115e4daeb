"""Splits that cannot leak. In: a data set's folder; out: the training cut, the validation cut and the test file, checked.

`tuning_files` never opens the test file; `test_file` does, and only the last step of a study calls it. The checks: no
feedback column is an input; splits follow each other in time and share no row; events of a history are strictly earlier
than their row. Any of them that fails is an InputError.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.quality.sets import Dataset, History
from interformer_rec.config.features import FeatureSchema
from interformer_rec.errors import InputError

ROW_GROUP = 12_288


@dataclass(frozen=True)
class TuningFiles:
    """What models are fitted on and chosen by."""

    train: Path
    valid: Path


def check_inputs(dataset: Dataset, features: FeatureSchema, who: str) -> None:
    """No feedback on the row itself is an input. Raises InputError."""
    labels = {label.column for label in features.labels}
    leaking = set(features.columns(labels=False)) & (set(dataset.feedback) | labels)
    if leaking:
        raise InputError(f"{who}: input column {sorted(leaking)[0]!r} is feedback on the row itself; take it out")


def tuning_files(
    dataset: Dataset, features: FeatureSchema, folder: Path, cache: Path, shuffle_labels: bool
) -> TuningFiles:
    """Check and, once, write the cuts into `cache`; the test file is not touched. Raises InputError."""
    found = TuningFiles(cache / "train.parquet", cache / "valid.parquet")
    checked = cache / "checked"
    source = f"{folder.resolve()} {(folder / dataset.train).stat().st_size if (folder / dataset.train).exists() else 0}"
    if checked.exists():
        if checked.read_text(encoding="utf-8") != source:
            raise InputError(
                f"{str(cache)!r} was cut from other files ({checked.read_text(encoding='utf-8')}): choose another --out"
            )
        return found
    shutil.rmtree(cache, ignore_errors=True)
    cache.mkdir(parents=True)
    train = _read(folder / dataset.train)
    check_histories(dataset, features, [train])
    if dataset.valid is None:
        early = pc.less(train[dataset.time], dataset.cut)
        train, valid = train.filter(early), train.filter(pc.invert(early))
        if not (len(train) and len(valid)):
            raise InputError(f"the cut at {dataset.time} = {dataset.cut} leaves {len(train)} and {len(valid)} rows")
    else:
        valid = _read(folder / dataset.valid)
        check_histories(dataset, features, [train, valid])
    check_order(dataset, features, train, valid, "training and validation")
    for number, (table, path) in enumerate(((train, found.train), (valid, found.valid))):
        _write(_shuffled(table, dataset, number) if shuffle_labels else table, path)
    checked.write_text(source, encoding="utf-8")  # last: a folder with it is whole
    return found


def test_file(dataset: Dataset, features: FeatureSchema, folder: Path, cache: Path, shuffle_labels: bool) -> Path:
    """The test rows, checked against those before them. Called by the final step only. Raises InputError."""
    source, copy, checked = folder / dataset.test, cache / "test.parquet", cache / "checked_test"
    if not source.exists():
        raise InputError(
            f"the final step needs the test file {str(source)!r}, which is not there; tuning is done and kept"
        )
    if not checked.exists():
        test = _read(source)
        before = [_read(folder / name) for name in (dataset.train, dataset.valid) if name is not None]
        check_histories(dataset, features, [*before, test])
        check_order(dataset, features, before[-1], test, "training and test")
        if shuffle_labels:
            _write(_shuffled(test, dataset, 2), copy)
        checked.touch()
    return copy if shuffle_labels else source


def check_order(dataset: Dataset, features: FeatureSchema, before: pa.Table, after: pa.Table, which: str) -> None:
    """Every row of `before` is at most as late as every row of `after`, and none is in both. Raises InputError."""
    last, first = pc.max(before[dataset.time]).as_py(), pc.min(after[dataset.time]).as_py()
    if last > first:
        raise InputError(f"{which} rows overlap in time: the former end at {last}, the latter begin at {first}")
    if last == first:  # only rows of that moment can be in both
        keys = [dataset.item, *([features.group] if features.group else [])]
        moments = [table.filter(pc.equal(table[dataset.time], last)).select(keys) for table in (before, after)]
        both = set.intersection(*(set(map(tuple, map(dict.values, table.to_pylist()))) for table in moments))
        if both:
            raise InputError(
                f"{which} share rows at {dataset.time} = {last}: {dict(zip(keys, both.pop(), strict=True))}"
            )


def check_histories(dataset: Dataset, features: FeatureSchema, parts: list[pa.Table]) -> None:
    """Events of every history are strictly earlier than their row; `parts` are in order of time. Raises InputError."""
    for history in dataset.histories:
        if history.times is not None:
            for table in parts:
                _check_times(dataset, history, table)
        else:
            wanted = [dataset.time, dataset.item, features.group, history.events, history.where]
            columns = list(dict.fromkeys(name for name in wanted if name is not None))
            rows = pa.concat_tables([table.select(columns) for table in parts])
            _check_replay(dataset, history, features.group, rows)


def _check_times(dataset: Dataset, history: History, table: pa.Table) -> None:
    events = table[history.times].combine_chunks()
    row_times = np.repeat(table[dataset.time].to_numpy(), np.diff(events.offsets.to_numpy()))
    late = np.flatnonzero(events.flatten().to_numpy() >= row_times)
    if len(late):
        raise InputError(f"{history.events}: {len(late)} events are not earlier than their row (by {history.times})")


def _check_replay(dataset: Dataset, history: History, group: str | None, table: pa.Table) -> None:
    """Replay a user's rows: what the first row's history held, then the items of rows of strictly smaller times."""
    if group is None:
        raise InputError(f"history {history.events!r} without times can be checked only with features.group")
    users, times, items = (table[name].to_numpy() for name in (group, dataset.time, dataset.item))
    is_event = table[history.where].to_numpy() == 1 if history.where else np.ones(len(users), bool)
    lists = table[history.events].combine_chunks()
    offsets, values = lists.offsets.to_numpy(), lists.values.to_numpy()
    order = np.lexsort((np.arange(len(users)), times, users))
    first_rows = np.flatnonzero(np.r_[True, np.diff(users[order]) != 0])
    for rows in np.split(order, first_rows[1:]):
        before_window = values[offsets[rows[0]] : offsets[rows[0] + 1]]
        replayed = np.concatenate([before_window, items[rows][is_event[rows]]])
        earlier = np.searchsorted(times[rows], times[rows], side="left")  # rows of strictly smaller times
        known = np.r_[0, np.cumsum(is_event[rows])][earlier]
        for row, events in zip(rows, known, strict=True):
            expected = replayed[: len(before_window) + events][-history.longest :]
            if not np.array_equal(expected, values[offsets[row] : offsets[row + 1]]):
                raise InputError(
                    f"{history.events} of the row of {group} {users[row]} at {dataset.time} = {times[row]} is not what "
                    f"the user's rows before it say: its events may be of that row or later"
                )


def _shuffled(table: pa.Table, dataset: Dataset, seed: int) -> pa.Table:
    """Feedback permuted over the rows, all its columns alike: nothing is left to learn."""
    order = pa.array(np.random.default_rng(seed).permutation(len(table)))
    for name in dataset.feedback:
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(place), table[name].take(order))
    return table


def _read(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"cannot read {str(path)!r}: {error}") from None


def _write(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd", row_group_size=ROW_GROUP)
