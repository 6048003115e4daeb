"""The built wheel by itself: installed into a new environment, it configures, plans, makes data and trains far from the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = (
    "setup.py",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "NOTICE",
    "requirements",
    "configs",
    "interformer_rec",
    "launch",
)
SMALL = ["data.batch_size=128", "training.epochs=1", "training.device=cpu", "model.d=8", "model.embedding_dim=8"]


def call(*command: str | Path, cwd: Path) -> str:
    """The output of a command that has to succeed; nothing of this checkout on its path."""
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "RANK", "WORLD_SIZE")}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment with the wheel. torch and the others are those of this one, by a line in a .pth file,
    behind which an editable install of this package is not seen."""
    folder = tmp_path_factory.mktemp("wheel")
    (folder / "source").mkdir()
    for name in SOURCES:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / "source" / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    call(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, folder / "source", cwd=folder)
    (wheel,) = folder.glob("interformer_rec-*.whl")
    shutil.rmtree(folder / "source")
    venv.create(folder / "env", with_pip=False, symlinks=True)
    python = folder / "env" / "bin" / "python"
    call(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    (site,) = (folder / "env" / "lib").glob("python*/site-packages")
    (site / "heavy.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return folder / "env" / "bin"


@pytest.mark.slow
def test_the_wheel_works_outside_the_checkout(installed, tmp_path):
    interformer = installed / "interformer"
    where = call(installed / "python", "-c", "import interformer_rec; print(interformer_rec.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)
    call(interformer, "data", "synthetic", "--out", "data", "--set", "rows=1000", "--set", "vocab=100", cwd=tmp_path)
    overrides = [word for item in SMALL for word in ("--set", item)]
    assert "batch_size: 128" in call(interformer, "config", "data/config.yaml", *overrides, cwd=tmp_path)
    call(interformer, "train", "data/config.yaml", *overrides, "--set", "training.out=run", cwd=tmp_path)
    assert json.loads(call(interformer, "evaluate", "run", "--json", cwd=tmp_path))["rows"] == 100
    assert "<html" in (tmp_path / "run" / "report.html").read_text("utf-8")
    # a cluster by name, and the page: files that only package data brings
    planned = ["--statistics", "run/data.json", "--out", "plan.json", "--html", "plan.html"]
    call(interformer, "plan", "data/config.yaml", *overrides, "--cluster", "cpu", *planned, cwd=tmp_path)
    assert (tmp_path / "plan.json").is_file() and "<html" in (tmp_path / "plan.html").read_text("utf-8")
