"""S3, against a server of its protocol, on loopback: every request is counted."""

from __future__ import annotations

import functools
import operator
from collections import Counter
from collections.abc import Iterator

import pyarrow.parquet as pq
import pytest

from interformer_rec.data.files.source import open_source
from interformer_rec.data.fit import fit
from interformer_rec.errors import InputError
from tests.data.samples import loader_of, numbered, numbered_table
from tests.s3 import Store, s3_server


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    """A bucket with three files of 4 row groups of 25 rows each, under train/."""
    with s3_server() as server:
        for number in range(3):
            table = numbered_table(100 * number, 100 * number + 100)
            pq.write_table(table, f"bucket/train/part-{number}.parquet", filesystem=server.client, row_group_size=25)
        with server.client.open_output_stream("bucket/train/_SUCCESS"):
            pass
        yield server


@pytest.mark.parametrize("key", ["train", "train/", "train/*.parquet", "**/part-[012].parquet"])
def test_a_directory_and_globs(store, key):
    source = open_source(store.uri(key))
    assert source.files == tuple(f"bucket/train/part-{n}.parquet" for n in range(3)) and source.rows == 300


def test_the_endpoint_may_come_from_the_environment(store, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{store.endpoint}")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    assert open_source("s3://bucket/train/part-1.parquet").rows == 100


def test_an_epoch_from_s3_is_an_epoch_from_disk(store, tmp_path):
    for number in range(3):
        pq.write_table(
            numbered_table(100 * number, 100 * number + 100), tmp_path / f"part-{number}.parquet", row_group_size=25
        )
    features = numbered()
    rows = []
    for path in (store.uri("train"), str(tmp_path)):
        loader = loader_of(path, features, fit(features, path), batch_size=32, shuffle_rows=60, workers=2)
        rows.append([batch.dense[:, 0].tolist() for batch, _ in loader.batches()])
    assert rows[0] == rows[1] and sorted(functools.reduce(operator.iadd, rows[0], [])) == list(range(300))


def test_requests_are_a_few_a_file_and_one_or_so_a_row_group(store):
    features = numbered()
    fitted = fit(features, store.uri("train"))
    store.requests.clear()
    loader = loader_of(store.uri("train"), features, fitted, batch_size=300, workers=1)
    opened = Counter(method for method, path in store.requests if "part-" in path)
    assert opened["HEAD"] <= 3 and 3 <= opened["GET"] <= 2 * 3
    store.requests.clear()
    list(loader.batches())
    read = Counter(method for method, path in store.requests if "part-" in path)
    assert read["HEAD"] == 0 and 3 <= read["GET"] <= 12  # 12 row groups of 4 columns


def test_what_is_not_there(store):
    with pytest.raises(InputError, match="there is no file or directory 's3://bucket/nothing"):
        open_source(store.uri("nothing"))
    with pytest.raises(InputError, match="no file matches"):
        open_source(store.uri("train/*.csv"))
    with pytest.raises(InputError, match=r"cannot reach|there is no file"):
        open_source(store.uri("train").replace("s3://bucket", "s3://no-such-bucket"))
