"""Makes the site of the project's Markdown. In: docs/, the files outside it that links name, the package's modules; out: MkDocs' pages.

MkDocs loads this file (mkdocs.yml, `hooks`). The Markdown is written for a repository's pages, where a link may leave docs/ and a list or
table may follow a paragraph without a blank line: links are led to pages of the site, and the blank lines are added. A file outside
docs/ that is linked (a config, say) becomes a page that shows it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PAGES = {  # files outside docs/ that are pages of their own
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "examples/README.md": "examples.md",
    "benchmarks/results/README.md": "results.md",
}
PACKAGE = "interformer_rec"
NUMBERS = re.compile(r"(?<=\d) (?=± \d)|(?<=\d ±) (?=\d)")  # a number and its deviation stay on one line
LINK = re.compile(r"(\]\()([^()\s]+)(\))")  # from the end of its text on, which may have code in it
CODE = re.compile(r"^(```|~~~).*?^\1[^\n]*$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
OWN_BLOCK = re.compile(r"[-*] |\d+\. |\|")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".sh": "bash", ".sbatch": "bash", ".json": "json", ".toml": "toml"}


def on_config(config: Any) -> Any:
    """MkDocs asks for the navigation: decisions and modules are listed here, guides in mkdocs.yml; those it lacks stand under More."""
    decisions = [f"decisions/{path.name}" for path in sorted((ROOT / "docs/decisions").glob("*.md"), key=_readme_first)]
    modules = [{folder or PACKAGE: page} for folder, page, _ in _api()]
    places = [
        f"{folder}/{path.name}" for folder in ("guides", "reference") for path in (ROOT / "docs" / folder).glob("*.md")
    ]
    more = sorted(set(places) - set(_pages(config.nav)))
    config.nav = [*config.nav, *([{"More": more}] if more else []), {"Decisions": decisions}, {"Modules": modules}]
    return config


def on_files(files: Files, config: Any) -> Files:
    """MkDocs asks for pages: those that are no file below docs/."""
    for path, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / path)))
    for folder, page, modules in _api():
        files.append(File.generated(config, page, content=_modules_page(folder, modules)))
    for path in sorted(set(_linked_outside())):
        fence = f"```{LANGUAGES.get(path.suffix, 'text')}"
        text = f"# {path}\n\n{fence}\n{(ROOT / path).read_text(encoding='utf-8').rstrip()}\n```\n"
        files.append(File.generated(config, _site(path), content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """MkDocs has read a page: its links lead to pages of the site, and lists and tables are blocks of their own."""
    source = _source(page.file.src_uri)
    if source is None:
        return markdown
    here = os.path.dirname(page.file.src_uri) or "."

    def led(match: re.Match[str]) -> str:
        target = _target(source, match[2])
        if target is None:
            return match[0]
        anchor = match[2].partition("#")[1:]
        return f"{match[1]}{os.path.relpath(_site(target), here)}{''.join(anchor)}{match[3]}"

    return _outside_code(markdown, lambda text: NUMBERS.sub("\u00a0", LINK.sub(led, text)), _blocks)


def _pages(entries: Any) -> list[str]:
    """All pages of a navigation."""
    if isinstance(entries, str):
        return [entries]
    parts = entries.values() if isinstance(entries, dict) else entries
    return [page for part in parts for page in _pages(part)]


def _readme_first(path: Path) -> tuple[bool, str]:
    return path.name != "README.md", path.name


def _api() -> Iterator[tuple[str, str, list[str]]]:
    """(folder below the package, page, modules), a page a folder; the package's own modules first."""
    package = ROOT / PACKAGE
    for folder in sorted({path.parent for path in package.rglob("*.py")}):
        names = sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("__"))
        inside = folder.relative_to(package).as_posix().removeprefix(".")
        dotted = ".".join(folder.relative_to(ROOT).parts)
        if names:
            yield inside, f"modules/{inside or PACKAGE}.md", [f"{dotted}.{name}" for name in names]


def _modules_page(folder: str, modules: list[str]) -> str:
    return "\n\n".join([f"# {PACKAGE}/{folder}", *(f"::: {module}" for module in modules)]) + "\n"


def _linked_outside() -> Iterator[Path]:
    """Files outside docs/ that links of the pages name and that are no page yet."""
    texts = [*PAGES, *(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))]
    for name in texts:
        for _, link, _ in LINK.findall(CODE.sub("", (ROOT / name).read_text(encoding="utf-8"))):
            target = _target(Path(name), link)
            if target is not None and target.parts[0] != "docs" and target.as_posix() not in PAGES:
                yield target


def _source(page: str) -> Path | None:
    """The file of the project that a page is made of; None for a page that is made here."""
    own = {uri: path for path, uri in PAGES.items()}.get(page)
    path = Path(own) if own else Path("docs", page)
    return path if (ROOT / path).is_file() else None


def _target(source: Path, link: str) -> Path | None:
    """The file that a link names, from the project's root; None for a page elsewhere, the same page, or a file that is not there."""
    name = unquote(link.partition("#")[0])
    if not name or re.match(r"[a-z][a-z0-9+.-]*:", link):
        return None
    path = Path(os.path.normpath(source.parent / name))
    if (ROOT / path).is_dir():
        path /= "README.md"
    return path if (ROOT / path).is_file() else None


def _site(path: Path) -> str:
    """Where the site has a file of the project."""
    name = path.as_posix()
    if path.parts[0] == "docs":
        return name.removeprefix("docs/")
    return PAGES.get(name) or f"files/{name}.md"


def _outside_code(markdown: str, in_prose: Any, in_lines: Any) -> str:
    """`in_prose` on what is outside of code, then `in_lines` on what is outside of code blocks."""
    at, done = 0, []
    for code in CODE.finditer(markdown):
        done += [in_prose(markdown[at : code.start()]), code[0]]
        at = code.end()
    text, at, whole = "".join([*done, in_prose(markdown[at:])]), 0, []
    for code in CODE.finditer(text):
        if code[1]:
            whole += [in_lines(text[at : code.start()]), code[0]]
            at = code.end()
    return "".join([*whole, in_lines(text[at:])])


def _blocks(text: str) -> str:
    """A blank line before a list or a table that follows a paragraph."""
    lines: list[str] = []
    for line in text.split("\n"):
        before = lines[-1] if lines else ""
        goes_on = OWN_BLOCK.match(before) or before.startswith((" ", "\t"))
        if OWN_BLOCK.match(line) and before.strip() and not goes_on:
            lines.append("")
        lines.append(line)
    return "\n".join(lines)
