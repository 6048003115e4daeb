"""The page of a benchmark: what is in it, that it asks for nothing else, and that a browser draws it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from interformer_rec.benchmarking.page.page import render
from tests.benchmarking.results import case, result

CHROMIUM = shutil.which("chromium")
EVIL = "</script><script>document.title='ran'</script><img src=x onerror=\"document.title='ran'\">"


def drawn(page: str, folder: Path) -> str:
    """What a browser makes of it."""
    (folder / "page.html").write_text(page, encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    return subprocess.run(
        [str(CHROMIUM), *flags, (folder / "page.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout


def test_the_page_has_every_point_and_asks_for_nothing_else():
    found = result()
    page = render(found)
    assert json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1]) == found  # type: ignore[index]
    assert page.count("<tr data-point=") == 7 and page.count('class="failed"') == 1 and "no room" in page
    assert page.count("<td>4.00</td><td>2.00</td>") == 4  # from 128 to 512 events, a doubling, by both clocks
    assert not re.search(r"""(?:src|href)=|@import|url\(|fetch\(|XMLHttp""", page)


@pytest.mark.skipif(CHROMIUM is None, reason="no program chromium on PATH, which draws the page")
def test_chromium_draws_a_curve_for_each_kind_and_number(tmp_path: Path):
    found = result(name=EVIL, config=EVIL)
    found["cases"][-1]["error"] = EVIL
    dom = drawn(render(found), tmp_path)
    assert "data-draw-ms=" in dom  # the script's last line
    measured = dom.count('class="curve l0"')
    assert measured == dom.count('class="curve l1"') == 5  # samples, events, MFU, memory, waiting
    assert dom.count('class="curve predicted l0"') == dom.count('class="curve predicted l1"') == 2  # samples, memory
    assert dom.count("<circle") == 5 * 6 and dom.count('class="spread') == 6
    assert dom.count("<svg") == 5 and dom.count("<li>") == 2
    assert "<img" not in dom and "<title>&lt;/script&gt;" in dom


@pytest.mark.skipif(CHROMIUM is None, reason="no program chromium on PATH, which draws the page")
def test_prices_traffic_and_ranks_have_plots_and_names_of_their_own(tmp_path: Path):
    cases = [
        case("din", longest, ranks=ranks, candidates=8, sent_bytes=1e6, price_per_million_samples=0.25)
        for longest in (64, 128)
        for ranks in (1, 2)
    ]
    dom = drawn(render(result(cases=cases)), tmp_path)
    assert dom.count("<svg") == 7 and "price a million" in dom
    assert "din, 8 candidates, 1 ranks" in dom and "din, 8 candidates, 2 ranks" in dom


def test_before_anything_is_measured_there_is_a_page():
    page = render(result(cases=result()["cases"][-1:]))
    assert "0 of 1" in page and "What a longer history costs" not in page
