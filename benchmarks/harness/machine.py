"""What the numbers are to be read against. Out: versions and hardware, measured matmul ceiling and copy bandwidth, peak memory.

python -m benchmarks.harness.machine [--device cuda] [--json PATH]
"""

import argparse
import gc
import importlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.harness.result_file import write_result
from interformer_rec.benchmarking import machine
from interformer_rec.benchmarking.machine import copy_bandwidth, matmul_ceiling
from interformer_rec.training.measure.heap import give_back
from interformer_rec.training.measure.memory import held, peak, reset_peak


def facts(device: torch.device) -> dict[str, Any]:
    """Hardware, versions, threads, command, date and load."""
    return {**machine.facts(device), "command": " ".join(["python -m", *_command()])}


def _command() -> list[str]:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return [spec.name if spec is not None else sys.argv[0], *sys.argv[1:]]


def peak_bytes(work: Callable[[], object], device: torch.device) -> int | None:
    """Bytes that `work` needs at its peak beyond what was there; CPU: resident memory, None where the system cannot say."""
    gc.collect()
    give_back()  # what other alternatives left in the allocator is not ours
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    if not reset_peak(device):
        return None
    before = held(device)
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    after = peak(device)
    return None if before is None or after is None else after - before


def _gpu() -> str | None:
    """The driver's own words about the GPUs; None without its tool."""
    fields = "name,driver_version,memory.total,clocks.max.sm,clocks.sm,power.limit,temperature.gpu"
    try:
        asked = subprocess.run(
            ["nvidia-smi", f"--query-gpu={fields}", "--format=csv"], capture_output=True, encoding="utf-8", timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return asked.stdout.strip() or asked.stderr.strip()


def _importable(name: str) -> str:
    try:
        importlib.import_module(name)
    except Exception as error:  # a library that does not fit fails in its own way
        return f"{type(error).__name__}: {str(error).strip()[:200]}"
    return "imports"


def main() -> None:
    """Print and write everything; ceilings as cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json")
    options = parser.parse_args()
    device = torch.device(options.device)
    result: dict[str, Any] = {"benchmark": "machine", **facts(device), "gpu": _gpu(), "cuda": torch.version.cuda}
    result["packages"] = {name: _importable(name) for name in ("triton", "torchrec", "fbgemm_gpu")}
    products = {str(dtype): matmul_ceiling(device, dtype) for dtype in (torch.float32, torch.bfloat16)}
    result["cases"] = [{"ceiling": f"matrix product, {name}", "tflops": rate / 1e12} for name, rate in products.items()]
    result["cases"].append({"ceiling": "copy", "gb_per_second": copy_bandwidth(device) / 1e9})
    for name, value in result.items():
        print(f"{name}: {value}")
    write_result(options.json, result)


if __name__ == "__main__":
    main()
