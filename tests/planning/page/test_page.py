from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from interformer_rec.errors import InputError
from interformer_rec.planning.arguments import Asked
from interformer_rec.planning.command import question
from interformer_rec.planning.cost.cluster import load_cluster
from interformer_rec.planning.page import page as page_module
from interformer_rec.planning.page.page import SCRIPTS, page_data, render, write_page, write_refusal
from interformer_rec.planning.what_if import Outcome, sweep
from tests.planning.cases import CONFIG, plan

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no program chromium on PATH, which draws the page")
EVIL = "</script><script>document.title='ran'</script><img src=x onerror=\"document.title='ran'\">"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "small.yaml"
    path.write_text(CONFIG)
    return str(path)


@pytest.fixture(scope="module")
def planned(config: str) -> dict[str, Any]:
    out = Path(config).with_name("plan.json")
    assert plan(config, "dgx-h100", nodes=2, lengths=["clicks=3"], out=str(out)) == 0
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def outcomes(config: str) -> list[dict[str, Any]]:
    problem = question(Asked(config, "dgx-h100", lengths=["clicks=3"]), load_cluster("dgx-h100"))
    jobs = sweep(problem, [problem.cluster], [1, 2], [16])
    return [asdict(job) for job in [*jobs, Outcome("dgx-h100", 4, 32, 16, why="too large")]]


def in_page(html: str) -> dict[str, Any]:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)[1])


def test_the_page_has_the_numbers_of_the_plan_and_asks_for_nothing_else(planned: dict[str, Any], tmp_path: Path):
    write_page(planned, tmp_path / "plan.html")
    html = (tmp_path / "plan.html").read_text()
    data = in_page(html)
    assert data["total_ms"] == planned["step"]["total"]
    assert data["total_ms"] == pytest.approx(sum(data["step"].values()))
    assert data["peak"] == [round(count) for count in planned["memory"]["peak"]]
    fullest = data["peak"].index(max(data["peak"]))
    items = [counts[fullest] if isinstance(counts, list) else counts for counts in data["memory"].values()]
    assert sum(items) == pytest.approx(max(data["peak"]), rel=1e-3)  # but for items too small to show
    assert [table[0] for table in data["tables"]] == list(planned["tables"])
    assert not re.search(r"""(?:src|href)=|@import|url\(|fetch\(|XMLHttp""", html)
    assert [file.name for file in tmp_path.iterdir()] == ["plan.html"]
    assert render(planned) == html


def test_shards_of_neighbours_are_one_entry_and_cover_the_table(planned: dict[str, Any]):
    changed = copy.deepcopy(planned)
    name = next(iter(changed["tables"]))
    shards = [[3, 0, 0, 5, 8], [3, 0, 8, 5, 8], [1, 0, 0, 5, 8], [2, 0, 0, 5, 8], [4, 0, 0, 4, 8], [5, 0, 0, 0, 8]]
    changed["tables"][name]["shards"] = shards
    assert page_data(changed)["tables"][0][10] == [[1, 3, 5, 8], [3, 3, 5, 8], [4, 4, 4, 8]]
    for table in page_data(planned)["tables"]:
        copies = 16 if table[5] == "data_parallel" else 1
        assert sum((last - first + 1) * r * c for first, last, r, c in table[10]) == copies * table[1] * table[2]


def test_a_dict_that_is_no_plan_and_a_path_that_cannot_be_written(planned: dict[str, Any], tmp_path: Path):
    with pytest.raises(InputError, match="KeyError at 'lookup_by_rank'"):
        render({**planned, "step": {k: v for k, v in planned["step"].items() if k != "lookup_by_rank"}})
    with pytest.raises(InputError, match="which has 1 ranks and not 16"):
        render({**planned, "memory": {**planned["memory"], "peak": [1.0]}})
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write '.*plan.html'"):
        write_page(planned, tmp_path / "file" / "plan.html")


@needs_chromium
def test_chromium_draws_it_and_runs_no_name(planned: dict[str, Any], outcomes: list[dict[str, Any]], tmp_path: Path):
    changed = json.loads(json.dumps(planned).replace('"city"', json.dumps(EVIL)))
    page = tmp_path / "plan.html"
    write_page(changed, page, outcomes)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    done = subprocess.run(
        [str(CHROMIUM), *flags, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    dom = done.stdout
    assert "data-draw-ms=" in dom  # the script's last line
    assert "<title>small · 2 × dgx-h100 · sharding plan</title>" in dom
    assert f"{planned['step']['total']:.2f} ms" in dom or f"{planned['step']['total']:.1f} ms" in dom
    assert "&lt;/script&gt;&lt;script&gt;document.title='ran'" in dom  # its row in the list
    assert "<img" not in dom
    assert "does not fit" in dom
    assert dom.count("<svg") == 3
    assert dom.count('aria-sort="descending"') == 1


@needs_chromium
def test_a_job_without_a_plan_has_a_page_that_says_why_and_shows_the_others(
    outcomes: list[dict[str, Any]], tmp_path: Path
):
    page = tmp_path / "none.html"
    write_refusal("small · 1 × dgx-h100", f"no plan for 5 tables: {EVIL}\n  - use 2 nodes", page, outcomes)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    dom = subprocess.run(
        [str(CHROMIUM), *flags, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    ).stdout
    assert "data-draw-ms=" in dom and "<img" not in dom
    assert "no plan for 5 tables: &lt;/script&gt;" in dom and "- use 2 nodes" in dom
    assert dom.count("<svg") == 3 and "does not fit" in dom and 'id="tables"' not in dom


def test_tables_that_constraints_keep_say_where(planned: dict[str, Any]):
    name = next(iter(planned["tables"]))
    kept = {**planned["tables"], name: {**planned["tables"][name], "kept_on": "hosts 0-1"}}
    assert page_data({**planned, "tables": kept})["tables"][0][-1] == "hosts 0-1"
    assert {table[-1] for table in page_data(planned)["tables"]} == {""}


def test_the_scripts_are_all_of_the_page():
    folder = Path(page_module.__file__).parent
    assert {path.name for path in folder.glob("*.js")} == set(SCRIPTS)
