"""What is read of an artefact is what was written, stays in its folder, and is named where it is damaged."""

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from interformer_rec.errors import DamagedError, InputError
from interformer_rec.install import graphs
from interformer_rec.serving import artefact
from interformer_rec.serving.published import pointer
from interformer_rec.storage import Storage
from tests.s3 import s3_server


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
        "tables/00008.safetensors",
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


def test_a_version_in_a_store_is_copied_and_checked(exported):
    folder = version_folder(exported[1])
    sha256 = pointer.current(str(exported[1])).sha256
    with s3_server() as store:
        place = Storage.open(store.uri("models/served"))
        artefact.publish(place, folder, folder.name, sha256)
        version = artefact.open(store.uri("models/served"))
        assert version.sha256 == sha256 and version.golden() == artefact.open(str(exported[1])).golden()
        assert version.scorer().tasks == ("label", "again")
        copied = version.folder
        del version
        assert not copied.exists()
        golden = place.folder("versions").folder(folder.name).get("golden.jsonl")
        place.folder("versions").folder(folder.name).put("golden.jsonl", golden[:-1] + b" ")
        with pytest.raises(DamagedError, match=r"golden\.jsonl"):
            artefact.open(store.uri("models/served"))


def test_a_store_that_cannot_be_written_is_named(exported):
    folder = version_folder(exported[1])
    with s3_server() as store:
        place = Storage.open(store.uri("models").replace("bucket", "no-such-bucket"))
        with pytest.raises(InputError, match=r"cannot write version .* to 's3://no-such-bucket/models"):
            artefact.publish(place, folder, folder.name, "0" * 64)


def test_answering_needs_no_torchrec_and_no_fbgemm(exported):
    code = f"""
import sys
from dataclasses import replace
sys.modules["torchrec"] = sys.modules["fbgemm_gpu"] = None
from interformer_rec.install import graphs
from interformer_rec.serving import artefact
from interformer_rec.serving.published import pointer
from interformer_rec.serving.encode.encoder import Encoder
from interformer_rec.serving.scorer import probabilities
version = artefact.open({str(exported[1])!r})
golden = version.golden()
encoder = Encoder(version.config.features, version.fitted, version.signature)
scores = probabilities(version.scorer()(encoder.score([one["row"] for one in golden])))
assert abs(scores - [list(one["scores"].values()) for one in golden]).max() < 1e-6
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("runtimes", "with_torch", "without"),
    [
        (("aoti", "onnx"), "aoti", "onnx"),
        (("onnx",), "onnx", "onnx"),
        (("aoti",), "aoti", None),
        ((), "eager", None),
    ],
)
def test_without_torch_onnx_answers_or_the_reason_is_said(exported, monkeypatch, runtimes, with_torch, without):
    found = artefact.open(str(exported[1]))
    version = replace(found, contents=found.contents.model_copy(update={"runtimes": runtimes}))
    assert version.preferred == with_torch
    monkeypatch.setattr(graphs, "torch_is_here", lambda: False)
    assert version.preferred == (without or with_torch)
    if without is None:
        with pytest.raises(
            InputError, match=f"the {with_torch} graphs .* need torch, which is not installed.*--runtime onnx"
        ):
            version.scorer()
