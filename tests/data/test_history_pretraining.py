"""Rows as events of their histories: against a plain reference, and in the loader: by epoch, with any workers, ranks, and resumed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.config.features import MISSING_ROW, FeatureSchema
from interformer_rec.config.history_pretraining import HistoryPretrainingConfig
from interformer_rec.data.epoch_plan import Cursor
from interformer_rec.data.files.source import open_source
from interformer_rec.data.fit import fit
from interformer_rec.data.loader import Loader
from tests.data.samples import equal, loader_of

ITEMS, TAGS = 60, 7
GROUPS = ("seen", "bought", "liked")
SPECIAL = 1  # an identity table's rows: the missing one, then the ids
MISSING = MISSING_ROW - SPECIAL
OPTIONS = HistoryPretrainingConfig(epochs=2, history="seen", labels={"buy": "bought", "like": "liked"})

MANY = OPTIONS.model_copy(update={"epochs": 6})


def schema(timestamps: bool = False, group: str | None = "user") -> FeatureSchema:
    """Item and tag in every event; the candidate has them and what events do not tell: shop, length, width, maybe a code."""
    time = {"timestamp": "seen_time"} if timestamps else {}
    return FeatureSchema.model_validate(
        {
            "tables": {
                "item": {"ids": "identity", "num_embeddings": ITEMS},
                "tag": {"ids": "identity", "num_embeddings": TAGS},
                "shop": {"ids": "identity", "num_embeddings": 5},
                "user": {"ids": "identity", "num_embeddings": 3000},
            },
            "ids": [
                {"name": "user", "table": "user"},
                {"name": "item", "table": "item"},
                {"name": "shop", "table": "shop"},
                {"name": "code", "table": "shop", "null": "empty"},
            ],
            "bags": [{"name": "tags", "table": "tag"}, {"name": "shops", "table": "shop", "null": "row"}],
            "dense": [
                {"name": "age"},
                {"name": "length", "standardise": True},
                {"name": "width", "fill": 3.0, "log1p": True},
            ],
            "sequences": [
                {
                    "name": name,
                    "max_length": 8,
                    "columns": [
                        {"name": "item", "column": f"{name}_item", "table": "item"},
                        {"name": "tag", "column": f"{name}_tag", "table": "tag"},
                    ],
                    **(time if name == "seen" else {}),
                }
                for name in GROUPS
            ],
            "candidate": ["item", "shop", "code", "tags", "shops", "length", "width"],
            "labels": [{"name": "buy"}, {"name": "like"}],
            "group": group,
        }
    )


def rows(users: range) -> pa.Table:
    """Up to four rows a user, at places of one story of 14 items: what was seen before, which of it was bought or liked."""
    random = np.random.default_rng(users.start)
    columns: dict[str, list] = {}
    for user in users:
        story = random.permutation(ITEMS - 1)[:14].tolist()
        bought, liked = ([item for item in story if random.random() < share] for share in (0.6, 0.3))
        for place in sorted(random.permutation(15)[: random.integers(1, 5)].tolist()):
            seen = story[:place]
            values = {
                "user": user, "item": story[place] if place < 14 else ITEMS - 1, "shop": int(random.integers(5)),
                "code": None if place % 3 else 2, "tags": [1, 2], "shops": [3], "age": float(user), "length": float(random.normal()),
                "width": float(place), "buy": int(random.integers(2)), "like": 0, "seen_time": list(range(place)), "story": story,
            }  # fmt: skip
            for name, items in zip(GROUPS, (seen, bought, liked), strict=True):
                values[f"{name}_item"] = [item for item in items if item in seen]
                values[f"{name}_tag"] = [item % TAGS for item in values[f"{name}_item"]]
            for name, value in values.items():
                columns.setdefault(name, []).append(value)
    return pa.table(columns)


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("history_pretraining")
    for part in range(3):
        pq.write_table(rows(range(20 * part, 20 * part + 20)), folder / f"{part}.parquet", row_group_size=17)
    return str(folder)


def loader(path: str, features: FeatureSchema | None = None, **options) -> Loader:
    features = features or schema()
    given = {"batch_size": 16, "seed": 1, "shuffle_rows": 1000, "history_pretraining": OPTIONS, **options}
    return loader_of(path, features, fit(features, path), **given)


def rows_of(batch, special: int) -> list[dict]:
    """The batch's rows as plain values."""
    ids = {key: batch.sparse[key].to_dense() for key in batch.sparse.keys()}  # noqa: SIM118
    ids |= {key: batch.sequences[key].to_dense() for key in batch.sequences.keys()}  # noqa: SIM118
    return [
        {
            "dense": batch.dense[row].tolist(),
            "labels": batch.labels[row].tolist(),
            "weight": float(batch.weights[row]),
            "ids": {key: [int(id_) - special for id_ in lists[row]] for key, lists in ids.items()},
        }
        for row in range(batch.rows)
    ]


def in_file(path: str) -> list[dict]:
    """The rows as they were written."""
    source = open_source(path)
    return source.read(list(range(len(source.group_rows))), source.schemas[0].names).to_pylist()


def check(row: dict, stories: dict[int, dict]) -> tuple[int, int]:
    """`row` is an event of its user's story, and what was before it; (user, item)."""
    ids = row["ids"]
    (user,), (item,) = ids["user"], ids["item"]
    story = stories[user]["story"]
    before = story[: story.index(item)]
    assert row["dense"][0] == user  # the user stays
    assert row["dense"][1] == 0 and row["dense"][2] == pytest.approx(np.log1p(3.0))
    assert ids["shop"] == [MISSING] and ids["code"] == [] and ids["shops"] == [MISSING]
    assert ids["tags"] == [item % TAGS]
    assert ids["seen.item"] == before[len(before) - len(ids["seen.item"]) :]
    for task, name in enumerate(("bought", "liked")):
        of_user = stories[user][name]
        assert row["labels"][task] == (item in of_user)
        had = [i for i in before if i in of_user]
        found = ids[f"{name}.item"]
        assert found == had[len(had) - len(found) :]
        assert set(found) >= set(had) & set(ids["seen.item"])
    for name in GROUPS:
        assert ids[f"{name}.tag"] == [i % TAGS for i in ids[f"{name}.item"]]
    return user, item


@pytest.mark.parametrize("timestamps", [False, True])
def test_each_event_is_drawn_once_and_no_row(path, timestamps):
    features = schema(timestamps)
    written = in_file(path)
    stories: dict[int, dict] = {}
    for row in written:  # the last row of a user knows most
        stories[row["user"]] = {"story": row["story"], "bought": row["bought_item"], "liked": row["liked_item"]}
    reader, drawn, idle = loader(path, features, history_pretraining=MANY), [], 0
    for epoch in range(MANY.epochs):
        for batch, _ in reader.batches(epoch):
            if timestamps:
                assert len(batch.timestamps["seen"]) == int(batch.sequences["seen.item"].lengths().sum())
            for row in rows_of(batch, SPECIAL):
                if row["weight"]:
                    drawn.append(check(row, stories))
                else:
                    idle += 1
    themselves = {(row["user"], row["item"]) for row in written}
    events = {(row["user"], item) for row in written for item in row["seen_item"][-8:]} - themselves
    assert len(events) > 2 * len(written) and sorted(drawn) == sorted(events)
    assert idle == MANY.epochs * len(written) - len(events)


def test_without_a_group_each_row_is_its_own_user(path):
    features = schema(group=None)
    written = in_file(path)
    drawn = []
    for epoch in range(12):
        for batch, _ in loader(path, features, history_pretraining=MANY.model_copy(update={"epochs": 12})).batches(
            epoch
        ):
            drawn += [row["ids"]["item"][0] for row in rows_of(batch, SPECIAL) if row["weight"]]
    assert sorted(drawn) == sorted(item for row in written for item in row["seen_item"][-8:])


@pytest.mark.parametrize("balance", ["none", "events", "groups"])
def test_later_epochs_are_the_rows_as_they_are(path, balance):
    plain, of_events = loader(path, history_pretraining=None, balance=balance), loader(path, balance=balance)
    for epoch, same in ((0, False), (1, False), (2, True), (3, True)):
        pairs = zip(plain.batches(epoch), of_events.batches(epoch), strict=True)
        assert all(equal(a, b) for (a, _), (b, _) in pairs) == same
    assert plain.steps == of_events.steps


def test_workers_ranks_and_a_stop_change_nothing(path):
    expected = list(loader(path).batches(1))
    assert all(equal(a, b) for (a, _), (b, _) in zip(expected, loader(path, workers=3).batches(1), strict=True))
    cursor = Cursor.from_dict(json.loads(json.dumps(expected[2][1].to_dict())))
    rest = list(loader(path).batches(cursor=cursor))
    assert all(equal(a, b) for (a, _), (b, _) in zip(expected[3:], rest, strict=True))
    users = [
        {row["ids"]["user"][0]: row for row in rows_of(batch, SPECIAL)}
        for batch, _ in (
            *expected,
            *loader(path, rank=0, world_size=2).batches(1),
            *loader(path, rank=1, world_size=2).batches(1),
        )
    ]
    alone = {user: row for part in users[: len(expected)] for user, row in part.items()}
    two = {user: row for part in users[len(expected) :] for user, row in part.items()}
    assert two == alone


def test_bad_rows_change_no_event_of_the_others(path, tmp_path):
    """One buffer of all rows: what is drawn is what would be drawn without the bad rows."""
    whole = pa.concat_tables([pq.read_table(file) for file in sorted(Path(path).iterdir())])
    bad = np.random.default_rng(2).random(whole.num_rows) < 0.3
    bad[0] = True  # the row of those that are left over
    ages = [float("nan") if wrong else age for wrong, age in zip(bad, whole["age"].to_pylist(), strict=True)]
    for name, table in (
        ("skipped", whole.set_column(whole.schema.get_field_index("age"), "age", pa.array(ages))),
        ("without", whole.filter(pa.array(~bad))),
    ):
        (tmp_path / name).mkdir()
        pq.write_table(table, tmp_path / name / "0.parquet", row_group_size=1000)
    features, options = schema(), {"batch_size": 1000, "on_bad_row": "skip"}
    fitted = fit(features, str(tmp_path / "without"))
    for epoch in range(3):
        found = []
        for name in ("skipped", "without"):
            reader = loader_of(
                str(tmp_path / name),
                features,
                fitted,
                seed=1,
                shuffle_rows=1000,
                history_pretraining=OPTIONS,
                **options,
            )
            ((batch, _),) = reader.batches(epoch)
            assert sum(reader.bad_rows.values()) == (bad.sum() if name == "skipped" else 0)
            assert bool(batch.dense.isfinite().all())
            found.append(sorted(map(repr, rows_of(batch, SPECIAL))))
        assert found[0] == found[1]
