"""Prose wraps at 120 columns: lines of text, not tables, code, generated references, or an address that cannot be cut."""

from tests.docs.test_links import FENCE, ROOT, markdown_files

WIDTH = 120


def too_wide(text: str) -> list[str]:
    """The lines of Markdown prose that are longer than WIDTH."""
    lines = FENCE.sub("", text).splitlines()
    return [
        line for line in lines if len(line) > WIDTH and not line.lstrip().startswith(("|", "<")) and "://" not in line
    ]


def test_prose_wraps():
    found = {
        str(path.relative_to(ROOT)): lines
        for path in markdown_files(ROOT)
        if (lines := too_wide(path.read_text(encoding="utf-8")))
    }
    assert found == {}


def test_a_wide_line_is_found():
    wide = "word " * 30
    assert too_wide(f"{wide}\n| {wide} |\n```\n{wide}\n```\n") == [wide]
