"""The checkpoint that a command uses: the best that is whole, the same on every rank."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from interformer_rec.checkpoint.retention import Checkpoints
from interformer_rec.training.scoring import trained
from tests.forked import command
from tests.hostile.conftest import trained_run

__all__ = ["trained_run"]


def best_first(run: Path) -> list[str]:
    return Checkpoints(run / "checkpoints").ranked().names


def damaged(run: Path, name: str) -> None:
    """The last bit of the tensors: found only when all of them are read."""
    file = run / "checkpoints" / name / "dense.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def test_the_next_best_is_used_with_its_own_weights(trained_run, synthetic, tmp_path, capfd):
    run, data = tmp_path / "run", str(synthetic / "test.parquet")
    shutil.copytree(trained_run, run)
    first, second, _ = best_first(run)
    alone = trained.evaluate(str(run / "checkpoints" / second), data)
    damaged(run, first)
    capfd.readouterr()
    found = trained.evaluate(str(run), data)
    assert found["checkpoint"] == str(run / "checkpoints" / second) and found["label/logloss"] == alone["label/logloss"]
    error = capfd.readouterr().err
    assert f"{first}/dense.safetensors is not what was written" in error
    assert (
        error.count("warning: damaged") == 1
        and f"Used instead, the best of what is whole: {run}/checkpoints/{second}" in error
    )


def test_two_ranks_use_the_same(trained_run, synthetic, tmp_path):
    run, data = tmp_path / "run", str(synthetic / "test.parquet")
    shutil.copytree(trained_run, run)
    first, second, _ = best_first(run)
    damaged(run, first)
    ended = command(2, "evaluate", run, "--data", data, "--json")
    assert [rank.code for rank in ended] == [0, 0], ended
    found = json.loads(ended[0].printed.strip().splitlines()[-1])
    assert found["checkpoint"] == str(run / "checkpoints" / second)
    assert "".join(rank.printed for rank in ended).count("warning: damaged") == 1
    alone = trained.evaluate(str(run / "checkpoints" / second), data)
    assert abs(found["label/logloss"] - alone["label/logloss"]) < 1e-6
