"""Bytes that this process holds now and held at most. In: a device; out: numbers from the system, torch or glibc.

On a CPU memory is the resident set, of which Linux keeps the highest value; on CUDA what torch's allocator has handed out. None
where the system does not tell.
"""

import ctypes
import platform
from pathlib import Path

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def held(device: torch.device) -> int | None:
    """Bytes now."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else _status("VmRSS")


def peak(device: torch.device) -> int | None:
    """Highest number of bytes since the process began, or since `reset_peak`."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _status("VmHWM")


def reset_peak(device: torch.device) -> bool:
    """Forget the peak so far; False where that cannot be."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        CLEAR.write_text("5", encoding="utf-8")  # proc(5): sets VmHWM to the resident set
    except OSError:
        return False
    return True


class _Mallinfo(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]  # fmt: skip


def malloc_bytes() -> tuple[int, int] | None:
    """(in use, free but kept) of glibc's malloc: the second is what the program gave back and the system did not get."""
    if platform.libc_ver()[0] != "glibc":
        return None
    read = getattr(ctypes.CDLL(None), "mallinfo2", None)  # since glibc 2.33
    if read is None:
        return None
    read.restype = _Mallinfo
    info = read()
    return info.uordblks + info.hblkhd, info.fordblks


def _status(key: str) -> int | None:
    """Of /proc/self/status, in bytes."""
    try:
        lines = STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith(f"{key}:")), None)
