"""Random files: the same rows are the same batches whatever the physical types; a damaged file is read or refused, nothing else."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.config.features import FeatureSchema
from interformer_rec.data.files.source import open_source
from interformer_rec.data.files.unify import widest
from interformer_rec.data.fit import fit
from interformer_rec.errors import InputError
from tests.data.samples import equal, loader_of
from tests.hostile.parquet_files import base_rows, parse_type
from tests.hostile.test_parquet import FEATURES, batches

WHOLE, DAMAGED = 250, 2_000  # files of a fuzzer
INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
LISTS = [f"{kind}<{inner}>" for kind in ("list", "large_list") for inner in INTEGERS]
TYPES = {
    "user": [*INTEGERS, "decimal128(19, 0)", "decimal128(24, 3)", "decimal256(60, 2)"],
    "city": ["string", "large_string", "dictionary<string>", "string_view", "binary", "large_binary", "binary_view"],
    "price": ["halffloat", "float", "double", "decimal128(20, 3)"],
    "tags": LISTS,
    "seen": LISTS,
    "when": LISTS,
    "click": [*INTEGERS, "bool", "float", "double", "decimal128(21, 2)"],
}
EXTRA = ["int8", "string", "list<int8>", "timestamp[ms]", "date32", "null", "bool", "double"]


def rewritten(random: Random) -> pa.Table:
    """The base rows in random types, order and nullability, with columns that nobody reads."""
    table = base_rows()
    for name, choices in TYPES.items():
        if random.random() < 0.6:
            array = table[name].combine_chunks()
            type_ = parse_type(random.choice(choices))
            cast = (
                array.cast(pa.int8()).cast(type_)
                if name == "click" and pa.types.is_boolean(type_)
                else array.cast(type_)
            )
            field = pa.field(name, type_, nullable=bool(cast.null_count) or random.random() < 0.5)
            table = table.set_column(table.column_names.index(name), field, cast)
    for name in random.sample(["extra a", "extra b", "extra.c"], random.randint(0, 3)):
        table = table.append_column(name, pa.nulls(8, parse_type(random.choice(EXTRA))))
    names = table.column_names
    random.shuffle(names)
    return table.select(names)


def options(random: Random) -> dict[str, Any]:
    """Of the writer."""
    return {
        "compression": random.choice(["none", "snappy", "zstd", "gzip"]),
        "use_dictionary": random.choice([True, False]),
        "row_group_size": random.choice([1, 3, 8]),
        "data_page_version": random.choice(["1.0", "2.0"]),
        "store_schema": random.choice([True, False]),
        "use_compliant_nested_type": random.choice([True, False]),
        "write_statistics": random.choice([True, False]),
    }


@pytest.mark.slow
def test_the_same_rows_are_the_same_batches(tmp_path):
    random, plain = Random(0), {}
    for files in range(1, 5):
        folder = tmp_path / f"plain {files}"
        folder.mkdir()
        for number in range(files):
            pq.write_table(base_rows(), folder / f"{number}.parquet")
        plain[files] = batches(folder, files)[0]
    for tried in range(WHOLE):
        files = random.randint(1, 4)
        folder = tmp_path / str(tried)
        folder.mkdir()
        for number in range(files):
            table = rewritten(random)
            pq.write_table(table, folder / f"{number}.parquet", **options(random))
        found, loader = batches(folder, files)
        assert all(equal(*pair) for pair in zip(found, plain[files], strict=True)), folder
        written = [table for _, table in loader.tables()]
        assert sum(kept.table.num_rows for kept in written) == 8 * files, folder


@pytest.mark.slow
def test_random_types_have_one_wider_one_or_none_whatever_the_order(tmp_path):
    random = Random(1)
    leaf = [*INTEGERS, "bool", "halffloat", "float", "double", "string", "large_string", "binary", "date32", "null"]
    leaf += ["decimal128(9, 2)", "decimal128(38, 0)", "timestamp[ms]", "dictionary<string>"]

    def type_of(depth: int) -> str:
        kind = random.choice(["leaf", "leaf", "list", "large_list"]) if depth else "leaf"
        return random.choice(leaf) if kind == "leaf" else f"{kind}<{type_of(depth - 1)}>"

    for _ in range(20_000):
        a, b = parse_type(type_of(2)), parse_type(type_of(2))
        both = widest(a, b)
        assert both == widest(b, a) or both.equals(widest(b, a))
        if both is not None:
            assert widest(both, a) == both and widest(both, b) == both


@pytest.mark.slow
def test_a_damaged_file_is_read_or_refused(tmp_path):
    random = Random(2)
    features = FeatureSchema.model_validate(FEATURES)
    good = tmp_path / "good.parquet"
    pq.write_table(base_rows(), good)
    fitted = fit(features, str(good))
    path, outcomes = tmp_path / "damaged.parquet", {True: 0, False: 0}
    for _ in range(DAMAGED):
        pq.write_table(rewritten(random), path, **options(random))
        content = bytearray(path.read_bytes())
        for _ in range(random.choice([1, 1, 2, 8])):
            content[random.randrange(len(content))] = random.randrange(256)
        if random.random() < 0.1:
            del content[random.randrange(len(content)) :]
        Path(path).write_bytes(content)
        try:
            fit(features, str(path))
            loader = loader_of(str(path), features, fitted, batch_size=8, on_bad_row=random.choice(["skip", "error"]))
            list(loader.batches())
            list(loader.tables())
            open_source(str(path)).columns.whole(())
            outcomes[True] += 1
        except InputError as error:
            outcomes[False] += 1
            assert len(str(error)) < 5000
    assert min(outcomes.values()) > 50
