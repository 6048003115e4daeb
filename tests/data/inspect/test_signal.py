"""What one column says of the label: AUC of numbers, ids, nulls and lists; a trend and none."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from interformer_rec.data.column_roles import number_by_values
from interformer_rec.data.files.source import open_source
from interformer_rec.data.inspect.profile import Column, profile
from interformer_rec.data.inspect.signal import Outcome

ROWS = 4000
RANDOM = np.random.default_rng(0)
LABEL = RANDOM.integers(0, 2, ROWS)
COUNT = RANDOM.geometric(0.1, ROWS)
ODD = RANDOM.integers(0, 20, ROWS) * 2 + LABEL
LOW, HIGH = np.sort(RANDOM.integers(0, 40, (2, ROWS)), axis=0)
COLUMNS = {
    "label": LABEL,
    "noise": RANDOM.normal(size=ROWS),
    "signal": LABEL + RANDOM.normal(size=ROWS) / 4,
    "names": [f"{'yes' if one else 'no'}{n % 9}" for n, one in enumerate(LABEL)],
    "missing": pa.array(RANDOM.normal(size=ROWS), mask=LABEL == 1),
    "parity": ODD,
    "lists": [[1] * (3 + int(one)) for one in LABEL],
    "newest": [[n % 5, int(one)] for n, one in enumerate(LABEL)],
    "many": RANDOM.integers(0, 2000, ROWS),
    "rising": np.where(LABEL, HIGH, LOW),
}


@pytest.fixture(scope="module")
def columns(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Column]:
    path = tmp_path_factory.mktemp("signal") / "rows.parquet"
    pq.write_table(pa.table(COLUMNS), path)
    return profile(open_source(str(path))).columns


@pytest.fixture(scope="module")
def outcome(columns: dict[str, Column]) -> Outcome:
    found = Outcome.of(columns["label"])
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["names", "missing", "parity", "lists", "newest"])
def test_columns_that_know_the_label(columns: dict[str, Column], outcome: Outcome, name: str) -> None:
    assert outcome.auc(columns[name]) > 0.99


def test_auc_of_numbers_is_that_of_their_order(columns: dict[str, Column], outcome: Outcome) -> None:
    assert outcome.auc(columns["signal"]) == pytest.approx(roc_auc_score(LABEL, COLUMNS["signal"]), abs=0.01)
    for name in ("noise", "many"):
        assert abs(outcome.auc(columns[name]) - 0.5) < 0.05


def test_a_trend_of_the_label_makes_integers_numbers(columns: dict[str, Column], outcome: Outcome) -> None:
    assert outcome.trend(columns["rising"]) and not outcome.trend(columns["many"])
    assert number_by_values(columns["rising"], outcome.trend) is not None
    assert number_by_values(columns["many"], outcome.trend) is None
    assert number_by_values(columns["rising"], lambda _: False) is None


def test_too_few_rows_prove_nothing(tmp_path) -> None:
    pq.write_table(pa.table({"label": LABEL[:300]}), tmp_path / "few.parquet")
    assert Outcome.of(profile(open_source(str(tmp_path / "few.parquet"))).columns["label"]) is None
    assert Outcome.of(None) is None
