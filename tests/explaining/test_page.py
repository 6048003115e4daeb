"""The page shows what the JSON holds, offline and without scripts, and runs no name."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import Any

import pytest

from docs.reference import explain_json
from docs.reference.plan_json import paths
from interformer_rec.explaining.page import render

CHROMIUM = shutil.which("chromium")
EVIL = "</td><script>document.title='ran'</script><img src=x onerror=\"document.title='ran'\">"


def test_the_page_is_made_of_the_json_and_asks_for_nothing_else(explained):
    content, out = explained.content, explained.out
    saved = json.loads((out / "explain.json").read_text())
    assert saved == content
    html = (out / "explain.html").read_text()
    assert render(saved) == html
    assert not re.search(r"""(?:src|href)=|@import|url\(|<script""", html)
    for entry in content["features"]:
        assert f"{entry['importance']['click']['auc']['mean']:.4f}" in html


def test_the_reference_names_every_key(explained):
    found = set(paths(explained.content, named=explain_json.NAMED))
    known = set(explain_json.explain_keys())
    assert found - {"bad_rows"} <= known
    absent = {
        key.removesuffix(".why") for key in known - found
    }  # no row was bad, everything has a plan, or all but one history
    assert absent == {"bad_rows.REASON", "savings", "features[].saves", "groups[].saves", "fields[].saves"} | {
        f"histories[].saves.{key}" for key in ("table_bytes", "peak_bytes", "step_ms")
    }


def test_metrics_that_are_not_defined_and_savings_that_were_not_planned(explained):
    content = json.loads(json.dumps(explained.content))
    for entry in content["features"]:
        del entry["saves"]
        for metric in entry["importance"]["click"].values():
            metric.update(mean=None, interval=[None, None])
    html = render({**content, "savings": {"why": "no plan"}, "slices": {}, "users": None, "bad_rows": {"a null": 3}})
    assert "Not planned: no plan" in html and "3 bad rows were skipped" in html and "None was asked for" in html


@pytest.mark.skipif(CHROMIUM is None, reason="no program chromium on PATH, which draws the page")
def test_chromium_draws_it_and_runs_no_name(explained, tmp_path):
    content: dict[str, Any] = json.loads(json.dumps(explained.content).replace('"segment"', json.dumps(EVIL)))
    content["features"][0]["name"] = content["run"] = EVIL
    page = tmp_path / "explain.html"
    page.write_text(render(content), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    dom = subprocess.run(
        [str(CHROMIUM), *flags, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    ).stdout
    assert "<script" not in dom and "<img" not in dom and "&lt;/td&gt;&lt;script&gt;" in dom
    entries = [*content["features"], *content["groups"], *content["histories"], *content["fields"]]
    assert dom.count("<svg") == 2 * (len(entries) + 2 * len(content["ages"]))  # a bar a row and label
    assert dom.count("<h2>") == 2 + 2
