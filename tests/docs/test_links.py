"""Every relative link between the project's Markdown files leads somewhere: the file exists, and so does the heading or anchor."""

import re
import subprocess
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"!?\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^()\s]+(?:\([^()]*\))?[^()\s]*)(?:\s+\"[^\"]*\")?\)")
FENCE = re.compile(r"^(```|~~~).*?^\1\s*$", re.MULTILINE | re.DOTALL)


def markdown_files(root: Path) -> list[Path]:
    try:
        listed = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard", "*.md"], cwd=root, text=True)
        names = listed.splitlines()
    except (OSError, subprocess.CalledProcessError):  # a copy without git
        names = [str(path.relative_to(root)) for place in ("", "docs/**/") for path in root.glob(f"{place}*.md")]
    return sorted(root / name for name in names if (root / name).is_file())


def prose(text: str) -> str:
    """The text without code blocks and code in lines, where brackets are no links."""
    return re.sub(r"`[^`\n]*`", "``", FENCE.sub("", text))


def anchors(text: str) -> set[str]:
    """The names that headings get on the web: lower case, spaces as dashes, the rest of the punctuation gone, -1 for a second."""
    found: set[str] = set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text))
    for heading in re.findall(r"^#{1,6}\s+(.*?)\s*#*$", FENCE.sub("", text), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        count = 0
        while (numbered := f"{name}-{count}" if count else name) in found:
            count += 1
        found.add(numbered)
    return found


def broken(root: Path) -> list[str]:
    complaints = []
    for path in markdown_files(root):
        for target in LINK.findall(prose(path.read_text(encoding="utf-8"))):
            if re.match(r"[a-z][a-z0-9+.-]*:", target):
                continue
            name, _, anchor = unquote(target).partition("#")
            there = (path.parent / name).resolve() if name else path
            where = f"{path.relative_to(root)}: {target}"
            if root.resolve() not in (there, *there.parents):
                complaints.append(f"{where} leads out of the project")
            elif not there.exists():
                complaints.append(f"{where}: no such file")
            elif anchor and there.suffix == ".md" and anchor not in anchors(there.read_text(encoding="utf-8")):
                complaints.append(f"{where}: no such heading")
    return complaints


def test_links_lead_somewhere():
    assert len(markdown_files(ROOT)) > 20
    assert broken(ROOT) == []


def test_broken_links_are_found(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "b.md").write_text(
        "# The title\n## Twice\n## Twice\n## `code`, and [a link](b.md)\n```\n# no\n```\n"
    )
    good = "[](docs/b.md) [x](docs/b.md#the-title) [x](docs/b.md#twice-1) [x](docs/b.md#code-and-a-link) [x](#here)\n"
    good += "[x](https://example.org/no) `[x](no.md)` [![p](docs/b.md)](docs) \n```\n[x](no.md)\n```\n# Here\n"
    bad = ["[x](no.md)", "[x](docs/b.md#no)", "[x](#nowhere)", "[a\nb](docs/c.md)", "![p](p.png)", "[x](../out.md)"]
    (tmp_path / "a.md").write_text(good)
    assert broken(tmp_path) == []
    for link in bad:
        (tmp_path / "a.md").write_text(good + link)
        assert len(broken(tmp_path)) == 1, link
