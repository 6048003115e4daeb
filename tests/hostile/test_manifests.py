"""Files of a checkpoint that are not what was written: each is DamagedError where it is read, whoever reads it, and the doors fall back."""

from __future__ import annotations

import json
import shutil
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from interformer_rec.checkpoint.evaluated import Evaluated
from interformer_rec.checkpoint.manifest import Manifest
from interformer_rec.checkpoint.read import read_state
from interformer_rec.checkpoint.retention import Checkpoints
from interformer_rec.data.epoch_plan import Cursor
from interformer_rec.data.fit import Fitted
from interformer_rec.errors import DamagedError
from interformer_rec.storage import Storage
from interformer_rec.training.folder.run_folder import unpack_features
from interformer_rec.training.start.saved_state import checked_state
from tests.hostile.checkpoint_files import change_manifest, doors, entry, exit_code, replace_file

CORPUS = yaml.safe_load(Path(__file__).with_name("manifests.yaml").read_text(encoding="utf-8"))
FILES = ("manifest.json", "state.json", "evaluated.json", "run/features/fitted.json")
RAW = [*(text.encode() for text in CORPUS["texts"]), *(bytes.fromhex(text) for text in CORPUS["bytes"])]
RAW += [b"[" * depth + b"]" * depth for depth in CORPUS["nested"]]
RAW += [b'{"a": ' * depth + b"1" + b"}" * depth for depth in CORPUS["nested"]]


@pytest.fixture
def checkpoint(trained_run, tmp_path) -> Path:
    """A copy of the run's first checkpoint, a full one, as if it had ended in the middle of an epoch; and of nothing else."""
    shutil.copytree(trained_run / "checkpoints" / "step-00000004", tmp_path / "run" / "step-00000004")
    return tmp_path / "run" / "step-00000004"


def read_all(checkpoint: Path, scratch: Path) -> None:
    """Everything that the doors read, without a model."""
    storage = Storage.open(checkpoint)
    manifest = Manifest.read(storage)
    manifest.require_sizes()
    Evaluated.read(manifest)
    state = checked_state(read_state(storage), "state.json")
    if state["cursor"] is not None:
        Cursor.from_dict(state["cursor"])
    unpack_features(storage, scratch / "features")
    Fitted.load(scratch / "features")
    for name in ("rank-00000.safetensors", "dense.safetensors"):
        file = manifest.tensor_file(name)
        for key in file.keys():  # noqa: SIM118 - not a mapping
            file.tensor(key)


def put(checkpoint: Path, name: str, content: bytes) -> None:
    """As a file of the checkpoint, with checksums that fit where it is listed."""
    if name in ("manifest.json", "evaluated.json"):
        (checkpoint / name).write_bytes(content)
    else:
        replace_file(checkpoint, name, content)
        again(checkpoint)


def again(checkpoint: Path) -> None:
    """The evaluation belongs to the manifest as it is now."""
    path = checkpoint / "evaluated.json"
    content = json.loads(json.loads(path.read_text())["content"])
    content["manifest"] = Manifest.read(Storage.open(checkpoint)).sha256
    text = json.dumps(content)
    path.write_text(json.dumps({"crc32": zlib.crc32(text.encode()), "content": text}))


def apply(tree: dict[str, Any], case: dict[str, Any]) -> None:
    """Set or drop one value."""
    *path, last = case["drop"] if "drop" in case else case["set"][:-1]
    for key in path:
        tree = tree[key]
    if "drop" in case:
        del tree[last]
    else:
        tree[last] = case["set"][-1]


def test_what_was_written_is_read(checkpoint, tmp_path):
    read_all(checkpoint, tmp_path)
    put(
        checkpoint, "state.json", (checkpoint / "state.json").read_bytes() + b" "
    )  # the tools of this file do no damage
    read_all(checkpoint, tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_other_text_is_damage(checkpoint, tmp_path, name):
    kept = {file: (checkpoint / file).read_bytes() for file in FILES}
    for content in RAW:
        put(checkpoint, name, content)
        began = time.perf_counter()
        with pytest.raises(DamagedError, match=name.rpartition("/")[2]) as raised:
            read_all(checkpoint, tmp_path)
        assert time.perf_counter() - began < 10 and len(str(raised.value)) < 1000, content[:50]
        for file, before in kept.items():
            (checkpoint / file).write_bytes(before)


CASES = [
    (name, case) for name in ("manifest.json", "state.json", "evaluated.json", "fitted.json") for case in CORPUS[name]
]


@pytest.mark.parametrize("name, case", CASES, ids=lambda part: str(part)[:60])
def test_values_that_were_not_written_are_damage(checkpoint, tmp_path, name, case):
    signed = not case.get("unsigned")
    if name == "manifest.json" and signed:
        change_manifest(checkpoint, lambda tree: apply(tree, case))
    elif name == "evaluated.json" and signed:
        content = json.loads(json.loads((checkpoint / name).read_text())["content"])
        apply(content, case)
        text = json.dumps(content)
        put(checkpoint, name, json.dumps({"crc32": zlib.crc32(text.encode()), "content": text}).encode())
    else:
        file = "run/features/fitted.json" if name == "fitted.json" else name
        tree = json.loads((checkpoint / file).read_text())
        if name == "state.json":  # the evaluation's part is in front of it
            (checkpoint / "evaluated.json").unlink()
            kept = replace_file
        else:
            kept = put
        apply(tree, case)
        kept(checkpoint, file, json.dumps(tree).encode())
    with pytest.raises(DamagedError) as raised:
        read_all(checkpoint, tmp_path)
    assert len(str(raised.value)) < 1000


def with_header(checkpoint: Path, header: bytes, length: int | None = None) -> None:
    """dense.safetensors with another header before its tensors."""
    before = (checkpoint / "dense.safetensors").read_bytes()
    (old,) = struct.unpack("<Q", before[:8])
    content = struct.pack("<Q", len(header) if length is None else length) + header + before[8 + old :]
    replace_file(checkpoint, "dense.safetensors", content)
    again(checkpoint)


def header_of(checkpoint: Path) -> dict[str, Any]:
    content = (checkpoint / "dense.safetensors").read_bytes()
    return json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])


@pytest.mark.parametrize("value", CORPUS["headers"], ids=str)
def test_a_tensor_that_cannot_be_is_damage(checkpoint, tmp_path, value):
    header = header_of(checkpoint)
    with_header(checkpoint, json.dumps({**header, next(iter(header)): value}).encode())
    with pytest.raises(DamagedError, match=r"dense\.safetensors cannot be read"):
        read_all(checkpoint, tmp_path)


@pytest.mark.parametrize("length", CORPUS["lengths_of_headers"])
def test_a_header_of_another_length_is_damage(checkpoint, tmp_path, length):
    with_header(checkpoint, json.dumps(header_of(checkpoint)).encode(), length)
    with pytest.raises(DamagedError, match=r"dense\.safetensors"):
        read_all(checkpoint, tmp_path)


@pytest.mark.parametrize("content", RAW, ids=lambda content: repr(content[:20]))
def test_a_header_that_is_other_text_is_damage(checkpoint, tmp_path, content):
    with_header(checkpoint, content)
    if content.strip() == b"{}":  # a file without tensors: the model says what is missing
        read_all(checkpoint, tmp_path)
        return
    with pytest.raises(DamagedError, match=r"dense\.safetensors"):
        read_all(checkpoint, tmp_path)


def damage_all(run: Path) -> None:
    for number, manifest in enumerate(sorted((run / "checkpoints").glob("step-*/manifest.json"))):
        manifest.write_bytes([b"[" * 100_000, b'{"format": 4}', b"\xff"][number])


@pytest.mark.parametrize("door", ["evaluate", "predict", "resume"])
def test_a_run_without_a_whole_checkpoint_is_bad_input(trained_run, synthetic, tmp_path, door, capfd):
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    damage_all(run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert exit_code(doors(run, synthetic)[door]) == 2
    error = capfd.readouterr().err
    assert "has no checkpoint that is whole" in error and "Traceback" not in error
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("door", ["evaluate", "predict"])
@pytest.mark.parametrize("name", ["manifest.json", "state.json", "dense.safetensors", "run/features/fitted.json"])
def test_a_damaged_best_falls_back_with_a_warning(trained_run, synthetic, tmp_path, door, name, capfd):
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    best = Path(ranked(run)[0])
    file = run / "checkpoints" / best / name
    if not file.exists():  # an increment has no vocabularies
        pytest.skip("the best is incremental")
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2] + b"?" + content[len(content) // 2 + 1 :])
    assert exit_code(doors(run, synthetic)[door]) == 0
    out, error = capfd.readouterr()
    used = next(other for other in ("step-00000010", "step-00000008", "step-00000004") if f"/{other}" in out)
    assert used != str(best) and f"/{best}/{name}" in error
    assert (
        "warning: damaged: " in error and f"Used instead, the best of what is whole: {run}/checkpoints/{used}" in error
    )


def ranked(run: Path) -> list[str]:
    return Checkpoints(run / "checkpoints").ranked().names


def test_a_checkpoint_that_the_user_names_is_used_or_is_an_error(trained_run, synthetic, tmp_path, capfd):
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    (run / "checkpoints" / "step-00000004" / "manifest.json").write_text("{")
    arguments = ["evaluate", str(run / "checkpoints" / "step-00000004"), "--data", str(synthetic / "test.parquet")]
    assert exit_code(arguments) == 2 and "manifest.json cannot be read" in capfd.readouterr().err


def test_the_size_of_a_file_is_compared_before_it_is_read(checkpoint):
    change_manifest(checkpoint, lambda tree: tree["files"].update({"run/config.yaml": entry(b"")}))
    with pytest.raises(DamagedError, match=r"config.yaml has \d+ bytes, 0 were written"):
        Manifest.read(Storage.open(checkpoint)).content("run/config.yaml")


@pytest.mark.parametrize("name", ["state.json", "dense.safetensors", "rank-00000.safetensors"])
def test_an_increment_takes_the_runs_files_of_its_base_and_no_others(trained_run, tmp_path, name):
    """The base has a file of that name, of an earlier step."""
    shutil.copytree(trained_run / "checkpoints", tmp_path / "checkpoints")
    increment = tmp_path / "checkpoints" / "step-00000008"
    change_manifest(increment, lambda tree: tree["files"].pop(name))
    manifest = Manifest.read(Storage.open(increment))
    assert manifest.base is not None and manifest.content("run/config.yaml")
    with pytest.raises(DamagedError, match=f"has no {name}"):
        manifest.require_ranks(1) if name.startswith("rank") else manifest.content(name)
