"""What the numbers are to be read against. Out: versions and hardware, measured matmul ceiling and copy bandwidth. Needs torch alone."""

from __future__ import annotations

import functools
import os
import platform
import time
from collections.abc import Callable
from importlib import metadata
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from interformer_rec.distributed.environment import Environment

REPEATS = 7  # after one that warms up
PACKAGES = ("torch", "triton", "torchrec", "fbgemm-gpu", "fbgemm-gpu-cpu", "numpy")


def facts(device: torch.device) -> dict[str, Any]:
    """Hardware, versions, threads, date, load."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": versions,
        "date": time.strftime("%Y-%m-%d"),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def ceilings(env: Environment) -> dict[str, float]:
    """Of the slowest rank while all do the same (collective): FLOP/s of large products in fp32 and bf16, bytes/s of a copy, threads."""
    device = env.device
    own = [
        matmul_ceiling(device, torch.float32),
        matmul_ceiling(device, torch.bfloat16) if device.type == "cuda" else 0.0,
        copy_bandwidth(device),
    ]
    found = torch.tensor(own, dtype=torch.float64, device=device)
    torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MIN)
    fp32, bf16, copy = found.tolist()
    return {"fp32": fp32, "bf16": bf16 or fp32, "copy": copy, "threads": torch.get_num_threads()}


def matmul_ceiling(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of square matrix products, the best of several sizes: what this machine reaches, not what its vendor says."""
    sizes = (4096, 8192, 12288) if device.type == "cuda" else (512, 1024)
    if device.type != "cuda" and torch.get_num_threads() > 1:
        sizes = (*sizes, 2048)  # a thread alone is as fast with the smaller ones
    best = 0.0
    for size in sizes:
        a = torch.randn(size, size, device=device, dtype=dtype)
        b = torch.randn(size, size, device=device, dtype=dtype)
        best = max(best, 2 * size**3 / _fastest(functools.partial(torch.mm, a, b), device))
    return best


def copy_bandwidth(device: torch.device) -> float:
    """Bytes read and written a second by copying a large tensor."""
    size = (1 << 30) if device.type == "cuda" else (1 << 25)  # 128 MiB, beyond the caches
    source = torch.ones(size, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() * source.element_size() / _fastest(lambda: target.copy_(source), device)


def _fastest(work: Callable[[], object], device: torch.device) -> float:
    times = []
    for _ in range(REPEATS + 1):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times[1:])
