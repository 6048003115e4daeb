"""The page of a study: what is in it, that it asks for nothing else, and that a browser draws it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from interformer_rec.tuning.page.page import render
from tests.tuning.conftest import TRIALS, content

CHROMIUM = shutil.which("chromium")
EVIL = "</script><script>document.title='ran'</script><img src=x onerror=\"document.title='ran'\">"


def test_the_page_has_every_trial_and_asks_for_nothing_else(study: Path):
    page = (study / "study.html").read_text(encoding="utf-8")
    found = content(study)
    assert page == render(found)
    assert json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1]) == found  # type: ignore[index]
    assert page.count("<tr data-trial=") == TRIALS and page.count('class="best"') == 1
    assert "d / heads = 3 must be even" in page
    assert not re.search(r"""(?:src|href)=|@import|url\(|fetch\(|XMLHttp""", page)
    shares = found["importance"]["shares"]
    assert set(shares) <= set(found["space"]) and sum(shares.values()) == pytest.approx(1.0)


@pytest.mark.skipif(CHROMIUM is None, reason="no program chromium on PATH, which draws the page")
def test_chromium_draws_all_three_plots_and_runs_no_name(study: Path, tmp_path: Path):
    found = content(study)
    changed = json.loads(json.dumps(found).replace('"why": null', f'"why": {json.dumps(EVIL)}'))
    changed["name"] = EVIL
    (tmp_path / "page.html").write_text(render(changed), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    dom = subprocess.run(
        [str(CHROMIUM), *flags, (tmp_path / "page.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    assert "data-draw-ms=" in dom  # the script's last line
    scored = [trial for trial in found["trials"] if trial["evaluations"]]
    assert dom.count("<svg") == 3 and dom.count("<circle") == dom.count("<polyline") == len(scored)
    assert dom.count('class="bar"') == len(found["importance"]["shares"])
    assert dom.count('class="track best"') == dom.count('class="dot best"') == 1
    assert "<title>&lt;/script&gt;" in dom and "<img" not in dom


def test_a_study_without_a_finished_trial_has_a_page(study: Path):
    found = content(study)
    waiting = {
        **found["trials"][0],
        "state": "running",
        "value": None,
        "evaluations": [],
        "seconds": None,
        "epoch": None,
    }
    page = render({**found, "best": None, "importance": None, "trials": [waiting], "counts": {"running": 1}})
    assert "Not there yet" in page and "running" in page
