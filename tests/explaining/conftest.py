"""One trained run for the tests of this folder."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from interformer_rec import cli
from interformer_rec.config import run as run_config
from interformer_rec.training import run
from tests.explaining import planted
from tests.made_once import made_once


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with train.parquet, test.parquet (2,000 rows, ids that training has not seen in `c`) and run/. Not to be changed."""

    def make(folder: Path) -> Path:
        planted.write(folder / "train.parquet", 6_000, seed=1)
        planted.write(folder / "test.parquet", 2_000, seed=3, new=0.1)
        tree = yaml.safe_dump(planted.config(folder))
        assert run.train(run_config.parse_yaml(tree, "test")) == 0
        return folder

    return made_once(tmp_path_factory, "planted", make)


class Explained(NamedTuple):
    """What the command has written and said."""

    content: dict[str, Any]  # of explain.json
    out: Path
    printed: str
    said: str  # on stderr


@pytest.fixture(scope="session")
def explained(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Explained:
    """That run, explained. Not to be changed."""

    def make(folder: Path) -> Explained:
        out = folder / "deep" / "out"
        options = ["--repeats", "2", "--slices", "segment,n,a,kinds", "--groups", "both=a,b", "rest=c,n"]
        with redirect_stdout(io.StringIO()) as printed, redirect_stderr(io.StringIO()) as said:
            assert cli.main(["explain", str(trained / "run"), *options, "--out", str(out)]) == 0
        content = json.loads((out / "explain.json").read_text())
        return Explained(content, out, printed.getvalue(), said.getvalue())

    return made_once(tmp_path_factory, "explained", make)
