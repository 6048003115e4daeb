"""History pre-training on rows that are requests: the events, labels and batches that the same candidates as impressions give."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.history_pretraining import HistoryPretrainingConfig
from interformer_rec.data.epoch_plan import Cursor
from interformer_rec.data.fit import Fitted, fit
from interformer_rec.data.loader import Loader
from tests.data.request_samples import impressions
from tests.data.samples import equal, loader_of
from tests.data.test_history_pretraining import GROUPS, ITEMS, SPECIAL, TAGS, rows_of, schema

EPOCHS = 8
OPTIONS = HistoryPretrainingConfig(epochs=EPOCHS, history="seen", labels={"buy": "bought", "like": "liked"})
SHOWN = ("item", "shop", "code", "tags", "shops", "length", "width", "buy", "like", "weight")


def schemas(timed: bool, group: str | None = "user") -> tuple[FeatureSchema, FeatureSchema]:
    """Of requests and of impressions; `timed`: all histories have times."""
    tree = {**schema(False, group).model_dump(), "weight": "weight"}
    if timed:
        tree["sequences"] = [{**one, "timestamp": f"{one['name']}_time"} for one in tree["sequences"]]
    request = {**tree, "request": {"candidates": tree["candidate"]}}
    return FeatureSchema.model_validate(request), FeatureSchema.model_validate(tree)


def requests(users: int) -> pa.Table:
    """Up to four requests a user, at places of a story in which items come again; 0 to 3 candidates each."""
    random = np.random.default_rng(7)
    found = []
    for user in range(users):
        story = random.integers(0, ITEMS - 20, 14).tolist()
        times = (10 * (1 + np.arange(14))).tolist()
        came = [
            [(t + int(random.integers(9)), item) for t, item in zip(times, story, strict=True) if random.random() < p]
            for p in (0.6, 0.3)
        ]
        for place in sorted(random.permutation(15)[: random.integers(1, 5)].tolist()):
            now = 10 * place + 9
            known = [
                list(zip(times[:place], story[:place], strict=True)),
                *([e for e in c if e[0] < now] for c in came),
            ]
            count = int(random.integers(0, 4))
            row = {
                "user": user, "age": float(random.normal()), "item": random.integers(0, ITEMS, count).tolist(),
                "shop": random.integers(0, 5, count).tolist(), "code": [None if place % 3 else 2] * count, "tags": [[1, 2]] * count,
                "shops": [[3]] * count, "length": random.normal(size=count).tolist(), "width": [float(place)] * count,
                "buy": random.integers(0, 2, count).tolist(), "like": [0] * count, "weight": random.random(count).tolist(),
            }  # fmt: skip
            for name, events in zip(GROUPS, known, strict=True):
                row |= {
                    f"{name}_time": [t for t, _ in events],
                    f"{name}_item": [item for _, item in events],
                    f"{name}_tag": [item % TAGS for _, item in events],
                }
            found.append(row)
    lists = {"tags": pa.list_(pa.list_(pa.int64())), "shops": pa.list_(pa.list_(pa.int64()))}
    lists |= {name: pa.list_(pa.float64()) for name in ("length", "width", "weight")}
    table = pa.Table.from_pylist(found)
    for name in SHOWN:
        at = table.schema.get_field_index(name)
        type_ = lists.get(name, pa.list_(pa.int64()))
        table = table.set_column(at, name, pa.array([row[name] for row in found], type_))
    return table


def write(folder: Path, table: pa.Table, features: FeatureSchema, rows: int) -> tuple[str, str]:
    """Both forms, in row groups of so many rows."""
    flat = impressions(table.append_column("click", table["buy"]), features).drop_columns(["click"])
    for name, one in (("requests", table), ("impressions", flat)):
        pq.write_table(one, folder / f"{name}.parquet", row_group_size=rows)
    return str(folder / "requests.parquet"), str(folder / "impressions.parquet")


def loader(path: str, features: FeatureSchema, fitted: Fitted, **options) -> Loader:
    given = {"batch_size": 16, "seed": 1, "shuffle_rows": 10_000, "history_pretraining": OPTIONS, **options}
    return loader_of(path, features, replace(fitted, meaning=None), **given)


@pytest.mark.parametrize("balance", ["none", "events", "groups"])
@pytest.mark.parametrize("timed", [True, False])
def test_batches_of_events_are_those_of_impressions(tmp_path, timed, balance):
    """In one buffer, where the same is drawn: bit for bit, until the events have run out."""
    ours, theirs = schemas(timed)
    mine, other = write(tmp_path, requests(40), ours, 10_000)
    fitted = fit(theirs, other)
    loaders = loader(mine, ours, fitted, balance=balance), loader(other, theirs, fitted, balance=balance)
    assert list(loaders[0].pretraining_events()) == list(loaders[1].pretraining_events())
    events = []
    for epoch in range(EPOCHS):
        pairs = list(zip(*(one.batches(epoch) for one in loaders), strict=True))
        assert all(equal(a, b) for (a, _), (b, _) in pairs)
        assert all(a.request_of.tolist() == list(range(a.rows)) for (a, _), _ in pairs)
        events.append(sum(int((a.weights > 0).sum()) for (a, _), _ in pairs))
    assert events[0] > 50 and events[-1] == 0
    (rows, _), *_ = loaders[0].batches(EPOCHS)  # then the requests as they are
    assert rows.requests < rows.rows


def test_bad_rows_change_no_event_of_the_others(tmp_path):
    ours, theirs = schemas(True)
    table = requests(40)
    labels, ages = table["buy"].to_pylist(), table["age"].to_pylist()
    first = next(at for at, one in enumerate(labels) if len(one) > 1)
    labels[first][0] = 9  # the first candidate of the first request: another one stands for it
    alone = next(at for at, one in enumerate(labels) if len(one) == 1 and at > first)
    labels[alone][0] = 9  # all candidates of a request
    ages[next(at for at, one in enumerate(labels) if len(one) > 1 and at > alone)] = float("nan")
    for name, values in (("buy", labels), ("age", ages)):
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, pa.array(values, table.schema.field(name).type))
    mine, other = write(tmp_path, table, ours, 10_000)
    fitted = fit(theirs, other)
    loaders = [loader(path, features, fitted, on_bad_row="skip") for path, features in ((mine, ours), (other, theirs))]
    for epoch in range(3):
        pairs = list(zip(*(one.batches(epoch) for one in loaders), strict=True))
        assert all(equal(a, b) for (a, _), (b, _) in pairs)
        assert sum(loaders[0].bad_rows.values()) == sum(loaders[1].bad_rows.values()) > 3


def drawn(loaders: list[Loader], epochs: Iterable[int]) -> list[str]:
    batches = itertools.chain(*(one.batches(epoch) for epoch in epochs for one in loaders))
    return sorted(repr(row) for batch, _ in batches for row in rows_of(batch, SPECIAL) if row["weight"])


def test_no_event_of_a_user_is_drawn_twice_in_an_epoch_over_row_groups_and_ranks(tmp_path):
    """Each user's requests side by side in one row group, so that both forms and all ranks have whole users."""
    ours, theirs = schemas(True)
    table = requests(60)
    users = np.array(table["user"].to_pylist())
    flat = impressions(table.append_column("click", table["buy"]), ours).drop_columns(["click"])
    for name, one in (("requests", table), ("impressions", flat)):
        of = np.array(one["user"].to_pylist())
        with pq.ParquetWriter(tmp_path / f"{name}.parquet", one.schema) as writer:
            for start in range(0, int(users.max()) + 1, 10):
                writer.write_table(one.filter(pa.array((of >= start) & (of < start + 10))))
    fitted = fit(theirs, str(tmp_path / "impressions.parquet"))
    one = drawn([loader(str(tmp_path / "impressions.parquet"), theirs, fitted)], range(EPOCHS))
    for world in (1, 2):
        ranks = [
            loader(str(tmp_path / "requests.parquet"), ours, fitted, rank=rank, world_size=world, shuffle_rows=20)
            for rank in range(world)
        ]
        for epoch in range(2):  # other buffers in each
            found = drawn(ranks, [epoch])
            assert len(found) > 50 and len(set(found)) == len(found) and set(found) <= set(one)


def test_without_a_group_each_request_is_its_own_user(tmp_path):
    """An event of a request's history once, not once a candidate."""
    ours, _ = schemas(True, group=None)
    table = requests(30)
    mine, _ = write(tmp_path, table, ours, 10_000)
    expected = 0
    for row in table.to_pylist():
        events = list(dict.fromkeys(row["seen_item"][-8:])) if row["item"] else []
        expected += len([item for item in events if item not in row["item"]])
    (counted,) = loader(mine, ours, fit(ours, mine)).pretraining_events()
    assert counted[1][0] == expected > 100


def test_a_stop_changes_nothing(tmp_path):
    ours, _ = schemas(True)
    mine, _ = write(tmp_path, requests(40), ours, 9)
    fitted = fit(ours, mine)
    whole = list(loader(mine, ours, fitted, shuffle_rows=30).batches(1))
    assert len(whole) > 4
    cursor = Cursor.from_dict(json.loads(json.dumps(whole[2][1].to_dict())))
    rest = list(loader(mine, ours, fitted, shuffle_rows=30, workers=2).batches(cursor=cursor))
    assert all(equal(a, b) for (a, _), (b, _) in zip(whole[3:], rest, strict=True))
