"""Errors as a reader sees them: memory that ran out is a sentence that says what to do."""

import resource
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest

from interformer_rec.errors import InputError, paragraph, readable
from tests.training.runs import CLI

CONFIG = Path(__file__).parents[1] / "configs" / "ml_100k.yaml"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        pa.ArrowMemoryError("malloc of size 99 failed"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        ),
        OSError(12, "Cannot allocate memory"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        RuntimeError("can't start new thread"),
    ],
)
def test_memory_that_ran_out(error, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    said = paragraph("train", readable(error), debug=True)
    assert "there was not enough memory" in said and "Smaller data.batch_size" in said
    monkeypatch.setattr(resource, "getrlimit", lambda _: (2 << 30, 2 << 30))
    limited = readable(error)
    assert isinstance(limited, InputError) and "A limit of 2.0 GiB of address space is set" in str(limited)


def test_an_address_space_that_torch_does_not_fit_into():
    command = ["bash", "-c", 'ulimit -v 350000; "$@"', "-", *CLI, "train", str(CONFIG)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "raise it (ulimit -v unlimited)" in done.stderr and "Traceback" not in done.stderr


def test_other_errors_stay():
    error = ValueError("no memory of it")
    assert readable(error) is error
