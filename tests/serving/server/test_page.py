"""The page at /, in a real browser: what it shows of a running server, and a request sent from it."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess

import pytest

from interformer_rec.serving.server.page import page

CHROMIUM = shutil.which("chromium")
EVIL = "</script><script>document.title='ran'</script>"


def drawn(url: str) -> str:
    """The document after its scripts have run."""
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=4000", "--dump-dom", url]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


@pytest.mark.skipif(CHROMIUM is None, reason="opens the page in Chromium")
def test_the_page_scores_the_example_and_says_which_inputs_moved_it(server):
    version = server.service.versions.current.version
    scored = drawn(f"http://127.0.0.1:{server.port}/?try=score")
    assert f'<span id="version">{version}</span>, <span id="delta"></span><span id="ready">ready</span>' in scored
    rows = re.findall(r"<tr><td>(\d+)</td><td>(\d+)</td><td class=\"number\">(0\.\d{6})</td>", scored)
    example = server.service.versions.current.example
    wanted = server.post("/v1/rank", example)
    assert [int(candidate) for _, candidate, _ in rows] == wanted["order"]
    assert [float(score) for _, _, score in rows] == [
        pytest.approx(wanted["scores"]["label"][i], abs=1e-6) for i in wanted["order"]
    ]
    assert "p99, ms" in scored and "cache hits" in scored and "Model card" in scored
    explained = drawn(f"http://127.0.0.1:{server.port}/?try=explain")
    assert explained.count("<meter") > 3 and "hist0_item_id" in explained


def test_names_on_the_page_are_text(server):
    served = server.service.versions.current
    evil = dataclasses.replace(served, name=EVIL, card=EVIL, example={"user": {"a": EVIL}, "candidates": [{"b": EVIL}]})
    found = page(evil)
    assert "<script>document" not in found
    assert found.count("<script>") == 1
