"""A GPU host without TorchRec, FBGEMM and matplotlib can still run the dense part's benchmarks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Imports of what a bare host lacks fail here as they do there; the module named first runs as `python -m` would run it.
BARE = """
import importlib.abc, runpy, sys

class Bare(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torchrec", "fbgemm_gpu", "tensordict", "matplotlib", "pyarrow"}:
            raise ModuleNotFoundError(f"a bare host has no {name}")

sys.meta_path.insert(0, Bare())
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def bare(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", BARE, *command], cwd=ROOT, capture_output=True, text=True)


SEQ_LENGTH = "--workload tiny --lengths 8 --distributions zipf --events 64 --rounds 2 --threads 1 --device cpu"


@pytest.mark.parametrize("command", [f"benchmarks.seq_length {SEQ_LENGTH}"], ids=["seq_length"])
def test_runs_on_a_bare_host(command, tmp_path):
    result = tmp_path / "result.json"
    ran = bare(*command.split(), "--json", str(result))
    assert ran.returncode == 0, ran.stderr
    found = json.loads(result.read_text())
    assert found["cases"] and all(case["p50_ms"] > 0 for case in found["cases"])


def test_the_bare_host_is_bare():
    assert "a bare host has no torchrec" in bare("benchmarks.embeddings", "--help").stderr
