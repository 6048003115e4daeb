"""Training files among those of validation or test, and written files among those that are read, however they are named."""

from __future__ import annotations

import os
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.data.files.overlap import refuse_overlap, refuse_written
from interformer_rec.errors import InputError
from interformer_rec.storage import Storage
from tests.s3 import s3_server

TABLE = pa.table({"x": [1]})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """data/a.parquet and b.parquet, apart/c.parquet, and a link and a hard link to b; the working folder is theirs."""
    for name in ("data/a", "data/b", "apart/c"):
        path = tmp_path / f"{name}.parquet"
        path.parent.mkdir(exist_ok=True)
        pq.write_table(TABLE, path)
    (tmp_path / "link.parquet").symlink_to(tmp_path / "data" / "b.parquet")
    os.link(tmp_path / "data" / "b.parquet", tmp_path / "hard.parquet")
    (tmp_path / "linked").symlink_to(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("key", ["data.valid", "data.test"])
@pytest.mark.parametrize(
    "train, other",
    [
        ("data", "data/b.parquet"),
        ("data/*.parquet", "data/b.parquet"),
        ("data/b.parquet", "data"),
        ("data", "link.parquet"),
        ("link.parquet", "hard.parquet"),
        ("data", "linked/b.parquet"),
        ("linked", "data/../data/b.parquet"),
        ("**/b.parquet", "data/b.parquet"),
        ("data", "file://{folder}/data/b.parquet"),
        ("file://{folder}/data/*.parquet", "link.parquet"),
        ("local://{folder}/data/b.parquet", "data/b.parquet"),
    ],
)
def test_the_same_file_is_refused_by_name(folder, train, other, key):
    train, other = train.format(folder=folder), other.format(folder=folder)
    with pytest.raises(InputError, match=rf"{key} has a file of data.train: '.*\.parquet'.*Name other files in {key}"):
        refuse_overlap(train, {key: other})


def test_other_files_pass_and_valid_and_test_may_be_the_same(folder):
    refuse_overlap("data", {"data.valid": "apart", "data.test": "apart/c.parquet"})
    refuse_overlap("data/a.parquet", {"data.valid": "data/b.parquet", "data.test": None})
    refuse_overlap(None, {"data.valid": "data"})
    refuse_overlap("no such file", {"data.valid": None})


def test_the_message_has_both_names_and_counts_the_rest(folder):
    with pytest.raises(InputError) as caught:
        refuse_overlap("data", {"data.valid": "linked"})
    said = str(caught.value)
    assert f"'{folder}/linked/a.parquet', which data.train reads as '{folder}/data/a.parquet' and 1 more" in said


def test_stores_are_compared_by_their_names(folder):
    memory = fsspec.filesystem("memory")
    for name in ("bucket/a.parquet", "bucket/b.parquet"):
        with memory.open(name, "wb") as file:
            pq.write_table(TABLE, file)
    with pytest.raises(InputError, match=r"data.test has a file of data.train"):
        refuse_overlap("memory://bucket/*.parquet", {"data.valid": None, "data.test": "memory://bucket/b.parquet"})
    refuse_overlap("memory://bucket/a.parquet", {"data.valid": "memory://bucket/b.parquet", "data.test": "data"})
    memory.rm("/bucket", recursive=True)
    with s3_server() as server:
        pq.write_table(TABLE, "bucket/overlap/a.parquet", filesystem=server.client)
        with pytest.raises(InputError, match=r"data.valid has a file of data.train: 'bucket/overlap/a.parquet'"):
            refuse_overlap(server.uri("overlap"), {"data.valid": server.uri("overlap/*.parquet")})
        server.client.delete_file("bucket/overlap/a.parquet")  # the store is one for all tests of a process


@pytest.mark.parametrize(
    "data, place",
    [
        ("data", "data"),
        ("data", "data/runs/first"),
        ("data", "apart/../data/runs"),
        ("data", "linked/runs"),
        ("linked", "data/runs"),
        (".", "runs/first"),
        ("data/**/*.parquet", "data/runs"),
        ("data/*/*/*.parquet", "linked/runs"),
        ("file://{folder}/data", "data/runs"),
        ("data", "file://{folder}/data/runs"),
        ("local://{folder}/data", "data/runs"),
    ],
)
def test_a_folder_among_the_rows_is_refused(folder, data, place):
    data, opened = data.format(folder=folder), Storage.open(place.format(folder=folder))
    with pytest.raises(
        InputError, match=r"training.out '.*' lies among the files of data.train .*features/user.parquet"
    ):
        refuse_written("training.out", opened, ["features/user.parquet"], {"data.valid": None, "data.train": data})


@pytest.mark.parametrize(
    "data, place",
    [
        ("data", "data2"),
        ("data", "runs"),
        ("data/*.parquet", "data/runs"),
        ("data", "data/_runs/first"),
        ("data", "data/.runs"),
        ("data/a.parquet", "data/runs"),
        ("data/a.parquet", "data/a.parquet/runs"),
        ("apart/c.parquet", "."),
        ("data", "memory://bucket/data/runs"),
        ("memory://bucket/data", "memory://bucket/runs"),
    ],
)
def test_a_folder_beside_the_rows_passes(folder, data, place):
    refuse_written("training.out", Storage.open(place), ["features/user.parquet"], {"data.train": data})


def test_a_folder_of_a_store_among_the_rows_is_refused(folder):
    for data in ("memory://bucket/data", "memory://bucket/data/**"):
        with pytest.raises(InputError, match=r"lies among the files of data\.test"):
            refuse_written("--out", Storage.open("memory://bucket/data/x"), ["part-0.parquet"], {"data.test": data})
