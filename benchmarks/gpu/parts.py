"""The parts of gpu_suite: a device comes in; each part's command goes out, the most telling first."""

import shlex
from dataclasses import dataclass
from importlib.util import find_spec

_KERNELS = "-m benchmarks.kernels --dtypes bf16 --fill 0.5 --case-seconds 5"
_MODELS = "-m benchmarks.seq_length --precision bf16 --events 131072 --case-seconds 15"
_HALF_FULL = f"{_MODELS} --workload wide --distributions zipf --fill 0.5"
_ATTENTION = "--operators attention,attention_rotary"
_WIDE = "--set model.d=256 --set model.heads=4 --set model.embedding_dim=64 --set model.layers=3"
# Each is to end well below the suite's limit for a part; the first six are to fit into ten minutes. Most of the time of those with
# "compiled" in their name goes into compiling what ours is compared with.
_FULL = {
    "tests": "-m pytest -q -p no:cacheprovider -m gpu tests/ops",
    "mfu": f"{_HALF_FULL} --d 256,512 --lengths 256,1024,4096 --variants jagged",
    "requests": f"-m benchmarks.requests --candidates 8,64 --lengths 1024 --batch 4096 --rounds 7 {_WIDE} --set training.precision=bf16",
    "embeddings": "-m benchmarks.embeddings --dims 64,128,256 --pooling 1,20 --table-rows 10000000 --lookups 1048576",
    "kernels_attention": f"{_KERNELS} {_ATTENTION} --d 256 --heads 4 --lengths 256,1024,4096",
    "kernels_ffn": f"{_KERNELS} --operators ffn,pool --d 128,256 --lengths 256,1024",
    "padded": f"{_HALF_FULL} --lengths 1024 --variants 'jagged;padded'",
    "kernels_attention_wide": f"{_KERNELS} {_ATTENTION} --d 128,256 --heads 1,2 --lengths 1024",
    "kernels_rows": f"{_KERNELS} --operators prepend,summary,norm,gate,gram --d 128,256 --lengths 1024",
    "padded_compiled": f"{_HALF_FULL} --lengths 1024 --variants 'jagged;padded, compiled'",
    "ours_compiled": f"{_HALF_FULL} --lengths 1024 --variants 'jagged;jagged, compiled'",
    "lengths": f"{_MODELS} --workload wide --lengths 64,256,1024,4096,16384 --distributions fixed,zipf --variants 'jagged;padded'",
    "industrial": f"{_MODELS} --workload industrial --lengths 256 --distributions data,zipf --variants 'jagged;padded'",
    "overlap": f"{_HALF_FULL} --lengths 1024 --variants 'jagged;jagged, overlap'",
}

_SMALL_KERNELS = (
    "-m benchmarks.kernels --lengths 24 --d 32 --tokens 400 --rows 400 --rounds 2 --threads 1 --without compiled"
)
_SMALL_MODELS = "-m benchmarks.seq_length --workload tiny --events 64 --rounds 2 --threads 1 --distributions zipf"
_QUICK = {
    "tests": "-m pytest -q -p no:cacheprovider tests/ops/test_jagged.py",
    "mfu": f"{_SMALL_MODELS} --d 16,32 --lengths 8 --fill 0.5 --variants jagged",
    "requests": "-m benchmarks.requests --candidates 4 --lengths 8 --batch 32 --rounds 2",
    "embeddings": "-m benchmarks.embeddings --dims 8 --pooling 4 --table-rows 1000 --lookups 64 --rounds 2",
    "kernels_attention": f"{_SMALL_KERNELS} {_ATTENTION}",
    "kernels_ffn": f"{_SMALL_KERNELS} --operators ffn,pool",
    "padded": f"{_SMALL_MODELS} --lengths 8 --fill 0.5",
    "kernels_rows": f"{_SMALL_KERNELS} --operators prepend,summary,norm,gate,gram",
    "lengths": f"{_SMALL_MODELS} --lengths 4,8",
    "overlap": f"{_SMALL_MODELS} --lengths 8 --variants 'jagged;jagged, overlap'",
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
        for name in ("requests", "embeddings"):
            found[name] = Part([], missing=f"{' and '.join(absent)} not installed")
    return found
