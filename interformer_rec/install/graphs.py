"""Which runtimes' graphs can be made and run here. In: PATH and the installed packages; out: names and what is missing."""

import shutil
from importlib.util import find_spec

COMPILERS = ("g++", "clang++", "c++")  # AOTInductor wants one where it compiles
ONNX = ("onnx", "onnxscript", "onnxruntime")


def compiler() -> str | None:
    """The C++ compiler on PATH."""
    return next((name for name in COMPILERS if shutil.which(name)), None)


def missing_for_onnx() -> list[str]:
    """Packages that are not installed."""
    return [name for name in ONNX if find_spec(name) is None]


def torch_is_here() -> bool:
    """Whether what needs torch can run: AOTInductor's graphs, and the modules as they are."""
    try:
        return find_spec("torch") is not None
    except ImportError:
        return False


def automatic() -> tuple[str, ...]:
    """What `--runtime auto` makes, the preferred one first; without any the modules run as they are."""
    return (*(("aoti",) if compiler() else ()), *(() if missing_for_onnx() else ("onnx",)))


def sentence() -> str:
    """For doctor."""
    found = compiler()
    compiled = f"AOTInductor ({found})" if found else f"no AOTInductor ({', '.join(COMPILERS)}: none is on PATH)"
    missing = missing_for_onnx()
    onnx = f"no ONNX (not installed: {', '.join(missing)})" if missing else "ONNX"
    return f"interformer export --runtime auto makes: {compiled}, {onnx}"
