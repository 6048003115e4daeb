"""What an evaluation adds to a checkpoint."""

from __future__ import annotations

import math

import pytest

from interformer_rec.checkpoint.evaluated import FILE, Evaluated, Score
from interformer_rec.checkpoint.manifest import Manifest
from interformer_rec.errors import DamagedError
from interformer_rec.storage import Storage


def test_an_evaluation_is_added_to_its_checkpoint_whole_or_not_at_all(tmp_path):
    manifest = Manifest(Storage.open(tmp_path), {}, None, sha256="a" * 64)
    assert Evaluated.read(manifest) is None
    evaluated = Evaluated(Score("click/auc", True, 0.5), {"evaluate": False, "progress": {"value": 0.5}})
    evaluated.write(manifest)
    assert Evaluated.read(manifest) == evaluated
    written = (tmp_path / FILE).read_bytes()
    for damaged in (written[:-3], written.replace(b"0.5", b"0.7"), b"[]", b"\xff", b"{}", b"[" * 100_000):
        (tmp_path / FILE).write_bytes(damaged)
        with pytest.raises(DamagedError, match=FILE):
            Evaluated.read(manifest)
    (tmp_path / FILE).write_bytes(written)
    with pytest.raises(DamagedError, match="belongs to another checkpoint"):
        Evaluated.read(Manifest(Storage.open(tmp_path), {}, None, sha256="b" * 64))


def test_a_value_that_is_not_defined_stays_so(tmp_path):
    manifest = Manifest(Storage.open(tmp_path), {}, None, sha256="a" * 64)
    Evaluated(Score("click/auc", True, math.nan), {"evaluation": {"click/auc": math.nan}}).write(manifest)
    found = Evaluated.read(manifest)
    assert (
        math.isnan(found.score.value) and found.score.key is None and found.state == {"evaluation": {"click/auc": None}}
    )


@pytest.mark.parametrize("higher, better, worse", [(True, 0.8, 0.7), (False, 0.4, 0.5), (False, -1.0, 0.0)])
def test_keys_order_values(higher, better, worse):
    assert Score("m", higher, better).key > Score("m", higher, worse).key
