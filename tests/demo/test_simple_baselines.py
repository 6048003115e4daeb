"""The baselines against counts by hand and against scikit-learn's own encoders."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.sparse import csr_matrix, hstack
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.preprocessing import MultiLabelBinarizer, OneHotEncoder, StandardScaler

from interformer_rec.config.features import FeatureSchema
from interformer_rec.demo.simple_baselines import SMOOTHING, logistic_regression, popularity
from interformer_rec.errors import InputError

FEATURES = FeatureSchema.model_validate(
    {
        "tables": {"item": {}, "kind": {}},
        "dense": [{"name": "price", "log1p": True, "fill": 3.0}],
        "ids": [{"name": "item", "column": "item_id"}],
        "bags": [{"name": "kinds", "table": "kind"}],
        "labels": [{"name": "click", "column": "clicked"}],
    }
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, pa.Table, pa.Table]:
    generator = np.random.default_rng(5)
    tables = []
    for rows, items in ((900, 12), (400, 15)):  # three items that training never saw
        item = generator.integers(0, items, rows)
        kinds = [sorted({f"k{k}" for k in generator.integers(0, 6, n)}) for n in generator.integers(0, 4, rows)]
        price = generator.lognormal(1, 1, rows)
        score = 0.4 * (item % 5) - 0.5 * np.log1p(price) + np.array([0.8 * ("k1" in one) for one in kinds])
        clicked = generator.random(rows) < 1 / (1 + np.exp(-score))
        ids = pa.array(item, mask=generator.random(rows) < 0.05)
        prices = pa.array(price, mask=generator.random(rows) < 0.1)
        columns = {"clicked": clicked.astype(np.int8), "item_id": ids, "kinds": kinds, "price": prices}
        tables.append(pa.table({**columns, "shop": [f"s{s}" for s in generator.integers(0, 4, rows)]}))
    folder = tmp_path_factory.mktemp("files")
    paths = [str(folder / name) for name in ("train.parquet", "test.parquet")]
    for path, table in zip(paths, tables, strict=True):
        pq.write_table(table, path, row_group_size=250)
    return paths[0], paths[1], tables[0], tables[1]


def test_popularity_is_the_smoothed_rate_of_the_training_rows(files: tuple[str, str, pa.Table, pa.Table]) -> None:
    train, test, before, after = files
    clicks = np.array(before["clicked"].to_pylist())
    items, shown = np.array(before["item_id"].to_pylist(), dtype=object), after["item_id"].to_pylist()
    rate = {}
    for item in set(items):
        of_item = clicks[items == item]
        rate[item] = (of_item.sum() + SMOOTHING * clicks.mean()) / (len(of_item) + SMOOTHING)
    scores = [rate.get(item, clicks.mean()) for item in shown]
    found = popularity(train, test, FEATURES, "item")
    labels = after["clicked"].to_pylist()
    assert found == pytest.approx({"auc": roc_auc_score(labels, scores), "logloss": log_loss(labels, scores)})


def test_logistic_regression_equals_scikit_learns_encoders(files: tuple[str, str, pa.Table, pa.Table]) -> None:
    train, test, before, after = files

    def prices(table: pa.Table) -> np.ndarray:
        return np.log1p(np.array([3.0 if p is None else p for p in table["price"].to_pylist()]))[:, None]

    def texts(table: pa.Table, name: str) -> np.ndarray:
        return np.array([str(value) for value in table[name].to_pylist()])[:, None]

    scaler = StandardScaler().fit(prices(before))
    binarizer = MultiLabelBinarizer().fit(before["kinds"].to_pylist())
    encoders = {name: OneHotEncoder(handle_unknown="ignore").fit(texts(before, name)) for name in ("item_id", "shop")}

    def inputs(table: pa.Table) -> csr_matrix:
        one_hot = [encoders[name].transform(texts(table, name)) for name in ("item_id", "shop")]
        dense, bags = scaler.transform(prices(table)), binarizer.transform(table["kinds"].to_pylist())
        return hstack([csr_matrix(dense), csr_matrix(bags.astype(float)), *one_hot], format="csr")

    model = LogisticRegression(max_iter=2000).fit(inputs(before), before["clicked"].to_pylist())
    labels, scores = after["clicked"].to_pylist(), model.predict_proba(inputs(after))[:, 1]
    found = logistic_regression(train, test, FEATURES, also=("shop",))
    assert found["auc"] == pytest.approx(roc_auc_score(labels, scores), abs=2e-3)
    assert found["logloss"] == pytest.approx(log_loss(labels, scores), abs=2e-3)
    assert found["auc"] > popularity(train, test, FEATURES, "item")["auc"]


def test_an_unknown_name_is_refused(files: tuple[str, str, pa.Table, pa.Table]) -> None:
    train, test, _, _ = files
    with pytest.raises(InputError, match=r"not under features\.ids"):
        popularity(train, test, FEATURES, "kinds")
