"""Both pages are made with one environment, one frame and one style, all of which a wheel holds."""

import json
import re
from pathlib import Path

import jinja2
import pytest
from markupsafe import Markup

from interformer_rec.html.environment import json_block, render, script

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "interformer_rec"
SHARED = ("element", "scale", "ms", "bytes")  # functions of the scripts that stand once


def test_a_page_is_the_frame_with_its_own_style_and_its_numbers_are_text(tmp_path):
    (tmp_path / "p.css").write_text("b { color: red; }")
    (tmp_path / "p.html.j2").write_text(
        '{% extends "frame.html.j2" %}{% block title %}{{ name }}{% endblock %}{% block style %}{% include "p.css" %}'
        "{% endblock %}{% block body %}{{ n | size }}, {{ r | ranks }}, {{ raw }}{% endblock %}"
    )
    page = render(tmp_path, "p.html.j2", {"name": "<a>", "n": 2048, "r": [0, 1, 2], "raw": Markup("<hr>")})
    assert page.startswith("<!doctype html>") and page.rstrip().endswith("</html>")
    assert "<title>&lt;a&gt;</title>" in page and "2.0 KiB, 0–2, <hr>" in page
    assert page.index("--ink:") < page.index("b { color: red; }") < page.index("</style>")
    with pytest.raises(jinja2.UndefinedError, match="'raw' is undefined"):
        render(tmp_path, "p.html.j2", {"name": "", "n": 1, "r": []})


def test_no_page_has_an_environment_or_a_frame_of_its_own():
    for template in PACKAGE.rglob("*.html.j2"):
        text = template.read_text(encoding="utf-8")
        assert template.name == "frame.html.j2" or text.startswith('{% extends "frame.html.j2" %}'), template
    users = [path for path in PACKAGE.rglob("*.py") if "jinja2.Environment(" in path.read_text(encoding="utf-8")]
    assert [path.name for path in users] == ["environment.py"]


def test_a_rule_of_the_shared_style_stands_once():
    shared = set((PACKAGE / "html/frame.css").read_text(encoding="utf-8").splitlines()) - {
        "}",
        "  }",
        "  :root {",
        ":root {",
    }
    for path in PACKAGE.rglob("*.css"):
        if path.name != "frame.css":
            own = set(path.read_text(encoding="utf-8").splitlines())
            assert {line for line in own & shared if not line.startswith("@media (prefers")} == set(), path


def test_the_wheel_has_every_file_of_a_page():
    packages = dict(
        re.findall(r'"interformer_rec\.([\w.]+)": \[(.*?)\]', (ROOT / "setup.py").read_text(encoding="utf-8"))
    )
    for path in PACKAGE.rglob("*"):
        if path.suffix in (".j2", ".css", ".js"):
            listed = packages[".".join(path.parent.relative_to(PACKAGE).parts)]
            assert f'"*{path.suffix}"' in listed, f"{path}: setup.py's package_data leaves it out"


def test_numbers_cannot_end_their_script_element_and_scripts_share_what_draws(tmp_path):
    assert json.loads(json_block({"name": "</script><b>é"})) == {"name": "</script><b>é"}
    assert "<" not in json_block({"name": "</script><b>é"})
    (tmp_path / "a.js").write_text("let a = 1;")
    (tmp_path / "b.js").write_text("let b = a;")
    text = script(tmp_path, "a.js", "b.js")
    assert text.index("function element(") < text.index("let a = 1;") < text.index("let b = a;")
    functions = [
        (path.name, name)
        for path in PACKAGE.rglob("*.js")
        for name in re.findall(r"^function (\w+)\(", path.read_text(encoding="utf-8"), re.M)
    ]
    assert len({found for _, found in functions if found in SHARED}) == len(SHARED)
    assert {name for name, found in functions if found in SHARED} == {"svg.js", "numbers.js"}
