"""What stands where something else is to be written: runs, checkpoints, exported models, rows; and what is in nobody's way."""

from __future__ import annotations

import pytest

from interformer_rec.errors import InputError
from interformer_rec.storage import Storage
from interformer_rec.training.folder.occupied import refuse_occupied

FILES = (
    "runs/x/config.yaml",
    "runs/x/features/fitted.json",
    "runs/x/checkpoints/step-00000009/manifest.json",
    "runs/x/checkpoints/step-00000009/run/config.yaml",
    "runs/x/served/current.json",
    "runs/x/served/versions/v1/manifest.json",
    "runs/x/served/versions/v1/graphs/user.onnx",
    "data/set/train.parquet",
    "data/set/valid.parquet",
)
TAKEN = {
    "runs/x": "is the folder of a run.*config.yaml",
    "runs/x/features": "lies in a run's own folder 'features'",
    "runs/x/features/new": "lies in a run's own folder 'features'",
    "runs/x/checkpoints": "lies in a run's own folder 'checkpoints'",
    "runs/x/checkpoints/served": "lies in a run's own folder 'checkpoints'",
    "runs/x/checkpoints/step-00000009": "lies in a checkpoint.*manifest.json",
    "runs/x/checkpoints/step-00000009/served": "lies in a checkpoint.*manifest.json",
    "runs/x/served/versions/v1": "lies in a checkpoint or a version",
    "runs/x/served/versions/v1/graphs": "lies in a checkpoint or a version",
    "data/set": "holds data: 'train.parquet' and 1 more",
}
FREE = ("runs/x/served", "runs/x/new", "runs", "new/one", "data", "data/served", "")


@pytest.fixture(params=["folder", "store"])
def root(request, tmp_path) -> str:
    place = str(tmp_path) if request.param == "folder" else f"memory://occupied/{tmp_path.name}"
    for name in FILES:
        Storage.open(place).put(name, b"{}")
    return place


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_there_is_named(root, name):
    with pytest.raises(InputError, match=rf"--out '.*{name}' {TAKEN[name]}.*: name a folder of its own"):
        refuse_occupied("--out", Storage.open(f"{root}/{name}"))


@pytest.mark.parametrize("name", FREE)
def test_other_places_are_free(root, name):
    refuse_occupied("--out", Storage.open(f"{root}/{name}".rstrip("/")))


def test_a_relative_path_and_a_link_are_where_they_lead(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("", encoding="utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")
    for path in (".", "../run", "../link", "features"):
        with pytest.raises(InputError, match="name a folder of its own"):
            refuse_occupied("--out", Storage.open(path))
