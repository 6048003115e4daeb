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
