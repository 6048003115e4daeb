"""A GPU host without TorchRec, FBGEMM and matplotlib can still run the dense part's benchmarks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Imports of what a bare host lacks fail here as they do there; modules run one after the other as `python -m` would run them.
BARE = """
import importlib.abc, json, runpy, sys, traceback

class Bare(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torchrec", "fbgemm_gpu", "tensordict", "matplotlib", "pyarrow"}:
            raise ModuleNotFoundError(f"a bare host has no {name}")

sys.meta_path.insert(0, Bare())
for command in json.loads(sys.argv[1]):
    sys.argv = command
    try:
        runpy.run_module(command[0], run_name="__main__", alter_sys=True)
    except (SystemExit, ModuleNotFoundError):
        traceback.print_exc()
"""
SEQ_LENGTH = "--workload tiny --lengths 8 --distributions zipf --events 64 --rounds 2 --threads 1 --device cpu"
KERNELS = "--operators ffn,norm --lengths 8 --d 16 --tokens 100 --rows 100 --rounds 2 --threads 1 --device cpu --without compiled"


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Where the results of both benchmarks are, and what was printed on stderr. One process: it loads torch once."""
    out = tmp_path_factory.mktemp("bare")
    commands = [
        ["benchmarks.embeddings", "--help"],
        ["benchmarks.seq_length", *SEQ_LENGTH.split(), "--json", str(out / "models.json")],
        ["benchmarks.kernels", *KERNELS.split(), "--json", str(out / "operators.json")],
    ]
    ran = subprocess.run([sys.executable, "-c", BARE, json.dumps(commands)], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return out, ran.stderr


def cases(host: tuple[Path, str], name: str) -> list[dict[str, object]]:
    out, printed = host
    assert (out / name).exists(), printed
    return json.loads((out / name).read_text())["cases"]


def test_the_models_run_on_a_bare_host(host):
    found = cases(host, "models.json")
    assert [case["variant"] for case in found] == ["jagged", "padded"] and all(case["p50_ms"] > 0 for case in found)


def test_the_operators_run_on_a_bare_host(host):
    """FBGEMM's way is missing, and says so; the others have numbers."""
    found = cases(host, "operators.json")
    missing = [case for case in found if "error" in case]
    assert [case["alternative"] for case in missing] == ["FBGEMM jagged_dense_bmm"]
    assert "a bare host has no fbgemm_gpu" in missing[0]["error"]
    assert {case["operator"] for case in found if case.get("p50_ms", 0) > 0} == {"ffn", "norm"}


def test_the_bare_host_is_bare(host):
    assert "a bare host has no torchrec" in host[1]
