"""The site of the documentation: links are led to its pages, every guide has a place in the navigation, the build has no warning."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

ROOT = Path(__file__).parents[2]
pytest.importorskip("mkdocs")

from docs.site import pages  # noqa: E402


def shown(name: str, text: str) -> str:
    return pages.on_page_markdown(text, SimpleNamespace(file=SimpleNamespace(src_uri=name)))


@pytest.mark.parametrize(
    ("page", "text", "led"),
    [
        ("index.md", "[a](docs/glossary.md#data)", "[a](glossary.md#data)"),
        ("index.md", "![a](docs/pictures/architecture.svg)", "![a](pictures/architecture.svg)"),
        ("index.md", "[a](docs/decisions/)", "[a](decisions/README.md)"),
        ("guides/planning.md", "[a](../../README.md)", "[a](../index.md)"),
        ("guides/planning.md", "[a](faults.md#commands)", "[a](faults.md#commands)"),
        ("guides/planning.md", "[a](../../configs/synthetic.yaml)", "[a](../files/configs/synthetic.yaml.md)"),
        ("examples.md", "[a](minimal.yaml)", "[a](files/examples/minimal.yaml.md)"),
        ("index.md", "[a](https://example.org/x.md) [b](#here)", "[a](https://example.org/x.md) [b](#here)"),
        ("index.md", "[a](no/such.md)", "[a](no/such.md)"),  # MkDocs complains
        ("index.md", "`[a](docs/glossary.md)`", "`[a](docs/glossary.md)`"),
        ("index.md", "```\n[a](docs/glossary.md)\n- b\n```", "```\n[a](docs/glossary.md)\n- b\n```"),
        ("index.md", "`x` of\n- `y`\n- z\n  w\n- v", "`x` of\n\n- `y`\n- z\n  w\n- v"),
        ("index.md", "| 0.75 ± 0.01 |", "| 0.75\u00a0±\u00a00.01 |"),  # on one line
        ("index.md", "text\n| a | b |\n|---|---|", "text\n\n| a | b |\n|---|---|"),
    ],
)
def test_what_a_repository_shows_the_site_shows(page, text, led):
    assert shown(page, text) == led


def test_every_guide_and_reference_has_a_place():
    text = re.sub(r"!!python\S*", "", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    listed = yaml.safe_load(text)["nav"]
    there = pages._pages(pages.on_config(SimpleNamespace(nav=listed)).nav)
    files = [f"{name}/{path.name}" for name in ("guides", "reference") for path in (ROOT / "docs" / name).glob("*.md")]
    assert len(there) == len(set(there)) and set(files) <= set(there)
    fewer = pages.on_config(SimpleNamespace(nav=listed[1:])).nav
    assert {"More": ["guides/first-model.md", "guides/model.md"]} in fewer  # those that mkdocs.yml lacks


def test_every_module_has_a_page():
    listed = {module for _, _, modules in pages._api() for module in modules}
    assert {"interformer_rec.cli", "interformer_rec.config.run", "interformer_rec.planning.search.improve"} <= listed


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert ended.returncode == 0, ended.stderr
    html = {path: path.read_text(encoding="utf-8") for path in (tmp_path / "site").rglob("*.html")}
    assert len(html) > 60
    for path, text in html.items():
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=\"?([^\s\">]+)|<link[^>]*\shref=\"?([^\s\">]+)", text)
        assert not [url for pair in loaded for url in pair if re.match(r"(https?:)?//", url)], path
