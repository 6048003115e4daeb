"""What an evaluation adds to a checkpoint."""

from __future__ import annotations

from interformer_rec.distributed.evaluated import FILE, Evaluated
from interformer_rec.storage import Storage


def test_an_evaluation_is_added_to_its_checkpoint_whole_or_not_at_all(tmp_path):
    folder = Storage.open(tmp_path)
    assert Evaluated.read(folder) is None
    Evaluated(True, {"evaluate": False, "progress": {"best": 0.5}}).write(folder)
    assert Evaluated.read(folder) == Evaluated(True, {"evaluate": False, "progress": {"best": 0.5}})
    written = (tmp_path / FILE).read_bytes()
    for damaged in (written[:-3], written.replace(b"0.5", b"0.7"), b"[]", b"\xff", b"{}", b"[" * 100_000):
        (tmp_path / FILE).write_bytes(damaged)
        assert Evaluated.read(folder) is None, damaged[:20]
