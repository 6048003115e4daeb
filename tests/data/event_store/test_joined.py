"""Rows joined with a store give the batches that rows with the histories in them give, to the bit, and no event from a row's time on."""

from __future__ import annotations

import itertools
import json
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from interformer_rec.config.data import DataConfig
from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.windows import WindowsConfig
from interformer_rec.data.epoch_plan import Cursor
from interformer_rec.data.event_store.joined import open_rows
from interformer_rec.data.fit import fit
from interformer_rec.data.windows.time_cut import TimeCut
from interformer_rec.errors import InputError
from tests.data.event_store import samples
from tests.data.event_store.conftest import CLOCK, USERS, Both
from tests.data.event_store.samples import MOST, STORED, features
from tests.data.samples import equal, loader_of

OPTIONS = [
    {},
    {"shuffle_rows": 60, "balance": "events", "id_dropout": 1.0},
    {"shuffle_rows": 60, "balance": "groups", "workers": 3},
    {"shuffle_rows": 60, "rank": 0, "world_size": 2},
    {"shuffle_rows": 60, "rank": 1, "world_size": 2},
    {"shuffle_rows": 60, "history_pretraining": {"history": "seen", "labels": {"label": "bought"}}},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())) or "plain")
def test_batches_are_those_of_rows_with_histories_in_them(both, options):
    fat, joined = both.loaders(batch_size=16, seed=3, **options)
    for epoch in range(2):
        pairs = zip(fat.batches(epoch), joined.batches(epoch), strict=True)
        assert all(equal(one, other) for (one, _), (other, _) in pairs)


@pytest.mark.parametrize("seed", range(2, 8))
def test_batches_are_the_same_for_other_clocks_and_ties(tmp_path, seed):
    fat, joined = Both(tmp_path, seed).loaders(batch_size=64)
    assert all(equal(one, other) for (one, _), (other, _) in zip(fat.batches(), joined.batches(), strict=True))


def test_bad_rows_are_the_same_rows(both):
    """Ids outside an identity table, in rows and in their histories."""
    tree = features().model_dump()
    tree["tables"]["item"] = {"ids": "identity", "num_embeddings": 28}
    schema = FeatureSchema.model_validate(tree)
    fitted = fit(schema, both.fat)
    options = {"batch_size": 16, "shuffle_rows": 60, "on_bad_row": "skip"}
    fat, joined = (
        loader_of(both.fat, schema, fitted, **options),
        loader_of(both.plain, schema, fitted, events=both.events, **options),
    )
    pairs = list(zip(fat.batches(), joined.batches(), strict=True))
    assert all(equal(one, other) for (one, _), (other, _) in pairs)
    assert joined.bad_rows == fat.bad_rows and any("seen_item" in reason for reason in joined.bad_rows)
    loader = loader_of(both.plain, schema, fitted, events=both.events)
    with pytest.raises(InputError, match=r"rows-0.parquet', row group 0, row \d+ of the file"):
        list(loader.batches())


def as_requests(table: pa.Table) -> pa.Table:
    """Each row with 0 to 3 candidates."""
    counts = np.arange(len(table)) % 4
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    for place, name in enumerate(table.column_names):
        if name in ("price", "item", "label"):
            values = np.repeat(table[name].to_numpy(), counts)
            table = table.set_column(place, name, pa.ListArray.from_arrays(offsets, pa.array(values)))
    return table


def test_request_rows_are_joined_once_a_request(both, tmp_path):
    tree = features().model_dump(exclude={"candidate"})
    schema = FeatureSchema.model_validate({**tree, "request": {"candidates": ["price", "item"]}})
    names = pq.read_schema(Path(both.plain) / "rows-0.parquet").names
    fat, plain = as_requests(both.whole), as_requests(both.whole.select(names))
    paths = samples.write_rows(tmp_path / "fat", fat), samples.write_rows(tmp_path / "plain", plain)
    options = {"batch_size": 16, "shuffle_rows": 60, "balance": "events", "id_dropout": 1.0}
    fitted = fit(schema, paths[0])
    one = loader_of(paths[0], schema, fitted, **options)
    other = loader_of(paths[1], schema, fitted, events=both.events, **options)
    pairs = list(zip(one.batches(), other.batches(), strict=True))
    assert len(pairs) > 5 and all(equal(a, b) for (a, _), (b, _) in pairs)
    assert all(np.array_equal(a.request_of, b.request_of) for (a, _), (b, _) in pairs)


def test_windows_cut_out_by_time_are_joined(both, tmp_path):
    schema, fitted = features(), fit(features(), both.fat)
    timed = both.whole.filter(pc.greater_equal(both.whole["at"], 0))
    names = pq.read_schema(Path(both.plain) / "rows-0.parquet").names
    found = []
    for form, table, more in (("fat", timed, {}), ("plain", timed.select(names), {"events": both.events})):
        options = {"path": samples.write_rows(tmp_path / form, table), "by": "time", "column": "at", "width": 15}
        cut = TimeCut(WindowsConfig.model_validate(options))
        windows = cut.find()
        loaders = [
            loader_of(cut.open([window]), schema, fitted, windows=options, batch_size=8, **more) for window in windows
        ]
        found.append([[batch for batch, _ in loader.batches()] for loader in loaders])
    assert len(found[0]) == len(found[1]) == 3
    for one, other in zip(*found, strict=True):
        assert all(equal(a, b) for a, b in zip(one, other, strict=True))


def test_times_may_be_timestamps_of_other_units(tmp_path):
    stores = samples.events(np.random.default_rng(1), 200, USERS, CLOCK)
    rows = samples.rows(np.random.default_rng(2), 60, USERS, CLOCK)
    expected = samples.with_histories(rows, stores, MOST)

    def timed(table: pa.Table, unit: str) -> pa.Table:
        return table.set_column(
            1, "at", pc.multiply(table["at"], {"s": 1, "us": 1_000_000}[unit]).cast(pa.timestamp(unit))
        )

    paths = {name: samples.write_store(tmp_path / name, timed(table, "s")) for name, table in stores.items()}
    plain = samples.write_rows(tmp_path / "plain", timed(rows, "us"))
    events = {"user": "user", "time": "at", "stores": paths, "cache": str(tmp_path / "cache")}
    source = open_rows(plain, DataConfig.model_validate({"events": events}), features())
    found = source.read(list(range(len(source.group_rows))), ("seen_item", "seen_at", "bought_item"))
    assert found.schema.field("seen_at").type.value_type == pa.timestamp("ms")  # as Parquet has seconds
    assert found["seen_item"].to_pylist() == expected["seen_item"].to_pylist()
    seconds = found["seen_at"].combine_chunks().values.cast(pa.timestamp("s")).cast(pa.int64()).to_pylist()
    assert seconds == expected["seen_at"].combine_chunks().values.to_pylist()


@pytest.mark.parametrize("delay", [0, 1, 9])
def test_a_history_ends_a_delay_before_its_row(both, delay):
    rows = both.whole.select(["user", "at"])
    shifted = rows.set_column(1, "at", pc.subtract(rows["at"], delay))
    expected = samples.with_histories(shifted, both.stores, MOST)
    data = DataConfig.model_validate({"events": {**both.events, "delay": float(delay)}})
    source = open_rows(both.plain, data, features())
    found = source.read(list(range(len(source.group_rows))), ("seen_at", "bought_item"))
    assert found["seen_at"].to_pylist() == expected["seen_at"].to_pylist()
    assert found["bought_item"].to_pylist() == expected["bought_item"].to_pylist()


def test_users_may_be_strings(tmp_path):
    stores = samples.events(np.random.default_rng(1), 200, USERS, CLOCK)
    rows = samples.rows(np.random.default_rng(2), 60, USERS, CLOCK)
    expected = samples.with_histories(rows, stores, MOST)

    def named(table: pa.Table) -> pa.Table:
        return table.set_column(0, "user", pc.binary_join_element_wise("user", table["user"].cast(pa.string()), " "))

    paths = {name: samples.write_store(tmp_path / name, named(table)) for name, table in stores.items()}
    plain = samples.write_rows(tmp_path / "plain", named(rows))
    events = {"user": "user", "time": "at", "stores": paths, "cache": str(tmp_path / "cache")}
    source = open_rows(plain, DataConfig.model_validate({"events": events}), features())
    found = source.read(list(range(len(source.group_rows))), ("seen_item", "seen_shop"))
    assert found["seen_item"].to_pylist() == expected["seen_item"].to_pylist()
    assert found["seen_shop"].to_pylist() == expected["seen_shop"].to_pylist()


def test_a_resumed_epoch_goes_on_with_the_same_batches(both):
    fat, joined = both.loaders(batch_size=16, shuffle_rows=60)
    _, cursor = next(itertools.islice(joined.batches(), 3, None))
    cursor = Cursor.from_dict(json.loads(json.dumps(cursor.to_dict())))
    rest = [batch for batch, _ in joined.batches(cursor=cursor)]
    assert len(rest) == joined.steps - 4
    expected = itertools.islice(fat.batches(), 4, None)
    assert all(equal(one, other) for one, (other, _) in zip(rest, expected, strict=True))


def test_another_store_does_not_go_on_inside_an_epoch(both, tmp_path):
    _, joined = both.loaders(batch_size=16)
    _, cursor = next(joined.batches())
    changed = samples.write_store(tmp_path / "store", both.stores["bought"].slice(1))
    other = {**both.events, "stores": {**both.events["stores"], "bought": changed}}
    loader = loader_of(both.plain, features(), fit(features(), both.fat), events=other, batch_size=16)
    with pytest.raises(InputError, match="changed since"):
        next(loader.batches(cursor=cursor))


def test_no_event_is_from_the_rows_time_on(both):
    schema = features()
    source = open_rows(both.plain, DataConfig.model_validate({"events": both.events}), schema)
    seen = 0
    for group in range(len(source.group_rows)):
        table = source.read([group], ("user", "at", "seen_at", "seen_item", "bought_item"))
        for row in table.to_pylist():
            assert len(row["seen_at"]) == len(row["seen_item"]) <= MOST and len(row["bought_item"]) <= MOST
            assert all(at < row["at"] for at in row["seen_at"])
            seen += len(row["seen_at"])
    assert seen > 500
    at_once = pc.sum(pc.equal(both.stores["seen"]["at"], both.whole["at"][0])).as_py()
    assert at_once, "no event is at a row's time: the test would not see one that leaks"


def test_prediction_hands_the_input_through(both):
    _, joined = both.loaders(batch_size=16)
    tables = [kept.table for _, kept in joined.tables()]
    assert set(joined.joined) == {"seen_item", "seen_shop", "seen_at", "bought_item"}
    whole = pa.concat_tables(tables)
    expected = samples.with_histories(both.whole.select(["user", "at"]), both.stores, MOST)
    for name in joined.joined:
        assert whole[name].to_pylist() == expected[name].to_pylist()


def test_a_source_goes_to_another_process(both):
    source = open_rows(both.plain, DataConfig.model_validate({"events": both.events}), features())
    again = pickle.loads(pickle.dumps(source))
    columns = ("seen_item", "bought_item")
    assert again.read([1, 2], columns).equals(source.read([1, 2], columns))


def test_rows_without_a_history_are_counted(both, caplog):
    _, joined = both.loaders(batch_size=64)
    list(joined.batches())
    rows = both.whole
    known = {name: set(table["user"].to_pylist()) for name, table in both.stores.items()}
    for name in STORED:
        users, times = rows["user"].to_pylist(), rows["at"].to_pylist()
        given = [user is not None and at is not None for user, at in zip(users, times, strict=True)]
        unknown = sum(ok and user not in known[name] for ok, user in zip(given, users, strict=True))
        last = max(both.stores[name]["at"].to_pylist())
        late = sum(ok and at > last for ok, at in zip(given, times, strict=True))
        none = [not values for values in rows[STORED[name][0]].to_pylist()]
        early = sum(ok and no and user in known[name] for ok, no, user in zip(given, none, users, strict=True))
        (line,) = [record.getMessage() for record in caplog.records if f"history {name!r}" in record.getMessage()]
        assert unknown and late and early and not all(given)
        assert f"of {len(rows):,} rows read: {unknown:,} are of users" in line
        assert f"{early:,} of users whose events are not before" in line
        assert f"{given.count(False):,} have no user or no time; {late:,} are later" in line
