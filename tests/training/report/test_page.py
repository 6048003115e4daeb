"""The report of a run folder: complete, partial and hostile inputs; one file, nothing from outside, same every time."""

from __future__ import annotations

import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from interformer_rec.errors import InputError
from interformer_rec.training.folder.run_log import RunLog
from interformer_rec.training.report.page import write_report

COLOURS = {f"var(--{name})" for name in ("soft", "line", "s1", "s2", "s3", "s4", "s5", "s6")}
EVIL = "_$x^$ & <script>alert('1')</script>"
CONFIG = f"name: demo run\ndata:\n  train: s3://me:secret@bucket/train\nnote: {json.dumps(EVIL)}\n"


def run_folder(folder: Path, labels: tuple[str, ...] = ("click",)) -> Path:
    """A finished run, written by the real log."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(CONFIG, encoding="utf-8")
    values: dict[str, Any] = {"rows": 1234.0, "seconds": 2.5}
    for label in labels:
        values |= {f"{label}/auc": 0.7311, f"{label}/gauc": math.nan, f"{label}/logloss": 0.4, f"{label}/ne": 0.9}
        values |= {f"{label}/gauc_request": 0.6177}
    with RunLog(folder, enabled=True, total_steps=lambda: 200, console=Console(file=io.StringIO())) as log:
        for step in range(20, 201, 20):
            speed = {"samples_per_second": 5000.0 + step, "data_wait_share": 0.01}
            log.train({"epoch": 0, "step": step, "rows": 5000, "seconds": 1.0, "loss": 1 / step, **speed})
            if step % 100 == 0:
                log.evaluation("valid", {"epoch": 0, "step": step, **values})
    bins = [{"mean_score": 0.1 * i, "mean_label": 0.1 * i + 0.01, "weight": 10.0} for i in range(1, 8)]
    test = {**values, "calibration_bins": dict.fromkeys(labels, bins)}
    write = {
        "evaluation.json": {"valid": test, "test": test},
        "data.json": {
            "train": {
                "rows": 1436609,
                "bad_rows": {"null label": 3, "nan": 4},
                "path": "s3://me:secret@bucket/train",
            },
            "tables": {"item": {"rows": 7585, "ids": "vocab"}, EVIL: {"rows": 9, "ids": "hash"}},
            "sequences": {"hist": {"mean": 38.25, "p50": 42, "p95": 50, "max": 50, "empty": 0.021}},
        },
        "plan.json": {
            "fingerprint": {
                "tables": {
                    "item": {"rows": 7585, "dim": 32, "dtype": "float32", "pooled": False},
                    EVIL: {"rows": 9, "dim": 32, "dtype": "float32", "pooled": True},
                }
            },
            "tables": {
                "item": {"sharding": "row_wise", "kernel": "fused", "shards": [[r, 0, 0, 1, 32] for r in (2, 0, 1, 5)]},
                EVIL: {"sharding": "table_wise", "kernel": "fused", "shards": [[1, 0, 0, 9, 32]]},
            },
        },
        "environment.json": {"python": "3.11.2", "versions": {"torch": "2.13.0"}, "command": EVIL},
        "baselines.json": {"item popularity": {f"{labels[0]}/auc": 0.7061}, EVIL: {f"{labels[0]}/auc": 0.7024}},
    }
    for name, content in write.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


class Page(HTMLParser):
    """What a browser would fetch or run, the visible text, and whether every element is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.tags: dict[str, int] = {}
        self.open: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)
        links = [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data", "action")]
        self.fetched += [link for link in links if not link.startswith("#")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + "\n"


def read(folder: Path) -> tuple[str, Page]:
    html = write_report(folder).read_text(encoding="utf-8")
    page = Page(html)
    assert page.open == []
    return html, page


def test_every_section_of_a_finished_run(tmp_path: Path) -> None:
    html, page = read(run_folder(tmp_path))
    for words in (
        *("demo run", "0.7311", "1,234", "–", "Test set", "best checkpoint", "200 steps", "10.0 s of training"),
        *(
            "item popularity",
            "0.7061",
            "1,436,609",
            "\n7\n",
            "38.2",
            "2.1%",
            "0–2, 5",
            "948.1 KiB",
            "row_wise",
        ),
        *("versions.torch", "2.13.0", "click: logloss, validation"),
    ):
        assert words in page.text, words
    assert "Not there yet" not in page.text
    titles = [
        "Loss",
        "AUC",
        "GAUC by request",
        "NE",
        "Calibration",
        "Throughput",
        "Waiting for data",
    ]  # GAUC: never defined here
    assert page.tags["svg"] == len(titles)
    drawn = "".join(re.findall("<svg.*?</svg>", html, re.DOTALL))
    assert set(re.findall(r'(?:fill|stroke)[:=]"?([^"]*)', drawn)) <= {"none", *COLOURS}  # every colour is the page's


def test_nothing_comes_from_outside_and_nothing_runs(tmp_path: Path) -> None:
    html, page = read(run_folder(tmp_path, labels=("click", EVIL)))
    assert page.fetched == []
    assert not page.tags.keys() & {"script", "link", "img", "iframe", "object", "image"}
    assert "@import" not in html and "url(http" not in html
    assert page.text.count("<script>alert('1')</script>") >= 5  # shown as text wherever it was named
    assert "secret" not in html and page.text.count("s3://***@bucket/train") == 2


def test_same_inputs_same_bytes(tmp_path: Path) -> None:
    first = write_report(run_folder(tmp_path)).read_bytes()
    assert write_report(tmp_path).read_bytes() == first
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


def test_only_a_config(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG, encoding="utf-8")
    _, page = read(tmp_path)
    assert page.text.count("Not there yet") == 5
    assert "nothing has been evaluated" in page.text
    assert "svg" not in page.tags


def test_a_run_under_way_shows_its_last_validation(tmp_path: Path) -> None:
    run_folder(tmp_path)
    for name in ("evaluation.json", "data.json", "baselines.json"):
        (tmp_path / name).unlink()
    _, page = read(tmp_path)
    assert "Valid set, 1,234 rows, step 200; the run is not finished" in page.text
    assert "Calibration" in page.text and page.tags["svg"] == 6


def test_one_step_and_undefined_losses(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("name: x\n", encoding="utf-8")
    with RunLog(tmp_path, enabled=True, total_steps=lambda: 1, console=Console(file=io.StringIO())) as log:
        log.train({"epoch": 0, "step": 1, "loss": math.nan, "rows": 0, "seconds": 0.0, "samples_per_second": 0.0})
    _, page = read(tmp_path)
    assert "1 step," in page.text and page.tags["svg"] == 1


def test_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not a run folder: cannot read its config\.yaml"):
        write_report(tmp_path / "nowhere")
    (tmp_path / "config.yaml").write_text("name: x\n", encoding="utf-8")
    (tmp_path / "plan.json").write_text("[{")
    with pytest.raises(InputError, match=r"plan\.json.*not valid JSON"):
        write_report(tmp_path)
    (tmp_path / "plan.json").write_text('{"fingerprint": {"tables": {"item": {"rows": 9}}}}', encoding="utf-8")
    with pytest.raises(InputError, match=r"plan\.json' is not a plan .*tables"):
        write_report(tmp_path)
