"""Drafts of a news site's files: items that live for a day, counts, heavy tails, columns that say nothing or too much, rows out of time."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from interformer_rec import cli
from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.run import load, parse
from interformer_rec.data.inspect.command import inspect_folder

DAY = 86_400
ROWS = 3000


def news(first_day: int, days: int, seed: int) -> pa.Table:
    """Impressions: an article is shown on its own day alone; long titles are clicked more often."""
    random = np.random.default_rng(seed)
    time = np.sort(random.integers(first_day * DAY, (first_day + days) * DAY, ROWS))
    article = (time // DAY) * 1000 + random.integers(0, 60, ROWS)
    width = random.integers(0, 40, ROWS)
    clicked = random.random(ROWS) < 0.1 + 0.02 * width
    lengths = random.integers(0, 12, ROWS)
    owner = np.repeat(np.arange(ROWS), lengths)
    read = (time[owner] // DAY) * 1000 + random.integers(0, 60, len(owner))
    debt = random.lognormal(3, 2, ROWS).round().astype(np.int64)
    return pa.table(
        {
            "clicked": clicked,
            "visit": [f"{seed}-{n // 3}" for n in range(ROWS)],
            "article_id": article,
            "shown_at": 1_700_000_000 + time,
            "title_words": random.integers(3, 20, ROWS),
            "extent": width,
            "wealth": np.where(random.random(ROWS) < 0.02, -debt, debt),
            "section": random.integers(0, 30, ROWS),
            "is_paid": random.random(ROWS) < 0.001,
            "scrolled": np.where(clicked, random.normal(9, 1, ROWS), random.normal(2, 1, ROWS)),
            "read_article_ids": pa.ListArray.from_arrays(
                pa.array(np.r_[0, np.cumsum(lengths)], pa.int32()), pa.array(read)
            ),
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("news")
    for name, first_day, days in (("train", 0, 6), ("valid", 6, 1), ("test", 7, 1)):
        pq.write_table(news(first_day, days, first_day), place / f"{name}.parquet")
    return place


@pytest.fixture(scope="module")
def text(folder: Path) -> str:
    return inspect_folder(str(folder))


@pytest.fixture(scope="module")
def features(text: str) -> FeatureSchema:
    return parse(yaml.safe_load(text), "draft").features


def reasons(text: str) -> dict[str, str]:
    return dict(
        line[4:].split(": ", 1)
        for line in text.split("Columns that are not read:\n")[1].split("\n\n")[0].splitlines()
        if ": " in line
    )


def test_ids_that_held_out_rows_mostly_lack_are_left_out(text: str, features: FeatureSchema) -> None:
    assert [feature.name for feature in features.ids] == ["section"]
    left_out = reasons(text)
    for name in ("visit", "article_id"):
        assert "100% of the rows of" in left_out[name] and "no training row has" in left_out[name]
    assert "NEW IDS: left out visit, article_id" in text
    assert "of the listed ids of" in text and "have a read_article_ids that no training row has" in text
    assert [(column.column, column.table) for column in features.sequences[0].columns] == [
        ("read_article_ids", "read_article_ids")  # the table of the id that went is its own now
    ]


def test_counts_are_numbers(text: str, features: FeatureSchema) -> None:
    assert {feature.name: feature.log1p for feature in features.dense} == {
        "title_words": False,  # by its name
        "extent": False,  # by the label, which goes up with it
        "wealth": True,  # a heavy tail, below 0 too
    }
    assert "the label goes steadily up or down" in text and "integers below 0 and above" in text


def test_what_says_nothing_or_too_much_is_left_out(text: str) -> None:
    left_out = reasons(text)
    assert "the same value in 99." in left_out["is_paid"]
    assert "alone it predicts the label with AUC 0.9" in left_out["scrolled"] or "AUC 1.0" in left_out["scrolled"]
    assert "LEAK? scrolled alone predicts the label" in text
    assert "time of the row" in left_out["shown_at"] and "TIME:" not in text


def test_the_draft_trains(folder: Path, text: str, tmp_path: Path) -> None:
    saved = tmp_path / "draft.yaml"
    saved.write_text(text, encoding="utf-8")
    assert load(saved).data.valid == f"{folder}/valid.parquet"
    options = ("training.epochs=1", "training.max_steps=2", f"training.out={tmp_path}/run", "training.device=cpu")
    assert cli.main(["train", str(saved), *(f"--set={one}" for one in options)]) == 0


def test_held_out_rows_from_before_the_end_of_training(tmp_path: Path) -> None:
    for name, first_day, days in (("train", 0, 6), ("valid", 3, 6), ("test", 6, 1)):
        pq.write_table(news(first_day, days, first_day), tmp_path / f"{name}.parquet")
    text = inspect_folder(str(tmp_path))
    assert (
        "TIME: 50% of the rows of" in text or "TIME: 49% of the rows of" in text or "TIME: 51% of the rows of" in text
    )
    assert text.count("TIME:") == 1 and "valid.parquet are older than the newest training row, by shown_at" in text


def test_the_last_id_stays_where_nothing_else_could_be_read(tmp_path: Path) -> None:
    for name, first in (("train", 0), ("valid", 2000)):
        columns = {
            "clicked": np.arange(ROWS) % 7 == 0,
            "item": first + np.arange(ROWS) % 2500,
            "page": np.arange(ROWS) % 999 + 2 * first,
        }
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    text = inspect_folder(str(tmp_path))
    assert [feature.name for feature in parse(yaml.safe_load(text), "draft").features.ids] == ["item"]
    assert "page" in reasons(text) and "have a item that no training row has: see whether" in text
