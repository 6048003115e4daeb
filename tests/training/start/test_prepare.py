"""The start of a run: a refused one changes no file and can be repeated."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from interformer_rec.config.run import RunConfig
from interformer_rec.errors import InputError
from interformer_rec.training import run

# How a start is refused, and what the message has to say.
REFUSED = {
    "a training file that is not there": (["data.train=/nowhere"], "/nowhere"),
    "no training file": (["data.train=null"], "data.train is not set"),
    "a validation file that is not there": (["data.valid=/nowhere"], "/nowhere"),
    "a test file that is not there": (["data.test=/nowhere"], "/nowhere"),
    "a sharding plan that is not there": (["sharding.plan=/nowhere"], "/nowhere"),
    "an embedding_dim of another model": (["model.embedding_dim=16"], "dim|shape|model"),
    "another model": (["model.d=16"], "model"),
}
ONLY_ON_RESUME = ("an embedding_dim of another model", "another model")


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Every name below a folder, and the bytes of its files."""
    paths = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in paths}


def test_a_refused_start_of_a_new_run_leaves_nothing_and_can_be_repeated(
    small: Callable[..., RunConfig], tmp_path: Path
) -> None:
    for name, (overrides, words) in REFUSED.items():
        if name not in ONLY_ON_RESUME:
            with pytest.raises(InputError, match=words):
                run.train(small(*overrides, f"training.out={tmp_path}/made/run"))
            assert snapshot(tmp_path) == {}, name
    assert run.train(small("training.max_steps=1", "data.test=null", "data.valid=null")) == 0


@pytest.mark.parametrize("key", ["data.train", "data.valid", "data.test"])
@pytest.mark.parametrize("place", ["training.out", "training.checkpoint.path"])
def test_a_run_among_the_files_that_it_reads_is_refused(
    small: Callable[..., RunConfig], synthetic: Path, tmp_path: Path, key: str, place: str
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(next((synthetic / "train").iterdir()), data / "part-0.parquet")
    before = snapshot(tmp_path)
    others = [f"{other}={synthetic}/test.parquet" for other in ("data.valid", "data.test") if other != key]
    with pytest.raises(
        InputError, match=rf"{place} '.*/data/new.*' lies among the files of {key} \('.*/data'\): .*parquet'"
    ):
        run.train(small(*others, f"{key}={data}", f"training.out={tmp_path}/run", f"{place}={data}/new"))
    assert snapshot(tmp_path) == before


def test_a_refused_resume_changes_no_file_of_the_run(small: Callable[..., RunConfig], tmp_path: Path) -> None:
    assert run.train(small("training.max_steps=2", "data.test=null", "data.valid=null")) == 0
    before = snapshot(tmp_path)
    for name, (overrides, words) in REFUSED.items():
        with pytest.raises(InputError, match=words):
            run.train(small(*overrides), resume=True)
        assert snapshot(tmp_path) == before, name
    with pytest.raises(InputError, match="already holds a run"):
        run.train(small())
    assert snapshot(tmp_path) == before
