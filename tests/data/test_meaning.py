"""Columns keep what they meant in training: kinds of value, transforms and tables."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.config.features import FeatureSchema
from interformer_rec.data.fit import Fitted, fit
from interformer_rec.data.loader import Loader
from interformer_rec.data.meaning import Meaning
from interformer_rec.errors import InputError
from tests.data.samples import loader_of

INT = pa.int64()
TIMES = pa.list_(pa.timestamp("us"))
TYPES = {
    "user": INT, "item": INT, "tags": pa.list_(INT), "past": pa.list_(INT), "when": TIMES, "price": pa.float64(),
    "click": pa.int8(), "weight": pa.float32(), "session": pa.string(),
}  # fmt: skip
VALUES = {
    "user": [1, 2], "item": [3, 4], "tags": [[5], [6, 7]], "past": [[3], [3, 4]], "when": [[1], [1, 2]], "price": [1, 0],
    "click": [0, 1], "weight": [1, 2], "session": ["a", "b"],
}  # fmt: skip


def features(ids: str = "hash", **changes) -> FeatureSchema:
    """Every table hashed: nothing but the record of the fitted kinds could notice strings."""
    table = {"ids": ids, "num_embeddings": 50}
    base = {
        "tables": {"user": table, "item": table, "tag": table},
        "dense": [{"name": "price", "log1p": True}],
        "ids": ["user", "item"],
        "bags": [{"name": "tags", "table": "tag"}],
        "sequences": [
            {
                "name": "hist",
                "max_length": 2,
                "timestamp": "when",
                "columns": [{"name": "item", "table": "item", "column": "past"}],
            }
        ],
        "labels": ["click"],
        "weight": "weight",
        "group": "session",
    }
    return FeatureSchema.model_validate({**base, **changes})


def file(folder, name: str, **types: pa.DataType) -> str:
    """Two rows with some columns of other types."""
    path = folder / f"{name}.parquet"
    columns = {}
    for column, type_ in {**TYPES, **types}.items():
        plain = pa.array(VALUES[column], pa.list_(INT) if column == "when" else None)
        if type_ == pa.null():
            plain = pa.nulls(2)
        elif pa.types.is_dictionary(type_):
            plain = plain.cast(type_.value_type).dictionary_encode()
        columns[column] = plain.cast(type_)
    pq.write_table(pa.table(columns), path)
    return str(path)


def load(path: str, fitted: Fitted, schema: FeatureSchema, labels: bool = True) -> Loader:
    return loader_of(path, schema, fitted, batch_size=2, labels=labels)


@pytest.fixture
def trained(tmp_path) -> Fitted:
    """What was fitted on data as it is, saved and loaded."""
    fit(features(), file(tmp_path, "train")).save(tmp_path / "fitted")
    return Fitted.load(tmp_path / "fitted")


@pytest.mark.parametrize(
    "column, type_, ours, theirs",
    [
        ("user", pa.string(), "integer", "string"),
        ("item", pa.dictionary(pa.int32(), pa.string()), "integer", "string"),
        ("tags", pa.list_(pa.large_string()), "integer", "string"),
        ("past", pa.large_list(pa.string()), "integer", "string"),
        ("when", pa.list_(pa.int64()), "timestamp", "integer"),
    ],
)
@pytest.mark.parametrize("labels", [True, False], ids=["evaluate", "predict"])
def test_another_kind_of_value_is_refused_with_column_file_and_both_kinds(
    tmp_path, trained, column, type_, ours, theirs, labels
):
    other = {column: type_}
    if column in ("item", "past"):  # one table: both as strings, or the file contradicts itself
        other = {"item": pa.string(), "past": pa.list_(pa.string()), **other}
    path = file(tmp_path, "other", **other)
    with pytest.raises(InputError) as caught:
        load(path, trained, features(), labels)
    said = str(caught.value)
    named = "item" if column == "past" else column  # the first one at fault
    assert f"column {named!r} of {path!r} holds {theirs} values" in said
    assert f"trained on {ours} values" in said


def test_strings_first_and_integers_later_are_refused_too(tmp_path):
    strings = {"user": pa.string()}
    fitted = fit(features(), file(tmp_path, "train", **strings))
    with pytest.raises(
        InputError, match=r"column 'user' of .*holds integer values.*trained on string values.*table 'user'"
    ):
        load(file(tmp_path, "other"), fitted, features())


def test_the_group_is_compared_where_it_is_read(tmp_path, trained):
    schema = features(group="user", tables=features().tables)
    fitted = fit(schema, file(tmp_path, "g"))
    assert fitted.meaning.kinds["user"] == "integer"
    integers = features(group="item")
    with pytest.raises(InputError, match=r"features.group was session and is now item"):
        load(file(tmp_path, "h"), trained, integers)
    path = file(tmp_path, "numbered", session=pa.string())
    table = pq.read_table(path)
    table = table.set_column(table.schema.get_field_index("session"), "session", pa.array([1, 2]))
    pq.write_table(table, path)
    with pytest.raises(InputError, match=r"column 'session' .*integer values.*string values there \(group\)"):
        load(path, trained, features())
    assert load(path, trained, features(), labels=False).rows == 2  # predict does not read it


@pytest.mark.parametrize(
    "types",
    [
        {"user": pa.int8(), "item": pa.uint64(), "past": pa.large_list(pa.int16()), "tags": pa.list_(pa.int32(), -1)},
        {"session": pa.large_string()},
        {"session": pa.dictionary(pa.int8(), pa.string())},
        {"price": pa.int32(), "click": pa.float64(), "weight": pa.int64()},
        {"click": pa.bool_()},
        {"when": pa.list_(pa.timestamp("ms"))},
    ],
)
def test_widths_and_layouts_are_no_difference(tmp_path, trained, types):
    loader = load(file(tmp_path, "other", **types), trained, features())
    (batch, _), *_ = loader.batches()
    (expected, _), *_ = load(file(tmp_path, "same"), trained, features()).batches()
    assert batch.sparse.values().tolist() == expected.sparse.values().tolist()
    assert batch.sequences.values().tolist() == expected.sequences.values().tolist()
    assert batch.labels.tolist() == expected.labels.tolist() and batch.dense.tolist() == expected.dense.tolist()


def test_the_key_of_a_partition_is_compared_like_a_column(tmp_path):
    schema = features(ids="hash").model_dump()
    tables = {**schema["tables"], "day": schema["tables"]["tag"]}
    schema = FeatureSchema.model_validate({**schema, "tables": tables, "ids": [*schema["ids"], {"name": "day"}]})
    for name, keys in (("train", ("1", "2")), ("other", ("mon", "tue"))):
        for key in keys:
            (tmp_path / name / f"day={key}").mkdir(parents=True)
            file(tmp_path / name / f"day={key}", "part")
    fitted = fit(schema, str(tmp_path / "train"))
    assert fitted.meaning.kinds["day"] == "integer"
    with pytest.raises(InputError, match=r"column 'day' of .*other/day=mon/.*holds string values.*on integer values"):
        load(str(tmp_path / "other"), fitted, schema)


def test_a_column_that_held_no_value_contradicts_nothing(tmp_path, trained):
    meaning = Meaning(trained.meaning.features, {**trained.meaning.types, "user": pa.null()})
    fitted = Fitted(trained.table_rows, meaning=meaning)
    for type_ in (pa.int64(), pa.string()):
        assert load(file(tmp_path, "other", user=type_), fitted, features()).rows == 2


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"dense": ["price"]}, "features.dense.price.log1p was true and is now false"),
        ({"dense": [{"name": "price", "log1p": True, "fill": 2}]}, "features.dense.price.fill was null and is now 2.0"),
        ({"ids": "vocab"}, "features.tables.user.ids was hash and is now vocab"),
        ({"bags": [{"name": "tags", "table": "tag", "pooling": "sum"}]}, "features.bags.tags.pooling was mean"),
        ({"labels": [{"name": "click", "column": "weight"}], "weight": None}, "features.labels.click.column was click"),
        ({"ids": "identity"}, "features.tables.tag.ids was hash and is now identity"),
    ],
)
def test_what_was_fitted_for_other_features_is_refused(tmp_path, trained, changes, said):
    with pytest.raises(InputError, match="fitted on other features") as caught:
        load(file(tmp_path, "same"), trained, features(**changes))
    assert said in str(caught.value)


def test_the_weight_of_a_label_is_no_meaning(tmp_path, trained):
    assert load(file(tmp_path, "same"), trained, features(labels=[{"name": "click", "weight": 3.0}])).rows == 2
