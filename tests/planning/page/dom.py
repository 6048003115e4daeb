"""A page as Chromium has drawn it. In: an HTML file, and a script to run when it is drawn; out: its elements."""

from __future__ import annotations

import shutil
import subprocess
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

CHROMIUM = shutil.which("chromium")
VOID = {"meta", "input", "br", "img", "link", "hr"}
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]


def dump(page: Path, folder: Path, script: str = "") -> str:
    """The HTML after drawing, and after `script`; `folder` holds Chromium's own files."""
    shown = page
    if script:
        shown = folder / "scripted.html"
        text = page.read_text(encoding="utf-8")
        shown.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={folder / 'profile'}", shown.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tree = ET.TreeBuilder()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tree.start(tag, {name: value or "" for name, value in attrs})
        if tag in VOID:
            self.tree.end(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            self.tree.end(tag)

    def handle_data(self, data: str) -> None:
        self.tree.data(data)


def elements(html: str) -> ET.Element:
    """The root of a page that Chromium has printed, which closes every element."""
    builder = _Builder()
    builder.feed(html.partition("<html")[1] + html.partition("<html")[2])
    return builder.tree.close()


def text(element: ET.Element) -> str:
    """All text in it, blanks made one."""
    return " ".join("".join(element.itertext()).split())


def by_id(root: ET.Element, name: str) -> ET.Element:
    """The element of that id."""
    (found,) = [element for element in root.iter() if element.get("id") == name]
    return found


def rows(table: ET.Element) -> dict[str, list[str]]:
    """Text of a body row's first cell -> texts of the others."""
    cells = [[text(cell) for cell in row] for row in table.iter("tr") if row.find("td") is not None]
    return {first: rest for first, *rest in cells}
