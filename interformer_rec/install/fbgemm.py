"""FBGEMM on a host that may be unable to load it: says why not and what to do, and plans without it.

In: nothing, or the text of an error; out: FBGEMM loaded, an InputError in one paragraph, or modules that stand in for its Python
names. FBGEMM's CUDA wheel is linked to libnvidia-ml.so.1, which comes with the NVIDIA driver: on a login node, in an image build or
on a CI runner there is none, and TorchRec's import fails with it. Planning takes TorchRec's types only, no operator of FBGEMM.
"""

import functools
import importlib
import importlib.machinery
import logging
import os
import re
import shlex
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from types import ModuleType
from typing import Any

from interformer_rec.errors import InputError
from interformer_rec.install import stack

PACKAGE = "fbgemm_gpu"
# They come with the NVIDIA driver and in no package of pip's.
DRIVER_LIBRARIES = ("libnvidia-ml.so", "libcuda.so", "libnvidia-ptxjitcompiler.so", "libnvidia-nvvm.so")
NEED_NO_TORCH = ("doctor", "config", "inspect", "data")
WORKS_WITHOUT = (*NEED_NO_TORCH, "plan", "plan diff", "plan score", "plan improve")
NEEDS_IT = ("train", "tune", "evaluate", "predict", "export")


def missing_library(error: str) -> str | None:
    """The shared library that the dynamic linker did not find, from its message; None if the message is another one."""
    found = re.search(r"([\w.+-]+\.so[\w.]*): cannot open shared object file", error)
    return found.group(1) if found else None


def explain(error: str, found: stack.Installed) -> tuple[str, tuple[str, ...]]:
    """What the error of FBGEMM's import means on this machine, and what to do, in order of preference: problem, cure."""
    library = missing_library(error)
    build = f"{stack.CUDA} {found.fbgemm_cuda}" if found.fbgemm_cuda else f"{stack.CPU} {found.fbgemm_cpu}"
    if library is None:
        return f"FBGEMM ({build}) cannot load here: {error}", stack.cure(found)
    if not library.startswith(DRIVER_LIBRARIES):
        return f"FBGEMM ({build}) cannot load here: the shared library {library} is missing", stack.cure(found)
    problem = f"FBGEMM ({build}) cannot load here: the shared library {library} is missing, a part of the NVIDIA driver"
    if found.gpu:
        return f"{problem}; the driver is loaded, but this environment does not see its libraries", (
            "in a container: start it with --gpus all and NVIDIA_DRIVER_CAPABILITIES=compute,utility; elsewhere: install the "
            "driver's user libraries or add their folder to LD_LIBRARY_PATH. Nothing is wrong with the Python packages",
        )
    return problem, (
        f"run {_list(NEEDS_IT)} on a host with an NVIDIA driver (in a container: --gpus all). This installation is the right "
        f"one for such a host: do not reinstall it",
        f"or, to train on the CPU of a host without a driver, install the CPU variant into an environment of its own: {_cpu_variant()}",
        f"or, where FBGEMM has to load without a driver (a test of an image), build a stand-in for {library}: "
        f"docs/guides/laptop-to-cluster.md",
    )


def _cpu_variant() -> str:
    if (stack.ROOT / "requirements" / "install.py").is_file():
        return "make setup VARIANT=cpu"
    wanted, torchrec = stack.pins("cpu")
    pip = f"{shlex.quote(sys.executable)} -m pip install"
    return f"{pip} {wanted} && {pip} --no-deps {torchrec}"


def _list(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


@functools.cache
def require() -> None:
    """Call right before the first `import torchrec`: FBGEMM is loaded, or stands in for (`plan_without`).

    Raises InputError, with the clash or the missing library and the cure, where TorchRec's import would fail without a word.
    """
    if any(isinstance(finder, _StandIns) for finder in sys.meta_path):
        return
    stack.require_torchrec()
    error = _load()
    if error is not None:
        problem, cure = explain(error, stack.read())
        steps = "\n".join(f"  {line}" for line in cure)
        raise InputError(
            f"{problem}.\nWithout it {_list(WORKS_WITHOUT)} work, {_list(NEEDS_IT)} do not.\nTo cure it:\n{steps}"
        )


def plan_without() -> None:
    """Before a command that only plans: where FBGEMM cannot load, let modules stand in for it, so that TorchRec's import works.

    Raises InputError where torch or TorchRec themselves are missing or do not fit each other.
    """
    verdict = stack.judge(stack.read())
    unchecked = os.environ.get(stack.UNCHECKED) == "1"
    if verdict.problems and not unchecked and stack.problems_beside_fbgemm(stack.read()):
        stack.require_torchrec()
    if (verdict.problems and not unchecked) or _load() is not None:
        sys.meta_path.insert(0, _StandIns())


def _load() -> str | None:
    """Import FBGEMM; None, or why that failed."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # FBGEMM logs the error that it raises
    try:
        importlib.import_module(PACKAGE)
    except Exception as error:
        for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
            del sys.modules[name]
        return str(error) or type(error).__name__
    finally:
        logging.disable(before)
    return None


class _StandIn(type):
    """The type of every name: it has any attribute, and only a call of it fails."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = _StandIn(f"{cls.__name__}.{name}", (), {"__module__": cls.__module__})
        setattr(cls, name, value)
        return value

    def __call__(cls, *arguments: object, **named: object) -> Any:
        raise RuntimeError(
            f"{cls.__module__}.{cls.__name__} is needed, but FBGEMM is not loaded in a process that plans"
        )


class _Module(ModuleType):
    """A module of FBGEMM that has any name."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = _StandIn(name, (), {"__module__": self.__name__})
        setattr(self, name, value)
        return value


class _StandIns(MetaPathFinder, Loader):
    """Finds every module of FBGEMM and loads none of its code."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        """A package, whatever it is there: its submodules are asked for next."""
        if name.split(".")[0] != PACKAGE:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """An empty one."""
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run."""
