"""--resume with another config: what may change does, another order is the same run, another meaning is refused by name."""

from __future__ import annotations

import shutil
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.config import run as run_config
from interformer_rec.errors import InputError
from interformer_rec.training import run
from interformer_rec.training.folder.run_folder import RunFolder
from interformer_rec.training.start.resume import resumed
from tests.training.runs import SHORT, compare, contents, settings


def changed(began, kind: str, which: str, /, **keys: Any) -> dict[str, Any]:
    """features.KIND with some keys of one of them set anew."""
    items = [{"name": item} if isinstance(item, str) else item for item in began[0]["features"][kind]]
    assert which in [item["name"] for item in items]
    return {kind: [{**item, **keys} if item["name"] == which else item for item in items]}


MAY = [
    "training.epochs=9", "training.patience=5", "data.batch_size=64", "data.eval_batch_size=32", "data.valid=/elsewhere",
    "optimizer.dense.lr=0.5", "optimizer.embedding.lr=0.5", "optimizer.embedding.l2=0.1", "optimizer.dense.ema=0.9",
    "optimizer.schedule.kind=cosine", "model.dropout=0.5", "training.precision=bf16", "training.checkpoint.keep=7",
    "sharding.default=row_wise", "training.hang_seconds=9", "training.start_seconds=9", "features.labels.0.weight=2", "name=other",
    "features.tables.tags.embedding_dim=8",
]  # fmt: skip


@pytest.mark.parametrize("override", MAY)
def test_what_may_change_does(began, override):
    found, config = compare(began, override)
    assert found.notes == () and found.complete is None
    before, after = (c.model_dump(exclude={"features": {"tables"}}) for c in (config, found.config))
    assert after == before


NEW_RUN = [
    (["features.dense.0.log1p=false"], "features.dense.price.log1p was true and is now false"),
    (["features.dense.1.log1p=true"], "features.dense.age_days.log1p was false and is now true"),
    (["features.dense.1.clip=[0, 9]"], "features.dense.age_days.clip was null and is now [0.0, 9.0]"),
    (["features.dense.1.fill=1"], "features.dense.age_days.fill was null and is now 1.0"),
    (["features.dense.1.standardise=false"], "features.dense.age_days.standardise was true"),
    (
        ["features.tables.mode={ids: hash, num_embeddings: 7}"],
        "features.tables.mode.ids was vocab and is now hash; features.tables.mode.num_embeddings was null and is now 7",
    ),
    (["features.tables.user_id.min_count=3"], "features.tables.user_id.min_count was 1 and is now 3"),
    (["features.tables.field0.embedding_dim=16"], "features.tables.field0.embedding_dim was 8 and is now 16"),
    (["features.sequences.0.max_length=3"], "features.sequences.hist0.max_length was 12 and is now 3"),
    (["features.sequences.0.timestamp=null"], "features.sequences.hist0.timestamp was hist0_timestamp and is now null"),
    (
        ["features.sequences.1.columns.1.column=hist0_category"],
        "features.sequences.hist1.columns.category.column was hist1_category",
    ),
    (["features.group=null"], "features.group was user_id and is now null"),
    (["features.weight=price_weight"], "features.weight was null and is now price_weight"),
    (["features.candidate=[item_id]"], "features.candidate was [item_id, category] and is now [item_id]"),
    (["model.embedding_dim=16"], "model.embedding_dim was 8 and is now 16"),
    (["model.d=16"], "model.d was 8 and is now 16"),
    (["model.head=[16, 16]"], "model.head was [16] and is now [16, 16]"),
    (["model={kind: din}"], "model.kind was interformer and is now din"),
    (["model.sequence.merge=separate"], "model.sequence.merge was concat and is now separate"),
    (["optimizer.embedding.kind=sgd"], "optimizer.embedding.kind was rowwise_adagrad and is now sgd"),
    (["training.monitor=logloss"], "training.monitor was auc and is now logloss"),
    (
        ["data.history_pretraining={history: hist0, labels: {label: hist1, again: hist1}}", "training.epochs=5"],
        "data.history_pretraining was null and is now {history: hist0, labels: {label: hist1, again: hist1}}",
    ),
]


@pytest.mark.parametrize("overrides, said", NEW_RUN, ids=[overrides[0] for overrides, _ in NEW_RUN])
def test_another_meaning_is_refused_by_name(began, overrides, said):
    with pytest.raises(InputError, match=r"cannot go on with this config.*docs/guides/resume.md") as caught:
        compare(began, *overrides)
    assert said in str(caught.value)


def test_exchanged_columns_are_refused(began):
    dense = [
        {"name": "price", "column": "age_days", "log1p": True, "standardise": True},
        {"name": "age_days", "column": "price", "standardise": True},
    ]
    with pytest.raises(
        InputError, match=r"dense.price.column was price and is now age_days; .*age_days.column was age"
    ):
        compare(began, dense=dense)
    with pytest.raises(InputError, match=r"features.ids.mode.column was mode and is now category"):
        compare(began, **changed(began, "ids", "mode", column="category"))
    with pytest.raises(InputError, match=r"features.ids.field0.table was field0 and is now field1"):
        compare(began, ids=["user_id", "item_id", "category", "mode", {"name": "field0", "table": "field1"},
                            {"name": "field1", "table": "field0"}])  # fmt: skip
    with pytest.raises(InputError, match=r"features.ids.mode.null was row and is now empty"):
        compare(began, **changed(began, "ids", "mode", null="empty"))
    with pytest.raises(InputError, match=r"features.bags.tags.pooling was mean and is now sum"):
        bags = [
            {"name": "tags", "pooling": "sum"},
            {"name": "tags2", "column": "tags", "table": "tags", "pooling": "sum"},
        ]
        compare(began, bags=bags)
    with pytest.raises(InputError, match=r"features.labels.again.column was label and is now other"):
        compare(began, **changed(began, "labels", "again", column="other"))


def test_new_removed_and_renamed_features_are_refused_in_a_sentence(began):
    tables = {**began[0]["features"]["tables"], "new": {"ids": "hash", "num_embeddings": 5}}
    ids = [*began[0]["features"]["ids"], {"name": "new", "column": "mode", "table": "new"}]
    with pytest.raises(
        InputError,
        match=r"features.tables.new was not there and is now \{ids: hash, num_embeddings: 5, embedding_dim: 8\}; "
        r"features.ids.new was not there .*has no weights for what is new",
    ):
        compare(began, ids=ids, tables=tables)
    with pytest.raises(InputError, match=r"features.dense.age_days was .* and is now not there"):
        compare(began, dense=["price"])
    with pytest.raises(InputError, match=r"features.sequences.old was not there"):
        compare(began, **changed(began, "sequences", "hist1", name="old"))
    with pytest.raises(InputError, match=r"features.labels.third was not there"):
        compare(began, labels=[*began[0]["features"]["labels"], {"name": "third", "column": "label"}])


def other_order(tree: dict[str, Any]) -> dict[str, Any]:
    """Everything that has a name the other way round."""
    features = dict(tree["features"])
    for kind in ("dense", "ids", "bags", "sequences", "labels", "candidate"):
        features[kind] = features[kind][::-1]
    features["sequences"] = [{**group, "columns": group["columns"][::-1]} for group in features["sequences"]]
    features["tables"] = dict(reversed(features["tables"].items()))
    return {**tree, "features": features}


def test_another_order_is_the_same_run_bit_for_bit(began, tmp_path, capfd):
    tree, folder = began
    ends = []
    for name, source in (("same", tree), ("reversed", other_order(tree))):
        shutil.copytree(folder, tmp_path / name)
        config = settings(source, tmp_path / name, *SHORT, "training.max_steps=14")
        assert run.train(config, resume=True) == 0
        ends.append(tmp_path / name / "checkpoints" / "step-00000014")
    for file in ("rank-00000.safetensors", "dense.safetensors"):
        assert (ends[0] / file).read_bytes() == (ends[1] / file).read_bytes(), file
    said = capfd.readouterr().err
    assert "features.dense lists the same names in another order" in said
    assert "features.labels lists the same names in another order" in said and "watches 'label'" in said
    # and once more: the config that the run has saved is in the run's own order
    saved = run_config.load(tmp_path / "reversed" / "config.yaml")
    assert [label.name for label in saved.features.labels] == ["label", "again"]
    assert resumed(saved, RunFolder(saved)).notes == ()


def test_a_config_edited_in_the_run_folder_is_compared_with_the_checkpoint(began, tmp_path):
    _, folder = began
    shutil.copytree(folder, tmp_path / "run")
    file = tmp_path / "run" / "config.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("log1p: true", "log1p: false"), encoding="utf-8")
    before = contents(tmp_path / "run")
    config = run_config.load(file, [f"training.out={tmp_path}/run", "training.max_steps=14"])
    with pytest.raises(InputError, match=r"features.dense.price.log1p was true and is now false"):
        run.train(config, resume=True)
    assert contents(tmp_path / "run") == before


def test_other_rows_inside_an_epoch_are_refused(began, tmp_path):
    tree, folder = began
    for number, (override, said) in enumerate(
        [
            ("seed=7", "seed changed"),
            ("data.shuffle_rows=400", "shuffle_rows changed"),
            (None, "files of data.train changed"),
        ]
    ):
        shutil.copytree(folder, tmp_path / f"run{number}")
        other = f"data.train={tree['data']['valid']}" if override is None else override
        before = contents(tmp_path / f"run{number}")
        with pytest.raises(InputError, match=rf"cannot resume inside epoch 0: the {said}"):
            run.train(
                settings(tree, tmp_path / f"run{number}", "data.valid=null", "data.test=null", other), resume=True
            )
        assert contents(tmp_path / f"run{number}") == before


def test_training_files_with_another_kind_of_id_are_refused(began, tmp_path):
    tree, folder = began
    shutil.copytree(folder, tmp_path / "run")
    table = pq.read_table(tree["data"]["train"])
    place = table.schema.get_field_index("user_id")
    table = table.set_column(place, "user_id", table["user_id"].cast(pa.string()))
    pq.write_table(table, tmp_path / "train.parquet")
    before = contents(tmp_path / "run")
    with pytest.raises(InputError, match=r"column 'user_id' of .*train.parquet' holds string values.*integer values"):
        run.train(settings(tree, tmp_path / "run", f"data.train={tmp_path}/train.parquet"), resume=True)
    assert contents(tmp_path / "run") == before
