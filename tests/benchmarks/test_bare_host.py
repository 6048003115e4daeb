"""A GPU host without TorchRec, FBGEMM and matplotlib can still run the dense part's benchmarks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

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


KERNELS = "--operators ffn,norm --lengths 8 --d 16 --tokens 100 --rows 100 --rounds 2 --threads 1 --device cpu --without compiled"


def cases(tmp_path: Path, *command: str) -> list[dict[str, object]]:
    result = tmp_path / "result.json"
    ran = bare(*command, "--json", str(result))
    assert ran.returncode == 0, ran.stderr
    return json.loads(result.read_text())["cases"]


def test_the_models_run_on_a_bare_host(tmp_path):
    found = cases(tmp_path, "benchmarks.seq_length", *SEQ_LENGTH.split())
    assert [case["variant"] for case in found] == ["jagged", "padded"] and all(case["p50_ms"] > 0 for case in found)


def test_the_operators_run_on_a_bare_host(tmp_path):
    """FBGEMM's way is missing, and says so; the others have numbers."""
    found = cases(tmp_path, "benchmarks.kernels", *KERNELS.split())
    missing = [case for case in found if "error" in case]
    assert [case["alternative"] for case in missing] == ["FBGEMM jagged_dense_bmm"]
    assert "a bare host has no fbgemm_gpu" in missing[0]["error"]
    assert {case["operator"] for case in found if case.get("p50_ms", 0) > 0} == {"ffn", "norm"}


def test_the_bare_host_is_bare():
    assert "a bare host has no torchrec" in bare("benchmarks.embeddings", "--help").stderr
