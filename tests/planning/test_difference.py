from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from interformer_rec.errors import InputError
from interformer_rec.planning.answer import place
from interformer_rec.planning.command import compare
from interformer_rec.planning.difference import diff
from interformer_rec.planning.plan_file import to_dict, write_plan
from tests.planning.cases import CONFIG, CPU, problem


def written(folder: Path, name: str = "first.json", text: str = CONFIG, **options: object) -> str:
    path = str(folder / name)
    write_plan(path, to_dict(place(problem(folder, CPU, text=text, **options))))
    return path


def test_what_lies_elsewhere_is_named(tmp_path: Path):
    first = written(tmp_path)
    assert not any(diff(first, first).values())
    (tmp_path / "c.yaml").write_text("tables: {item: {sharding: [row_wise]}}")
    second = written(tmp_path, "second.json", constraints=str(tmp_path / "c.yaml"), batch_size=32)
    found = diff(first, second)
    assert found["job"] == {"batch_size": (16, 32)}
    assert found["tables"]["item"][1].startswith("row_wise/fused on ")
    assert found["step"]["total"][0] != found["step"]["total"][1]
    assert found["model"] == {} and not found["unrelated"]


def test_a_changed_model_and_an_unrelated_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    first = written(tmp_path)
    grown = written(tmp_path, "grown.json", CONFIG.replace("num_embeddings: 900", "num_embeddings: 950"))
    found = diff(first, grown)
    assert list(found["model"]) == ["user"] and not found["unrelated"]
    assert found["model"]["user"][0].startswith("900 x 16 ") or found["model"]["user"][0].startswith("901 x 16 ")
    other = CONFIG
    for name in ("item", "tag", "user", "city", "words"):
        other = other.replace(f"    {name}: {{ids", f"    {name}_x: {{ids").replace(
            f"table: {name}}}", f"table: {name}_x}}"
        )
    other = other.replace("[user, city, {", "[{name: user, table: user_x}, {name: city, table: city_x}, {").replace(
        "bags: [words]", "bags: [{name: words, table: words_x}]"
    )
    unrelated = written(tmp_path, "other.json", other.replace("name: small", "name: large"))
    found = diff(first, unrelated)
    assert found["unrelated"] and found["model"] == {} and found["tables"] == {}
    assert found["job"]["model"] == ("small", "large")
    assert compare(first, unrelated) == 0
    assert "plans of unrelated models: no table has the same" in " ".join(capsys.readouterr().out.split())
    assert compare(first, unrelated, as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["unrelated"] is True


def test_a_run_folder_without_measurements_stands_for_its_plan(tmp_path: Path):
    first = written(tmp_path)
    (tmp_path / "run").mkdir()
    shutil.copy(first, tmp_path / "run" / "plan.json")
    assert not any(diff(first, str(tmp_path / "run")).values())
    with pytest.raises(InputError, match="cannot read plan"):
        diff(first, str(tmp_path))
