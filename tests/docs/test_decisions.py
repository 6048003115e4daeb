"""Every decision has its context, choice, rejected alternatives, what was measured and a status, and stands in the list of decisions."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs/decisions"
DECISIONS = sorted(FOLDER.glob("0*.md"))


def status(text: str) -> str:
    found = re.search(r"^Status: (.+?)\.\n\n", text, re.MULTILINE | re.DOTALL)
    assert found, "no line `Status: ...` below the title"
    return found[1].replace("\n", " ")


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.name[:4])
def test_a_decision_has_its_parts(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"# {path.name[:4]} ")
    headings = re.findall(r"^## (\w+)", text, re.MULTILINE)
    assert {"Context", "Choice", "Rejected", "Measured"} <= set(headings), headings
    assert status(text).startswith(("holds", "superseded"))
    if "superseded" in status(text):
        assert re.search(r"\]\(\d{4}-[\w-]+\.md\)", status(text)), "superseded by what?"


def test_the_list_says_what_the_pages_say():
    rows = (FOLDER / "README.md").read_text(encoding="utf-8").splitlines()
    listed = [row for row in rows if row.startswith("| [")]
    expected = []
    for path in DECISIONS:
        text = path.read_text(encoding="utf-8")
        title = re.match(r"# \d{4} (.*)", text)
        expected.append(f"| [{path.name[:4]}]({path.name}) | {title[1] if title else ''} | {status(text)} |")
    assert listed == expected
