"""Launches written down come in; what the compiler made of them goes out: registers, shared memory, spills. Needs no GPU.

Compiled as the runtime would: the same types, the same constants, the same hints that a pointer or a number divides by 16.
"""

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from interformer_rec.ops.triton.launch import Launch, options

# Bytes of shared memory that one program may have (CUDA C++ Programming Guide, compute capabilities).
SHARED_LIMIT = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}
_POINTERS = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.int32: "*i32",
    torch.int64: "*i64",
}
_TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


class Facts(NamedTuple):
    """One kernel compiled for one capability: registers a thread, bytes of shared memory a program, spilled bytes a thread."""

    kernel: str
    capability: int
    warps: int
    stages: int
    registers: int
    shared: int
    spilled: int
    # the matrix instruction of its SASS: UTCHMMA (Blackwell's), HGMMA (Hopper's), HMMA (older), or none
    tensor_core: str


def _signature(launch: Launch) -> tuple[dict[str, str], dict[str, Any], dict[tuple[int, ...], Any]]:
    kernel = launch.kernel
    plain = {kernel.params[i].name for i in range(len(kernel.params)) if kernel.params[i].do_not_specialize}
    signature: dict[str, str] = {}
    constants, hints = dict(launch.constants), dict[tuple[int, ...], Any]()
    for place, name in enumerate(kernel.arg_names):
        value = launch.arguments.get(name)
        if name in launch.constants:
            signature[name] = "constexpr"
        elif isinstance(value, Tensor):
            signature[name] = _POINTERS[value.dtype]
            hints[(place,)] = [["tt.divisibility", 16]]
        elif isinstance(value, float):
            signature[name] = "fp32"
        elif value == 1 and name not in plain:
            signature[name], constants[name] = "constexpr", 1
        else:
            signature[name] = "i32"
            if name not in plain and value is not None and value % 16 == 0:
                hints[(place,)] = [["tt.divisibility", 16]]
    return signature, constants, hints


def compile_launch(launch: Launch, capability: int) -> Facts:
    """Compile one launch for sm_80, sm_90 or sm_100 and read the machine code's resource usage."""
    signature, constants, hints = _signature(launch)
    kernel = triton.compile(
        ASTSource(launch.kernel, signature, constants, hints),
        target=GPUTarget("cuda", capability, 32),
        options=options(launch.warps, launch.stages),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(kernel.asm["cubin"])
        usage = _ask("cuobjdump", "--dump-resource-usage", path)
        sass = _ask("cuobjdump", "--dump-sass", path)
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    assert found, f"cuobjdump says nothing about registers: {usage}"
    matrix = next((name for name in ("UTCHMMA", "HGMMA", "HMMA") if name in sass), "none")
    registers, stack = (int(x) for x in found.groups())
    return Facts(
        launch.kernel.__name__,
        capability,
        launch.warps,
        launch.stages,
        registers,
        kernel.metadata.shared,
        stack,
        matrix,
    )


def _ask(tool: str, option: str, path: Path) -> str:
    return subprocess.run([_TOOLS / tool, option, path], capture_output=True, encoding="utf-8", check=True).stdout
