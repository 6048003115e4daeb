"""The draft of a run config from folders nobody has described: roles, shared tables, splits, warnings; and that it runs."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from interformer_rec.config.run import RunConfig, load, parse
from interformer_rec.data.fit import fit
from interformer_rec.data.inspect import profile
from interformer_rec.data.inspect.column_names import feedback_rank, is_outcome, stem, user_rank, words
from interformer_rec.data.inspect.command import inspect_folder
from interformer_rec.data.recipes import ml_100k
from interformer_rec.data.recipes.catalog import prepare
from interformer_rec.errors import InputError
from tests.data.samples import loader_of


def _lists(generator: np.random.Generator, lengths: np.ndarray, values: np.ndarray | list) -> pa.Array:
    offsets = np.r_[0, np.cumsum(lengths)].astype(np.int32)
    picked = pa.array(values).take(pa.array(generator.integers(0, len(values), offsets[-1])))
    return pa.ListArray.from_arrays(pa.array(offsets), picked)


def _times(lengths: np.ndarray, newest_first: bool = False) -> pa.Array:
    offsets = np.r_[0, np.cumsum(lengths)].astype(np.int32)
    place = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    return pa.ListArray.from_arrays(
        pa.array(offsets), pa.array(1_700_000_000 + 60 * (-place if newest_first else place))
    )


def shop(rows: int, seed: int) -> pa.Table:
    """An online shop's rows as somebody else would have written them: camel case, strings, nulls, padding, leaks."""
    generator = np.random.default_rng(seed)
    products = [f"sku-{n:04d}" for n in range(400)]
    categories = [f"cat{n}" for n in range(12)]
    seen, bought, topics = (
        generator.integers(0, 30, rows),
        generator.integers(0, 9, rows),
        generator.integers(0, 4, rows),
    )
    return pa.table(
        {
            "requestId": [f"{seed}-{n}" for n in range(rows)],
            "purchased": generator.integers(0, 2, rows).astype(np.int8),
            "clicked": generator.integers(0, 2, rows).astype(bool),
            "dwellTime": generator.exponential(20, rows),
            "eventTime": 1_700_000_000_000 + np.arange(rows),
            "day": pa.array(["2024-05-01", "2024-05-02"] * (rows // 2)),
            "customer_id": pa.array(generator.integers(10**9, 10**10, 300)).take(
                pa.array(generator.integers(0, 300, rows))
            ),
            "productId": pa.array(products).take(pa.array(generator.integers(0, 400, rows))),
            "category": pa.array(categories).take(pa.array(generator.integers(0, 12, rows))).dictionary_encode(),
            "isMember": generator.integers(0, 2, rows).astype(np.int32),
            "country": ["NL"] * rows,
            "num_orders": generator.geometric(0.01, rows),
            "price": pa.array(generator.lognormal(3, 2, rows), mask=generator.random(rows) < 0.1),
            "topics": _lists(generator, topics, np.arange(7)),
            "seenProductIds": _lists(generator, seen, products),
            "seenCategories": _lists(generator, seen, categories),
            "seenAt": _times(seen),
            "boughtProductIds": _lists(generator, bought, products),
            "boughtTimestamp": _times(bought, newest_first=True),
            "embedding": _lists(generator, np.full(rows, 4), np.array([0.1, 0.2])),
            "raw": [{"a": 1}] * rows,
        }
    )


@pytest.fixture(scope="module")
def drafted(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, RunConfig]:
    folder = tmp_path_factory.mktemp("shop")
    for name, rows, seed in (("train-0", 1500, 1), ("train-1", 1500, 2), ("val", 400, 3), ("test", 400, 4)):
        pq.write_table(shop(rows, seed), folder / f"{name}.parquet", row_group_size=500)
    text = inspect_folder(str(folder))
    return text, parse(yaml.safe_load(text), "draft")


def test_splits_are_found_by_name(drafted: tuple[str, RunConfig]) -> None:
    data = drafted[1].data
    assert [Path(str(path)).name for path in (data.train, data.valid, data.test)] == [
        "train*.parquet",
        "val.parquet",
        "test.parquet",
    ]


def test_label_user_and_what_must_not_be_read(drafted: tuple[str, RunConfig]) -> None:
    text, config = drafted
    features = config.features
    assert [label.column for label in features.labels] == ["clicked"]
    assert features.group == "customer_id"
    unread = {
        "requestId",
        "purchased",
        "dwellTime",
        "eventTime",
        "day",
        "country",
        "embedding",
        "raw",
        "boughtTimestamp",
    }
    assert not unread & set(features.columns())
    notes = {line[4:].split(":")[0]: line for line in text.split("Columns that are not read:")[1].splitlines()}
    assert unread <= notes.keys()  # each with its reason
    for column, reason in {
        "requestId": "row key",
        "purchased": "leak",
        "dwellTime": "leak",
        "eventTime": "time of the row",
        "day": "time of the row",
        "country": "same value in every row",
        "embedding": "list<element: double>",
        "raw": "struct",
    }.items():
        assert reason in notes[column]


def test_kinds_groups_and_shared_tables(drafted: tuple[str, RunConfig]) -> None:
    features = drafted[1].features
    assert {feature.name for feature in features.ids} == {"productId", "category", "isMember"}
    assert {feature.name: (feature.log1p, feature.fill is None) for feature in features.dense} == {
        "num_orders": (False, True),
        "price": (True, False),
    }
    assert [bag.name for bag in features.bags] == ["topics"]
    groups = {group.name: group for group in features.sequences}
    assert set(groups) == {"seen", "bought"}
    assert "# timestamp: seenAt" in drafted[0] and not any(group.timestamp for group in groups.values())
    assert {column.column: column.table for group in groups.values() for column in group.columns} == {
        "seenProductIds": "productId",
        "seenCategories": "category",
        "boughtProductIds": "productId",
    }
    assert (groups["seen"].max_length, groups["bought"].max_length) == (29, 8)


def test_facts_and_warnings_stand_in_the_text(drafted: tuple[str, RunConfig]) -> None:
    text = drafted[0]
    assert "from 3,000 of 3,000 training rows" in text
    assert "NEWEST EVENT FIRST" in text
    assert "- productId  # 400 ids" in text
    assert "null: filled with the median" in text
    assert "The label is clicked; also 0/1 feedback, not read: purchased." in text
    assert "NEW IDS: left out customer_id: up to 100% of the rows" in text  # other customers in the test file


def test_the_draft_feeds_the_real_data_path(drafted: tuple[str, RunConfig], tmp_path: Path) -> None:
    saved = tmp_path / "draft.yaml"
    saved.write_text(drafted[0])
    config = load(saved)
    assert config.data.train is not None
    fitted = fit(config.features, config.data.train)
    loader = loader_of(config.data.train, config.features, fitted, batch_size=1000)
    batches = [batch for batch, _ in loader.batches()]
    assert sum(batch.rows for batch in batches) == 3000
    assert batches[0].sequences.keys() == [lookup.key for lookup in config.features.jagged_lookups]


def test_recipes_folders_are_understood(tmp_path: Path) -> None:
    prepare("synthetic", str(tmp_path / "made"), None, {"rows": "2000", "files": "2", "fields": "2", "vocab": "300"})
    config = parse(yaml.safe_load(inspect_folder(str(tmp_path / "made"))), "draft")
    own = load(tmp_path / "made" / "config.yaml")
    untimed = tuple(group.model_copy(update={"timestamp": None}) for group in own.features.sequences)
    assert config.features.sequences == untimed
    times = {group.timestamp for group in own.features.sequences}
    assert set(config.features.columns()) == set(own.features.columns()) - times
    assert config.data.train == own.data.train and config.data.test == own.data.test


def test_movielens_like_folder(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    user, item = generator.integers(1, 41, 4000), generator.integers(1, 81, 4000)
    inter = {"user_id": user, "item_id": item, "rating": generator.integers(1, 6, 4000).astype(np.float32)}
    inter["timestamp"] = 880_000_000.0 + generator.integers(0, 10**6, 4000)
    items = {"item_id": np.arange(1, 81), "release_year": [str(1930 + n % 60) for n in range(80)]}
    items["class"] = ["Drama War" if n % 3 else "Comedy" for n in range(80)]
    users = {"user_id": np.arange(1, 41), "age": pa.array(np.arange(20, 60), pa.int32())}
    users |= {"gender": ["M", "F"] * 20, "occupation": ["artist"] * 40, "zip_code": [f"{n:05d}" for n in range(40)]}
    table = ml_100k.join(pa.table(inter), pa.table(items), pa.table(users))
    pq.write_table(table.slice(0, 3200), tmp_path / "train.parquet")
    pq.write_table(table.slice(3200), tmp_path / "valid.parquet")
    features = parse(yaml.safe_load(inspect_folder(str(tmp_path))), "draft").features
    (hist,) = features.sequences
    assert (hist.name, hist.timestamp, hist.max_length) == ("hist", None, 50)
    assert {column.column: column.table for column in hist.columns} == {
        "hist_item_id": "item_id",
        "hist_rating": "hist_rating",
        "hist_genre": "genres",
    }
    assert [label.name for label in features.labels] == ["liked"]
    assert {bag.name for bag in features.bags} == {"genres"}
    assert not {"timestamp", "occupation"} & set(features.columns())  # a time, a constant


def test_what_is_missing_is_said_first(tmp_path: Path) -> None:
    pq.write_table(pa.table({"user_id": [1, 2, 3, 1], "kind": ["a", "b", "a", "b"]}), tmp_path / "x.parquet")
    text = inspect_folder(str(tmp_path))
    assert "LABEL MISSING" in text and "HISTORY MISSING" in text and "No file is named valid" in text
    with pytest.raises(InputError, match=r"features.labels"):
        parse(yaml.safe_load(text), "draft")


def test_a_bag_stands_in_for_a_missing_history(tmp_path: Path) -> None:
    pq.write_table(pa.table({"click": [0, 1], "kind": ["a", "b"], "tags": [[1, 2], [3]]}), tmp_path / "x.parquet")
    text = inspect_folder(str(tmp_path))
    assert "tags was taken as one" in text
    assert [group.name for group in parse(yaml.safe_load(text), "draft").features.sequences] == ["tags"]


def test_a_history_that_contains_its_own_row_is_suspected(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    item = generator.integers(0, 500, 800)
    history = [[int(n) for n in generator.integers(0, 500, generator.integers(0, 8))] + [int(one)] for one in item]
    columns = {"label": generator.integers(0, 2, 800), "item_id": item, "hist_item_id": history}
    pq.write_table(pa.table(columns), tmp_path / "train.parquet")
    assert "LEAK? In 100% of the rows the newest event of hist_item_id" in inspect_folder(str(tmp_path))


def test_padded_groups_are_told_apart_by_name(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    columns = {"label": generator.integers(0, 2, 300), "item": generator.integers(1, 90, 300)}
    for name in ("click_item", "click_shop", "cart_item", "cart_shop"):
        columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(generator.integers(0, 90, 300 * 10)), 10)
    pq.write_table(pa.table(columns), tmp_path / "train.parquet")
    text = inspect_folder(str(tmp_path))
    groups = parse(yaml.safe_load(text), "draft").features.sequences
    assert {group.name: len(group.columns) for group in groups} == {"click": 2, "cart": 2}
    assert "every list has 10 elements" in text


def test_odd_names_survive(tmp_path: Path) -> None:
    columns = {"label": [0, 1], "item.id": ["a", "b"], "on": [1, 2], "größe: x": [3, 4], "seq.items": [["a"], ["b"]]}
    pq.write_table(pa.table(columns), tmp_path / "train.parquet")
    features = parse(yaml.safe_load(inspect_folder(str(tmp_path))), "draft").features
    assert set(features.columns()) == set(columns)
    assert features.sequences[0].columns[0].table == "item_id"  # a table's name has no dot


def test_the_sample_is_bounded_and_spread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "SAMPLE_ROWS", 200)
    monkeypatch.setattr(profile, "SAMPLE_GROUPS", 4)
    rows = 10_000
    columns = {"label": np.arange(rows) % 2, "late": np.arange(rows) // 9000, "hist_item": [[1, 2]] * rows}
    pq.write_table(pa.table(columns), tmp_path / "train.parquet", row_group_size=1000)
    text = inspect_folder(str(tmp_path))
    assert "from 200 of 10,000 training rows" in text and "from 4 of 10 row groups" in text
    assert "- late  # 2 ids" in text  # the last row group was looked at


@pytest.mark.parametrize(
    "given", ["{folder}", "{folder}/", "file://{folder}", "{folder}/train", "{folder}/train/*.parquet"]
)
def test_paths_of_every_form(tmp_path: Path, given: str) -> None:
    table = pa.table({"label": [0, 1], "hist_item": [[1, 2], [3]]})
    (tmp_path / "train").mkdir()
    for name in ("train/part-0", "train/part-1", "validation"):
        pq.write_table(table, tmp_path / f"{name}.parquet")
    path = given.format(folder=tmp_path)
    data = parse(yaml.safe_load(inspect_folder(path)), "draft").data
    if given.endswith(("train", "*.parquet")):
        assert (data.train, data.valid) == (path, None)
    else:
        folder = path.rstrip("/")
        assert (data.train, data.valid) == (f"{folder}/train", f"{folder}/validation.parquet")


def test_an_empty_folder_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        inspect_folder(str(tmp_path))


def test_names() -> None:
    assert words("histItemID_2") == ("hist", "item", "id", "2")
    assert stem("hist_item_ids") == stem("itemId") == stem("items") == ("item",)
    assert stem("seenCategories")[-1:] == stem("category")
    assert feedback_rank("is_click") is not None and feedback_rank("user_is_follow") is None
    assert is_outcome("playTime") and is_outcome("rating") and not is_outcome("video_duration")
    assert user_rank("userId") == 0 and user_rank("user_age") is None


def test_a_draft_of_another_kind_has_the_same_features(tmp_path):
    for name, rows, seed in (("train", 1500, 1), ("val", 400, 3)):
        pq.write_table(shop(rows, seed), tmp_path / f"{name}.parquet")
    ours, theirs = (parse(yaml.safe_load(inspect_folder(str(tmp_path), kind)), "draft") for kind in (None, "din"))
    assert (ours.model.kind, theirs.model.kind) == ("interformer", "din")
    assert (ours.features, ours.data, ours.optimizer) == (theirs.features, theirs.data, theirs.optimizer)
    with pytest.raises(InputError, match="'deepfm' is not one of interformer, fm"):
        inspect_folder(str(tmp_path), "deepfm")
