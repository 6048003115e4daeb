"""What a model card says of the run: data, metrics, plan, releases and commit, as far as they are there."""

from __future__ import annotations

import json
import shutil
import subprocess

from interformer_rec.config.found import run_folder_config
from interformer_rec.serving.making.origin import commit, origin


def test_the_card_of_a_run_says_how_it_came_about(exported):
    folder, out, _ = exported
    (card,) = out.glob("versions/*/model_card.md")
    text = card.read_text(encoding="utf-8")
    facts = origin(str(folder), run_folder_config(str(folder), trust=False))
    evaluated = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    assert facts["valid: label/auc"] == evaluated["valid"]["label/auc"]
    tables = json.loads((folder / "plan.json").read_text(encoding="utf-8"))["tables"]
    assert sum(int(part.split()[0]) for part in facts["plan of training"].split(", ")) == len(tables)
    assert facts["trained with: ranks"] == 1 and facts["data.train"].endswith("train")
    for name in ("data.train", "valid: label/logloss", "plan of training", "trained with: torch"):
        assert f"| {name} | " in text


def test_a_checkpoint_alone_and_damaged_files_leave_facts_out(began, tmp_path):
    config = run_folder_config(str(began[1]), trust=False)
    (checkpoint,) = (began[1] / "checkpoints").glob("step-*")
    assert not any(name.startswith(("valid", "plan", "trained")) for name in origin(str(checkpoint), config))
    folder = shutil.copytree(began[1], tmp_path / "run")
    (folder / "evaluation.json").write_text('{"valid": 3}', encoding="utf-8")
    (folder / "plan.json").write_bytes(b"{")
    (folder / "environment.json").unlink()
    assert not any(name.startswith(("valid", "plan", "trained")) for name in origin(str(folder), config))


def test_the_commit_is_that_of_this_project_alone(tmp_path):
    package = tmp_path / "interformer_rec"
    package.mkdir()
    assert commit(package) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.com"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "a"]):
        subprocess.run([*git, *words], check=True)
    found = commit(package)
    assert found is not None and len(found) == 40
    inside = tmp_path / "site-packages" / "interformer_rec"
    inside.mkdir(parents=True)
    assert commit(inside) is None
