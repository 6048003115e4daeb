"""What came of an event when its item stands in the history twice: by time, and without times not at all. Against a plain reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.history_pretraining import HistoryPretrainingConfig
from interformer_rec.data.fit import fit
from interformer_rec.data.loader import Loader
from tests.data.samples import loader_of

ITEMS, SPECIAL, LONGEST = 12, 1, 40
OPTIONS = HistoryPretrainingConfig(epochs=1, history="seen", labels={"buy": "bought"})


def schema(timed: tuple[str, ...]) -> FeatureSchema:
    """User, item, what was seen and what of it was bought; `timed`: the histories that have times."""
    return FeatureSchema.model_validate(
        {
            "tables": {name: {"ids": "identity", "num_embeddings": 1000} for name in ("item", "user")},
            "ids": [{"name": "user", "table": "user"}, {"name": "item", "table": "item"}],
            "sequences": [
                {
                    "name": name,
                    "max_length": LONGEST,
                    "columns": [{"name": "item", "column": f"{name}_item", "table": "item"}],
                    **({"timestamp": f"{name}_time"} if name in timed else {}),
                }
                for name in ("seen", "bought")
            ],
            "candidate": ["item"],
            "labels": [{"name": "buy"}],
            "group": "user",
        }
    )


def stories(users: int) -> list[dict]:
    """A row a user: exposures with repeats; some are bought, at once or a little later, but before they are seen again."""
    random = np.random.default_rng(5)
    found = []
    for user in range(users):
        items = random.integers(0, ITEMS, random.integers(1, 20)).tolist()
        times = (10 * (1 + np.arange(len(items)))).tolist()
        bought = [
            (time + int(random.integers(0, 9)), item)
            for time, item in zip(times, items, strict=True)
            if random.random() < 0.4
        ]
        found.append(
            {
                "user": user,
                "item": 900,
                "buy": 0,
                "seen_item": items,
                "seen_time": times,
                "bought_item": [item for _, item in bought],
                "bought_time": [time for time, _ in bought],
            }
        )
    return found


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("outcomes") / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(stories(60)), file)
    return str(file)


def reader(path: str, features: FeatureSchema, epochs: int) -> Loader:
    options = OPTIONS.model_copy(update={"epochs": epochs})
    given = {"batch_size": 16, "seed": 1, "shuffle_rows": 1000, "history_pretraining": options}
    return loader_of(path, features, fit(features, path), **given)


def drawn(loader: Loader, epochs: int) -> list[tuple[int, int, float, list[int], list[int]]]:
    """(user, item, label, seen before, bought before) of every event that has a weight."""
    found = []
    for epoch in range(epochs):
        for batch, _ in loader.batches(epoch):
            lists = {key: batch.sequences[key].to_dense() for key in ("item", "seen.item", "bought.item")}
            users = batch.sparse["user"].to_dense()
            for row in np.flatnonzero(batch.weights.numpy()):
                ids = {key: [int(one) - SPECIAL for one in values[row]] for key, values in lists.items()}
                label = float(batch.labels[row, 0])
                found.append((int(users[row]) - SPECIAL, ids["item"][0], label, ids["seen.item"], ids["bought.item"]))
    return found


def test_an_outcome_belongs_to_the_newest_exposure_before_it(path: str) -> None:
    """Each item of a user once, where it was seen first; a purchase after the second exposure is not the first one's."""
    expected = []
    for story in stories(60):
        seen = list(zip(story["seen_time"], story["seen_item"], strict=True))
        bought = list(zip(story["bought_time"], story["bought_item"], strict=True))
        for place, (time, item) in enumerate(seen):
            before = [one for _, one in seen[:place]]
            if item in before:
                continue
            again = min((at for at, one in seen[place + 1 :] if one == item), default=10**9)
            label = any(one == item and time <= at < again for at, one in bought)
            expected.append((story["user"], item, float(label), before, [one for at, one in bought if at < time]))
    found = drawn(reader(path, schema(("seen", "bought")), 20), 20)
    assert sorted(found) == sorted(expected)
    rewatched = {(story["user"], item) for story in stories(60) for item in story["bought_item"]}
    assert any(not label and (user, item) in rewatched for user, item, label, *_ in found)  # the item alone would say 1


@pytest.mark.parametrize("timed", [(), ("seen",), ("bought",)])
def test_without_times_of_both_an_item_that_was_seen_twice_is_not_drawn(path: str, timed: tuple[str, ...]) -> None:
    expected = {
        (story["user"], item, float(item in story["bought_item"]))
        for story in stories(60)
        for item in story["seen_item"]
        if story["seen_item"].count(item) == 1
    }
    found = drawn(reader(path, schema(timed), 20), 20)
    assert len(found) == len(expected) and {one[:3] for one in found} == expected


def test_events_are_counted_before_they_are_drawn(path: str) -> None:
    features = schema(("seen", "bought"))
    (counted,) = reader(path, features, 1).pretraining_events()
    assert counted == (0, (len(drawn(reader(path, features, 20), 20)), 60))


def test_buffers_are_counted_by_those_who_read_them(path: str, tmp_path: Path) -> None:
    features = schema(())
    for part in range(4):
        pq.write_table(pq.read_table(path).slice(15 * part, 15), tmp_path / f"{part}.parquet")
    one = dict(reader(str(tmp_path), features, 1).pretraining_events())
    assert sum(rows for _, rows in one.values()) == 60
