"""Names that a manifest or a fitted.json holds: none of them leads out of its folder, and odd ones that runs write are taken."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from interformer_rec.checkpoint.manifest import Manifest
from interformer_rec.data.fit import FORMAT, Fitted
from interformer_rec.errors import DamagedError
from interformer_rec.files import own_name, refuse_link_out
from interformer_rec.storage import Storage
from interformer_rec.training.folder.run_folder import unpack_features
from tests.hostile.checkpoint_files import change_manifest, copied, doors, entry, exit_code

CORPUS = yaml.safe_load(Path(__file__).with_name("names.yaml").read_text(encoding="utf-8"))
REFUSED = [*CORPUS["refused"], *("x" * length for length in CORPUS["too_long"])]
FOLDERS = ("run", "run/features")


@pytest.mark.parametrize("name", REFUSED, ids=lambda name: repr(name)[:40])
def test_a_name_that_leads_out_is_refused(name):
    for folders in ((), FOLDERS):
        with pytest.raises(DamagedError, match=r"^fitted\.json has the file name .* which is refused") as raised:
            own_name(name, "fitted.json", folders)
        assert len(str(raised.value)) < 500
    if isinstance(name, str) and name and not name.startswith("run/"):
        with pytest.raises(DamagedError, match="is refused"):
            own_name(f"run/features/{name}", "manifest.json", FOLDERS)


@pytest.mark.parametrize("name", CORPUS["accepted"])
def test_an_odd_name_is_taken(name, tmp_path):
    assert own_name(name, "fitted.json") == name
    assert own_name(f"run/features/{name}", "manifest.json", FOLDERS) == f"run/features/{name}"
    (tmp_path / name).write_text("a file")
    refuse_link_out(tmp_path, name, "fitted.json")


def test_a_link_inside_is_taken_and_one_out_is_not(tmp_path):
    folder = tmp_path / "real"
    folder.mkdir()
    (folder / "file").write_text("a file")
    (tmp_path / "outside").write_text("a file")
    (tmp_path / "linked").symlink_to(folder)  # a folder that lies elsewhere is the user's own choice
    for name, target in {
        "in": "file",
        "out": "../outside",
        "far": "/etc/passwd",
        "none": "../none",
        "self": "self",
    }.items():
        (folder / name).symlink_to(target)
    for name in ("in", "file"):
        refuse_link_out(tmp_path / "linked", name, "manifest.json")
    for name in ("out", "far", "none"):
        with pytest.raises(DamagedError, match=r"manifest.json has the file name .*a link to .*, outside the folder"):
            refuse_link_out(tmp_path / "linked", name, "manifest.json")
    with pytest.raises(DamagedError, match="is refused"):
        refuse_link_out(folder, "self", "manifest.json")


@pytest.mark.parametrize("name", [name for name in REFUSED if isinstance(name, str)], ids=lambda name: repr(name)[:40])
def test_vocabularies_are_read_from_their_folder_only(name, tmp_path):
    pq.write_table(pa.table({"id": ["secret"], "count": [1]}), tmp_path / "outside.parquet")
    (tmp_path / "features").mkdir()
    content = {"format": FORMAT, "table_rows": {"user": 3}, "vocabularies": {"user": name}}
    content |= {"moments": {}, "meaning": {}}
    (tmp_path / "features" / "fitted.json").write_text(json.dumps(content))
    with pytest.raises(DamagedError, match=r"fitted\.json has the file name .* is refused"):
        Fitted.load(tmp_path / "features")


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", [name for name in REFUSED if isinstance(name, str)], ids=lambda name: repr(name)[:40])
def test_a_checkpoint_is_unpacked_into_its_folder_only(trained_run, tmp_path, name):
    checkpoint = copied(trained_run, tmp_path / "run")
    absolute = str(tmp_path / "absolute.parquet")
    for hostile in {name, f"run/features/{name}", f"run/features/{absolute}", f"run/features/../../../{name}"}:
        change_manifest(checkpoint, lambda content: content.update(base=None))
        change_manifest(checkpoint, lambda content, hostile=hostile: content["files"].update({hostile: entry(b"x")}))
        before = files_below(tmp_path)
        with pytest.raises(DamagedError, match=r"manifest\.json has the file name .* is refused"):
            unpack_features(Storage.open(checkpoint), tmp_path / "unpacked" / "deep")
        assert files_below(tmp_path) == before
        change_manifest(checkpoint, lambda content, hostile=hostile: content["files"].pop(hostile))


@pytest.mark.parametrize("name", ["../../outside", "/tmp/hostile-base", ".", "..", "step-00000008/../../outside"])
def test_a_base_is_beside_its_checkpoint(trained_run, tmp_path, name):
    checkpoint = copied(trained_run, tmp_path / "run")
    change_manifest(checkpoint, lambda content: content.update(base={"name": name, "sha256": "0" * 64}))
    with pytest.raises(DamagedError, match=r"manifest\.json has the file name .* is refused"):
        Manifest.read(Storage.open(checkpoint))


@pytest.mark.parametrize("linked", ["state.json", "run/features/fitted.json", "base"])
def test_a_checkpoint_with_a_link_out_is_damaged(trained_run, tmp_path, linked):
    checkpoints = copied(trained_run, tmp_path / "run").parent
    place = checkpoints / "step-00000004" if linked == "base" else checkpoints / "step-00000004" / linked
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DamagedError, match="outside the folder"):
        Manifest.read(Storage.open(checkpoints / ("step-00000008" if linked == "base" else "step-00000004")))


@pytest.mark.parametrize("door", ["evaluate", "predict", "resume"])
def test_no_door_writes_or_reads_outside(trained_run, synthetic, tmp_path, door, capfd):
    """All checkpoints are hostile, and the vocabularies must come out of one."""
    outside = tmp_path / "outside"
    outside.mkdir()
    run = tmp_path / "inside" / "deep" / "run"
    run.parent.mkdir(parents=True)
    copied(trained_run, run)
    for checkpoint, name in zip(
        sorted((run / "checkpoints").glob("step-*")),
        (
            f"{outside}/absolute.json",
            "run/features/../../../../../../../outside/up.json",
            f"run/features/{outside}/b.json",
        ),
        strict=True,
    ):
        (outside / "bait").write_bytes(b"bait")
        change_manifest(checkpoint, lambda content, name=name: content["files"].update({name: entry(b"bait")}))
    (run / "features" / "fitted.json").unlink()
    before = files_below(outside)
    assert exit_code(doors(run, synthetic)[door]) == 2
    assert "which is refused" in capfd.readouterr().err
    assert files_below(outside) == before and sorted(p.name for p in tmp_path.iterdir()) == ["inside", "outside"]


@pytest.mark.parametrize("name", ["metrics.jsonl", "config.yaml", "features", "tensorboard", "report.html"])
def test_a_run_folder_leads_nothing_elsewhere(trained_run, synthetic, tmp_path, name, capfd):
    copied(trained_run, tmp_path / "run")
    (tmp_path / "run" / name).rename(tmp_path / "elsewhere")
    (tmp_path / "run" / name).symlink_to(tmp_path / "elsewhere")
    before = files_below(tmp_path / "elsewhere") or (tmp_path / "elsewhere").read_bytes()
    assert exit_code(doors(tmp_path / "run", synthetic)["resume"]) == 2
    assert f"/{name}' is a link to" in capfd.readouterr().err
    assert before == (files_below(tmp_path / "elsewhere") or (tmp_path / "elsewhere").read_bytes())


def test_checkpoints_may_lie_on_another_disk(trained_run, tmp_path, synthetic):
    copied(trained_run, tmp_path / "run")
    (tmp_path / "run" / "checkpoints").rename(tmp_path / "disk")
    (tmp_path / "run" / "checkpoints").symlink_to(tmp_path / "disk")
    assert exit_code([*doors(tmp_path / "run", synthetic)["resume"], "--set", "training.max_steps=11"]) == 0
    assert (tmp_path / "disk" / "step-00000011" / "manifest.json").exists()


def test_removing_a_checkpoint_that_is_a_link_leaves_what_it_leads_to(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("mine")
    (tmp_path / "checkpoints").mkdir()
    for name, target in {"step-00000001": "../precious", "step-00000002": "../none"}.items():
        (tmp_path / "checkpoints" / name).symlink_to(target)
        Storage.open(tmp_path / "checkpoints").remove(name)
    assert list((tmp_path / "checkpoints").iterdir()) == [] and (tmp_path / "precious" / "file").exists()
