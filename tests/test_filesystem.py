"""Paths and URIs become file systems."""

from __future__ import annotations

import time

import pytest

from interformer_rec import filesystem
from interformer_rec.filesystem import open_filesystem


@pytest.mark.parametrize("limit", ["", "&retry_limit_seconds=1"])
def test_a_request_to_a_google_store_that_cannot_be_reached_ends(monkeypatch, limit):
    monkeypatch.setattr(filesystem, "RETRY_SECONDS", 60 if limit else 1)
    store, root = open_filesystem(f"gs://anonymous@bucket/run?endpoint_override=127.0.0.1:1&scheme=http{limit}")
    assert root == "bucket/run"
    start = time.monotonic()
    with pytest.raises(OSError, match=r"(?i)retry policy exhausted"):
        store.get_file_info(root)
    assert time.monotonic() - start < 30


@pytest.mark.parametrize(
    "name, found",
    [
        ("with space", "with space"),
        ("ünï \u96ea", "ünï \u96ea"),
        ("100%", "100%"),
        ("a%20b", "a b"),
        ('<{"|}>^`', '<{"|}>^`'),
    ],
)
def test_a_uri_may_hold_what_a_path_holds(tmp_path, name, found):
    store, root = open_filesystem(f"file://{tmp_path}/{name}/x")
    assert store.type_name == "local" and root == f"{tmp_path}/{found}/x"
    store, root = open_filesystem(f"s3://bucket/{name}/x?region=nowhere")
    assert store.type_name == "s3" and root == f"bucket/{found}/x"
    store, root = open_filesystem(f"memory://bucket/{name}/x")
    assert root == f"/bucket/{name}/x"
