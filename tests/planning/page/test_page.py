from __future__ import annotations

import contextlib
import copy
import io
import itertools
import json
import re
import resource
import xml.etree.ElementTree as ET
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interformer_rec.errors import InputError
from interformer_rec.html import environment as html_module
from interformer_rec.planning.arguments import Asked
from interformer_rec.planning.command import question
from interformer_rec.planning.cost.cluster import load_cluster
from interformer_rec.planning.page import page as page_module
from interformer_rec.planning.page.page import SCRIPTS, page_data, render, write_page, write_refusal
from interformer_rec.planning.what_if import Outcome, sweep
from tests.planning.cases import CONFIG, plan
from tests.planning.page.dom import CHROMIUM, by_id, dump, elements, rows, text

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
    with contextlib.redirect_stdout(io.StringIO()) as screen:
        assert plan(config, "dgx-h100", nodes=2, lengths=["clicks=3"], out=str(out), price=["dgx-h100=98"]) == 0
    out.with_name("screen.txt").write_text(screen.getvalue())
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
    dom = dump(page, tmp_path)
    assert "data-draw-ms=" in dom  # the script's last line
    assert "<title>small · 2 × dgx-h100 · sharding plan</title>" in dom
    assert "&lt;/script&gt;&lt;script&gt;document.title='ran'" in dom  # its row in the list
    assert "<img" not in dom
    assert "does not fit" in dom
    assert dom.count("<svg") == 3
    assert dom.count('aria-sort="descending"') == 1


KEYS = """
const press = (id, ...keys) => {
  const node = document.getElementById(id);
  node.focus();
  for (const key of keys) document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
};
press("hosts-map", "ArrowDown", "ArrowLeft");
press("memory-map", "ArrowRight", "Enter");
document.querySelector("#tables tbody button").click();
press("layout", "ArrowRight", "ArrowRight");
"""


@pytest.fixture(scope="module")
def drawn(
    planned: dict[str, Any], outcomes: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> ET.Element:
    """The page after some keys: the rank beside the fullest is chosen, its costliest table opened."""
    folder = tmp_path_factory.mktemp("drawn")
    write_page(planned, folder / "plan.html", outcomes)
    return elements(dump(folder / "plan.html", folder, KEYS))


@needs_chromium
def test_screen_and_page_have_the_same_sections_and_numbers(drawn: ET.Element, config: str):
    screen = Path(config).with_name("screen.txt").read_text()
    lines = [" ".join(line.replace("│", " ").split()) for line in screen.splitlines()]
    tiles = by_id(drawn, "tiles")
    for tile in tiles:
        assert f"{text(tile[0])} {text(tile[1])}" in lines
    assert len(tiles) == 5
    sure = text(by_id(drawn, "about"))
    assert sure[sure.index("How sure: ") :] in lines
    for item, (ms, share) in rows(by_id(drawn, "step-items")).items():
        assert f"{item} {ms} {share}" in lines
    memory = rows(by_id(drawn, "memory-items"))
    for item, (fullest, _chosen, *others) in memory.items():
        assert " ".join((item, fullest, *others)) in lines
    assert len(memory) > 5
    for item, values in rows(by_id(drawn, "hosts-items")).items():
        assert " ".join((item, *values)) in lines
    for change in by_id(drawn, "help"):
        assert any(line.startswith(f"- {text(change)}") for line in lines)
    heads = [text(head) for head in drawn.iter("h2")]
    assert [line for line in lines if line in heads] == [h for h in heads if h not in ("Ranks", "What if")]


@needs_chromium
def test_keys_do_what_the_mouse_does(drawn: ET.Element, planned: dict[str, Any]):
    peak = planned["memory"]["peak"]
    heads = [text(head) for head in by_id(drawn, "memory-items").iter("th")]
    assert heads[1:3] == [f"rank {peak.index(max(peak))}", f"rank {peak.index(max(peak)) + 1}"]
    assert text(by_id(drawn, "hosts-at")).startswith("from host 1 to host 0: ")
    assert ", on rank 1 (node 0, device 1): " in text(by_id(drawn, "layout-at"))
    opened = [button for button in by_id(drawn, "tables").iter("button") if button.get("aria-expanded") == "true"]
    assert len(opened) == 1


@needs_chromium
def test_a_screen_reader_can_read_it(drawn: ET.Element):
    """What WCAG 2.2 asks for and a program can see: names, captions, headings in order, no focus order of our own."""
    parents = {child: parent for parent in drawn.iter() for child in parent}
    assert drawn.get("lang") == "en"
    ids = [element.get("id") for element in drawn.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    levels = [int(e.tag[1]) for e in drawn.iter() if re.fullmatch("h[1-6]", e.tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    for table in drawn.iter("table"):
        caption = table.find("caption")
        assert caption is not None and text(caption), table.get("id")
        assert all(head.get("scope") in ("row", "col") and text(head) for head in table.iter("th"))
        assert all(row[0].tag == "th" or row[0].get("colspan") for row in table.iter("tr"))
    for field in (*drawn.iter("input"), *drawn.iter("select")):
        assert parents[field].tag == "label" and text(parents[field])
    assert all(text(button) or button.get("aria-label") for button in drawn.iter("button"))
    for element in drawn.iter():
        assert element.get("tabindex") in (None, "0")
        for name in (*element.get("aria-describedby", "").split(), *element.get("aria-labelledby", "").split()):
            assert name in ids
        if element.tag in ("canvas", "svg") or element.get("role") == "region":
            assert element.get("aria-label"), element.get("id")
    for figure in drawn.iter("figure"):
        assert any(text(child) for child in figure.iter("figcaption")) or figure.find("svg") is not None


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_have_contrast(scheme: int):
    """WCAG 2.2: 4.5 for text, 3 for what a picture and the focus are drawn with."""
    css = (Path(html_module.__file__).parent / "frame.css").read_text()
    color = dict(re.findall(r"--(\w+): #(\w{6})", re.findall(r":root \{(.*?)\}", css, re.DOTALL)[scheme]))

    def contrast(one: str, other: str) -> float:
        low, high = sorted((luminance(color[one]), luminance(color[other])))
        return (high + 0.05) / (low + 0.05)

    for ground in ("page", "panel"):
        assert contrast("ink", ground) >= 7 and contrast("soft", ground) >= 4.5 and contrast("s1", ground) >= 4.5
        assert contrast("mark", ground) >= 3
    assert all(contrast(f"s{i}", "page") >= 3 for i in range(1, 8))


def luminance(color: str) -> float:
    """Relative luminance of WCAG 2.2, of rrggbb."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


@needs_chromium
def test_a_job_without_a_plan_has_a_page_that_says_why_and_shows_the_others(
    outcomes: list[dict[str, Any]], tmp_path: Path
):
    page = tmp_path / "none.html"
    write_refusal("small · 1 × dgx-h100", f"no plan for 5 tables: {EVIL}\n  - use 2 nodes", page, outcomes)
    dom = dump(page, tmp_path)
    assert "data-draw-ms=" in dom and "<img" not in dom
    assert "no plan for 5 tables: &lt;/script&gt;" in dom and "- use 2 nodes" in dom
    assert dom.count("<svg") == 3 and "does not fit" in dom and 'id="tables"' not in dom


def thousand(planned: dict[str, Any]) -> dict[str, Any]:
    """A plan of 1,000 tables on 256 ranks, 32 hosts, with the keys of `planned`."""
    big, times = copy.deepcopy(planned), 16
    big["fingerprint"] |= {"ranks": 256, "tables": {}}
    big["nodes"], tables = 32, {}
    for number in range(1000):
        name, like = f"table {number}", list(planned["tables"])[number % len(planned["tables"])]
        ranks = range(number % 256, number % 256 + 1) if number % 3 else range(256)
        tables[name] = planned["tables"][like] | {"shards": [[rank, 0, 0, 50 + rank % 7, 8] for rank in ranks]}
        big["fingerprint"]["tables"][name] = planned["fingerprint"]["tables"][like]
    big["tables"] = tables
    for part in (
        big["memory"],
        big["memory"]["always"],
        big["memory"]["dense_stage"],
        big["memory"]["exchange"],
        big["step"],
        big["sent"],
    ):
        part.update({key: value * times for key, value in part.items() if isinstance(value, list) and len(value) == 16})
    return big


@needs_chromium
@pytest.mark.slow
def test_a_thousand_tables_on_256_ranks_are_drawn_in_three_seconds(planned: dict[str, Any], tmp_path: Path):
    """Of CPU time, Chromium's start among it: the clock would say what else the machine does."""
    write_page(thousand(planned), tmp_path / "plan.html")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    dom = dump(tmp_path / "plan.html", tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 3
    assert "of 1,000 tables" in dom and "from host " in dom


def test_tables_that_constraints_keep_say_where(planned: dict[str, Any]):
    name = next(iter(planned["tables"]))
    kept = {**planned["tables"], name: {**planned["tables"][name], "kept_on": "hosts 0-1"}}
    assert page_data({**planned, "tables": kept})["tables"][0][-1] == "hosts 0-1"
    assert {table[-1] for table in page_data(planned)["tables"]} == {""}


def test_the_scripts_are_all_of_the_page():
    folder = Path(page_module.__file__).parent
    assert {path.name for path in folder.glob("*.js")} == set(SCRIPTS)
