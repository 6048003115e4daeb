"""The synthetic data: as many rows as asked, the same for the same seed, and a signal that only the histories reveal."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from interformer_rec.config.run import load
from interformer_rec.data.recipes import synthetic
from interformer_rec.data.recipes.catalog import prepare, prepared
from interformer_rec.errors import InputError


def _shape(**options: object) -> synthetic.Shape:
    return synthetic.Shape.of({**synthetic.DEFAULTS, **options})


def _written(folder: Path, **options: object) -> dict[str, int]:
    folder.mkdir()
    return synthetic.write(folder, _shape(**options))


def planted_feature(table: pa.Table) -> np.ndarray:
    """The sign of the planted signal, (rows,), computed from the columns: what a model has to find."""
    column = table["hist0_category"].combine_chunks()
    offsets = column.offsets.to_numpy()
    owner = np.repeat(np.arange(len(table)), np.diff(offsets))
    same = column.values.to_numpy() == table["category"].to_numpy()[owner]
    return np.where(synthetic._match(same, offsets) == (table["mode"].to_numpy() == 0), 1.0, -1.0) * (
        np.diff(offsets) > 0
    )


def test_only_the_cross_of_candidate_mode_and_history_tells() -> None:
    generator = np.random.default_rng(7)
    table = synthetic.make_rows(20_000, _shape(fields=3), generator)
    labels = table["label"].to_numpy()
    fields = ["user_id", "item_id", "category", "mode", "price", "age_days", "field0", "field1", "field2"]
    inputs = np.stack([table[name].to_numpy().astype(float) for name in fields], axis=1)
    trees = HistGradientBoostingClassifier(random_state=0, max_iter=60).fit(inputs[:15_000], labels[:15_000])
    alone = roc_auc_score(labels[15_000:], trees.predict_proba(inputs[15_000:])[:, 1])
    planted = roc_auc_score(labels, planted_feature(table))
    assert 0.46 < alone < 0.54
    assert planted > 0.85
    match_alone = roc_auc_score(labels, planted_feature(table) * np.where(table["mode"].to_numpy() == 0, 1, -1))
    assert 0.46 < match_alone < 0.54  # candidate and history without the mode tell nothing either


def test_written_as_asked(tmp_path: Path) -> None:
    rows = _written(tmp_path / "a", rows=1000, files=3, fields=2, groups=2, max_length="40,5", vocab=100)
    assert rows == {
        "train/part-000.parquet": 333,
        "train/part-001.parquet": 333,
        "train/part-002.parquet": 334,
        "valid.parquet": 100,
        "test.parquet": 100,
    }
    table = pq.read_table(tmp_path / "a" / "train")
    assert len(table) == 1000
    for group, longest in (("hist0", 40), ("hist1", 5)):
        lists = table[f"{group}_item_id"].combine_chunks()
        lengths = np.diff(lists.offsets)
        assert lengths.max() == longest and lengths.min() == 0
        assert (np.diff(table[f"{group}_category"].combine_chunks().offsets) == lengths).all()
        items = lists.values.to_numpy()
        assert items.min() >= 0 and items.max() < 100
        times = table[f"{group}_timestamp"].to_pylist()
        assert all(row == sorted(row) for row in times)


def test_same_seed_same_rows_and_another_seed_others(tmp_path: Path) -> None:
    options = {"rows": 500, "files": 2, "fields": 1, "vocab": 50}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        _written(tmp_path / name, **options, seed=seed)
    first, same, other = (pq.read_table(tmp_path / name / "train") for name in "abc")
    assert first.equals(same)
    assert not first.equals(other)
    assert not pq.read_table(tmp_path / "a" / "valid.parquet").equals(pq.read_table(tmp_path / "a" / "test.parquet"))


def test_row_groups_stay_small_where_histories_are_long() -> None:
    long = _shape(groups=1, max_length="20000")
    assert long.row_group * 20_000 * 16 <= synthetic.GROUP_BYTES
    assert _shape(max_length="10").row_group == 8192


def test_config_beside_the_data_loads_and_names_its_columns(tmp_path: Path) -> None:
    out = tmp_path / "made"
    prepare("synthetic", str(out), None, {"rows": "300", "files": "1", "groups": "3", "fields": "2"})
    config = load(out / "config.yaml")
    assert config.data.train == f"{out}/train"
    assert set(config.features.columns()) == set(pq.read_schema(out / "valid.parquet").names)
    assert len(config.features.sequences) == 3


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rows": "5"}, "rows"),
        ({"rows": "many"}, "whole number"),
        ({"max_length": "10,20,30"}, "max_length"),
        ({"max_length": "0"}, "max_length"),
        ({"files": "999", "rows": "100"}, "files"),
        ({"row": "100"}, "did you mean 'rows'"),
    ],
)
def test_bad_options_are_named(tmp_path: Path, options: dict[str, str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        prepare("synthetic", str(tmp_path / "out"), None, options)
    assert list(tmp_path.iterdir()) == []  # nothing half-made is left


SMALL = {"rows": "100", "files": "1", "fields": "0", "groups": "1", "max_length": "3"}


def test_prepare_replaces_its_own_folder_only(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    assert prepared("synthetic", out, SMALL) is None
    rows = prepare("synthetic", out, None, SMALL)
    assert prepared("synthetic", out, SMALL) == rows
    assert prepared("synthetic", out, {**SMALL, "seed": "3"}) is None
    assert prepare("synthetic", out, None, SMALL) == rows
    (tmp_path / "out" / "mine.txt").write_text("work of a week")
    with pytest.raises(InputError, match=r"mine\.txt, which was not made by this command"):
        prepare("synthetic", out, None, SMALL)
    (tmp_path / "out" / "mine.txt").unlink()
    config = tmp_path / "out" / "config.yaml"
    config.write_text(config.read_text() + "# edited\n")
    with pytest.raises(InputError, match=r"config\.yaml, which has changed"):
        prepare("synthetic", out, None, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_prepare_keeps_what_stands_there_if_writing_fails(tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare("synthetic", str(out), None, SMALL)
    before = pq.read_table(out / "valid.parquet")
    with pytest.raises(InputError, match="is not a folder"):
        prepare("ml-100k", str(out), str(tmp_path / "nowhere"), {})
    (tmp_path / "raw").mkdir()
    with pytest.raises(InputError, match=r"has no ml-100k\.inter"):
        prepare("ml-100k", str(out), str(tmp_path / "raw"), {})
    assert pq.read_table(out / "valid.parquet").equals(before)
    assert pa.types.is_list(before.schema.field("tags").type)


def test_unknown_data_set_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'ml-100k'"):
        prepare("ml100k", str(tmp_path / "out"), None, {})
