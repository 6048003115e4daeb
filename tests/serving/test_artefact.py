"""What is read of an artefact is what was written, stays in its folder, and is named where it is damaged."""

import hashlib
import json
import shutil

import pytest

from interformer_rec.errors import DamagedError, InputError
from interformer_rec.serving import artefact


@pytest.fixture
def place(exported, tmp_path):
    """A copy of the exported artefact, to be damaged."""
    return shutil.copytree(exported[1], tmp_path / "served")


def version_folder(place):
    return place / "versions" / json.loads((place / "current.json").read_bytes())["version"]


@pytest.mark.parametrize(
    "name",
    [
        "signature.json",
        "model.json",
        "config.yaml",
        "dense.safetensors",
        "tables/00000.safetensors",
        "golden.jsonl",
        "features/fitted.json",
    ],
)
def test_a_changed_or_missing_file_is_named(place, name):
    file = version_folder(place) / name
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DamagedError, match=f"{name} is not what was written"):
        artefact.open(str(place))
    file.write_bytes(whole[:-1])
    with pytest.raises(DamagedError, match=f"{name} has {len(whole) - 1} bytes"):
        artefact.open(str(place), checksums=False)
    file.unlink()
    with pytest.raises(DamagedError, match=f"{name} is missing"):
        artefact.open(str(place), checksums=False)


def test_another_manifest_is_not_the_one_that_was_published(place):
    file = version_folder(place) / "manifest.json"
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(DamagedError, match=r"not the one that current\.json"):
        artefact.open(str(place))
    file.unlink()
    with pytest.raises(DamagedError, match="never finished, or removed"):
        artefact.open(str(place))


@pytest.mark.parametrize("name", ["../other", "/etc", "a/b", "..", "C:x", ""])
def test_names_do_not_lead_out_of_the_folder(place, name):
    said = json.loads((place / "current.json").read_bytes())
    (place / "current.json").write_text(json.dumps({**said, "version": name}), encoding="utf-8")
    with pytest.raises(DamagedError, match="which is refused"):
        artefact.open(str(place))


@pytest.mark.parametrize("name", ["../../current.json", "/etc/passwd", "other/file", "tables/../../x"])
def test_files_do_not_lead_out_of_the_version(place, name):
    folder = version_folder(place)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"][name] = {"bytes": 0, "crc32": []}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(DamagedError, match="which is refused"):
        artefact.open(str(repointed(place)))


def repointed(place):
    """current.json names the manifest that is there."""
    said = json.loads((place / "current.json").read_bytes())
    said["sha256"] = hashlib.sha256((version_folder(place) / "manifest.json").read_bytes()).hexdigest()
    (place / "current.json").write_text(json.dumps(said), encoding="utf-8")
    return place


def test_a_link_out_of_the_version_is_refused(place, tmp_path):
    file = version_folder(place) / "golden.jsonl"
    shutil.copy(file, tmp_path / "elsewhere")
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DamagedError, match="outside the folder"):
        artefact.open(str(place))


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b'{"format": 1}', b'{"format": 99, "version": "v", "sha256": "' + b"0" * 64 + b'"}']
)
def test_a_current_json_that_is_none(place, content):
    (place / "current.json").write_bytes(content)
    with pytest.raises(DamagedError, match=r"current\.json"):
        artefact.open(str(place))


def test_a_folder_without_an_artefact_says_how_to_make_one(tmp_path):
    with pytest.raises(InputError, match="interformer export RUN --out"):
        artefact.open(str(tmp_path))


def test_a_runtime_without_graphs_is_named(place):
    version = artefact.open(str(place))
    with pytest.raises(InputError, match="has no onnx graphs, it has none"):
        version.scorer("onnx")
    assert version.scorer().tasks == ("label", "again")
