"""What `make setup` installs, and what the package itself asks for: TorchX is a choice, no requirement of who only trains."""

from __future__ import annotations

import importlib.util
import re
import runpy
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import setuptools

ROOT = Path(__file__).parents[2]


@pytest.fixture
def install() -> ModuleType:
    """requirements/install.py as a module; it is a script beside the package."""
    spec = importlib.util.spec_from_file_location("install", ROOT / "requirements" / "install.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What setup.py gives to setuptools."""
    given: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", lambda **options: given.update(options))
    runpy.run_path(str(ROOT / "setup.py"))
    return given


def names(lines: list[str]) -> set[str]:
    return {re.split(r"[<>=!~;\[( ]", line)[0].lower() for line in lines}


@pytest.mark.parametrize("variant", ["cpu", "cuda"])
def test_make_setup_installs_what_searches_launches_and_serves(install, monkeypatch, variant):
    steps: list[tuple[str, ...]] = []
    monkeypatch.setattr(install, "run", lambda *command: steps.append(command))
    install.install(variant, fresh=False)
    files = [word for word in steps[0] if word.endswith(".txt")]
    assert files == [f"requirements/{name}.txt" for name in (variant, "tune", "launch", "serve", "dev")]
    assert all((ROOT / name).is_file() for name in files)


def test_the_check_that_ends_set_up_runs(install, monkeypatch):
    """Its last command imports this package's check by the name that it has."""
    steps: list[tuple[str, ...]] = []
    monkeypatch.setattr(install, "run", lambda *command: steps.append(command))
    install.install("cpu", fresh=False)
    exec(compile(steps[-1][-1], "the last step of set-up", "exec"), {})


def test_what_serves_is_an_extra_and_no_requirement(metadata):
    wanted = {
        "onnx",
        "onnxscript",
        "onnxruntime",
        "starlette",
        "uvicorn",
        "httptools",
        "uvloop",
        "orjson",
        "prometheus-client",
    }
    assert names(metadata["extras_require"]["serve"]) == wanted
    assert wanted <= names(metadata["extras_require"]["dev"])
    assert not wanted & names(metadata["install_requires"])


def test_what_searches_settings_is_an_extra_and_no_requirement(metadata):
    assert names(metadata["extras_require"]["tune"]) == {"optuna"}
    assert all("optuna" in names(metadata["extras_require"][name]) for name in ("bench", "dev"))
    assert "optuna" not in names(metadata["install_requires"])


def test_torchx_is_an_extra_and_no_requirement(metadata):
    assert names(metadata["extras_require"]["launch"]) == {"torchx"}
    assert "torchx" in names(metadata["extras_require"]["dev"])  # tests start jobs with it
    for name in ("cpu", "cuda", "bench"):
        assert "torchx" not in names(metadata["extras_require"][name])
    assert "torchx" not in names(metadata["install_requires"])


def test_the_package_never_imports_torchx():
    """So an environment without the extra has every command; launch/ alone needs it."""
    found = [
        path
        for path in (ROOT / "interformer_rec").rglob("*.py")
        if re.search(r"(import|from) torchx", path.read_text("utf-8"))
    ]
    assert found == []
