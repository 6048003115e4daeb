"""The parts of gpu_suite: a device comes in; each part's command goes out, in the order that finds faults soonest."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from importlib.util import find_spec

_KERNELS = "-m benchmarks.kernels --dtypes bf16 --fill 0.5 --case-seconds 10"
_MODELS = "-m benchmarks.seq_length --precision bf16 --events 131072 --case-seconds 30"
_TARGET = f"{_MODELS} --workload wide --lengths 1024 --distributions zipf --fill 0.5"
_ATTENTION = "--operators attention,attention_rotary"
# Each is to end well below the suite's limit; most of the time goes into compiling what ours is compared with.
_FULL = {
    "tests": "-m pytest -q -p no:cacheprovider -m gpu tests/ops",
    "target": f"{_TARGET} --variants 'jagged;padded'",
    "kernels_attention": f"{_KERNELS} {_ATTENTION} --d 256 --heads 4 --lengths 256,1024,4096",
    "kernels_attention_wide": f"{_KERNELS} {_ATTENTION} --d 128,256 --heads 1,2 --lengths 1024",
    "kernels_ffn": f"{_KERNELS} --operators ffn,pool --d 128,256 --lengths 256,1024",
    "kernels_rows": f"{_KERNELS} --operators prepend,summary,norm,gate,gram --d 128,256 --lengths 1024",
    # a model takes minutes to compile: apart, so that the target's number does not wait for it
    "target_compiled": f"{_TARGET} --variants 'jagged;padded, compiled'",
    "ours_compiled": f"{_TARGET} --variants 'jagged;jagged, compiled'",
    "lengths": f"{_MODELS} --workload wide --lengths 64,256,1024,4096,16384 --distributions fixed,zipf --variants 'jagged;padded'",
    "industrial": f"{_MODELS} --workload industrial --lengths 256 --distributions data,zipf --variants 'jagged;padded'",
    "overlap": f"{_TARGET} --variants 'jagged;jagged, overlap'",
    "embeddings": "-m benchmarks.embeddings --dims 64,128,256 --pooling 1,20 --table-rows 10000000 --lookups 1048576",
}

_SMALL_KERNELS = (
    "-m benchmarks.kernels --lengths 24 --d 32 --tokens 400 --rows 400 --rounds 2 --threads 1 --without compiled"
)
_SMALL_MODELS = "-m benchmarks.seq_length --workload tiny --events 64 --rounds 2 --threads 1 --distributions zipf"
_QUICK = {
    "tests": "-m pytest -q -p no:cacheprovider tests/ops/test_jagged.py",
    "target": f"{_SMALL_MODELS} --lengths 8 --fill 0.5",
    "kernels_attention": f"{_SMALL_KERNELS} {_ATTENTION}",
    "kernels_ffn": f"{_SMALL_KERNELS} --operators ffn,pool",
    "kernels_rows": f"{_SMALL_KERNELS} --operators prepend,summary,norm,gate,gram",
    "lengths": f"{_SMALL_MODELS} --lengths 4,8",
    "overlap": f"{_SMALL_MODELS} --lengths 8 --variants 'jagged;jagged, overlap'",
    "embeddings": "-m benchmarks.embeddings --dims 8 --pooling 4 --table-rows 1000 --lookups 64 --rounds 2",
}


@dataclass(frozen=True)
class Part:
    """Arguments of python; `missing` says why it cannot run here."""

    arguments: list[str]
    writes: bool = True  # takes --json PATH
    missing: str = ""


def parts(device: str, quick: bool) -> dict[str, Part]:
    """All parts; `quick` ones take seconds and need no GPU."""
    found = {"environment": Part(["-m", "benchmarks.harness.machine", "--device", device])}
    for name, command in (_QUICK if quick else _FULL).items():
        own = [] if name == "tests" else ["--device", device]
        found[name] = Part([*shlex.split(command), *own], writes=name != "tests")
    absent = [name for name in ("torchrec", "fbgemm_gpu") if find_spec(name) is None]
    if absent:
        found["embeddings"] = Part([], missing=f"{' and '.join(absent)} not installed")
    return found
