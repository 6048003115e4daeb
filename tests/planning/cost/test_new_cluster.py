from __future__ import annotations

import re
from pathlib import Path

import pytest

from interformer_rec import cli
from interformer_rec.errors import InputError
from interformer_rec.planning.cost.cluster import OF_GPUS, load_cluster
from interformer_rec.planning.cost.new_cluster import EXAMPLE, new_cluster
from tests.planning.cases import CONFIG

NUMBER = re.compile(r"^# dgx-h100: (.+)\n(\w+):$", re.MULTILINE)


def filled(path: Path) -> None:
    """Each number as the comment above it has it."""
    path.write_text(NUMBER.sub(r"\2: \1", path.read_text()))


def test_a_draft_whose_numbers_are_filled_in_plans_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(CONFIG)
    assert cli.main(["plan", "--new-cluster", "ours"]) == 0
    assert "interformer plan CONFIG --cluster ours.yaml" in capsys.readouterr().out
    assert cli.main(["plan", "small.yaml", "--cluster", "ours.yaml"]) == 2
    assert "'ours.yaml' is not filled in: devices_per_node, hbm_gib, ddr_gib, hbm" in capsys.readouterr().err
    filled(Path("ours.yaml"))
    assert cli.main(["plan", "small.yaml", "--cluster", "ours.yaml"]) == 0
    assert "small on 1 x ours (8 ranks)" in capsys.readouterr().out
    ours, example = load_cluster("ours.yaml"), load_cluster(EXAMPLE)
    same = {"name": "", "about": "", "sources": {}}
    assert ours.model_copy(update=same) == example.model_copy(update=same)


def test_a_draft_of_a_machine_without_gpus(tmp_path: Path):
    path = new_cluster(str(tmp_path / "plain"))
    text = path.read_text().replace("device: cuda", "device: cpu")
    assert text.count("# GPU: ") == len(OF_GPUS)
    path.write_text(text)
    with pytest.raises(InputError, match="not filled in: devices_per_node, ddr_gib, ddr_gb_per_s, intra"):
        load_cluster(str(path))
    filled(path)
    for field in OF_GPUS:
        path.write_text(re.sub(rf"^{field}:.*", f"{field}:", path.read_text(), flags=re.MULTILINE))
    assert load_cluster(str(path)).device == "cpu"


def test_a_name_that_is_taken_or_is_none(tmp_path: Path):
    new_cluster(str(tmp_path / "ours"))
    with pytest.raises(InputError, match="is there already"):
        new_cluster(str(tmp_path / "ours.yaml"))
    for name in ("a b", "", "dgx-h100"):
        with pytest.raises(InputError, match="that no known cluster has"):
            new_cluster(name)
    with pytest.raises(InputError, match="there is no folder"):
        new_cluster(str(tmp_path / "none" / "ours"))
