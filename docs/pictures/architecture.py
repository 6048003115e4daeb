"""Draws InterFormer's architecture, the README's picture. In: nothing; out: docs/pictures/architecture.svg.

python docs/pictures/architecture.py
"""

from __future__ import annotations

from pathlib import Path

FILE = Path(__file__).with_suffix(".svg")
WIDTH, HEIGHT = 880, 600
BLUE, GREEN, YELLOW, GREY = "#dbe9f9", "#dcf0df", "#fbeecb", "#eceef1"
INK, SOFT = "#1f2933", "#52606d"


def box(x: int, y: int, width: int, height: int, color: str, title: str, *lines: str) -> str:
    """A rectangle with a bold title and plain lines below it, all centred."""
    middle, first = x + width / 2, y + height / 2 - 9 * len(lines) + 5
    texts = [f'<text x="{middle:g}" y="{first:g}" font-weight="bold">{title}</text>']
    texts += [
        f'<text x="{middle:g}" y="{first + 18 * (i + 1):g}" fill="{SOFT}" font-size="13">{line}</text>'
        for i, line in enumerate(lines)
    ]
    shape = f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="{color}" stroke="{INK}"/>'
    return "\n".join([shape, *texts])


def arrow(path: str, color: str = INK) -> str:
    """A line along an SVG path, with a head at its end."""
    return f'<path d="{path}" fill="none" stroke="{color}" stroke-width="1.8" marker-end="url(#head)"/>'


def label(x: int, y: int, text: str) -> str:
    """A small note beside an arrow."""
    return f'<text x="{x}" y="{y}" fill="{SOFT}" font-size="13">{text}</text>'


def parts() -> list[str]:
    """The picture from top to bottom; the non-sequence features X on the left, the behaviour sequences S on the right."""
    return [
        box(60, 15, 300, 56, GREY, "non-sequence features", "user, item, context: numbers, ids, bags"),
        box(520, 15, 300, 56, GREY, "behaviour sequences", "histories of events, oldest first"),
        arrow("M210 71 V97"),
        arrow("M670 71 V97"),
        box(60, 100, 300, 56, BLUE, "X", "one token for all numbers, one a field"),
        box(520, 100, 300, 56, GREEN, "S", "MaskNet merges an event's ids; jagged"),
        f'<rect x="20" y="182" width="840" height="290" rx="12" fill="none" stroke="{SOFT}" stroke-dasharray="6 5"/>',
        '<text x="440" y="203" font-weight="bold">one layer, repeated</text>',
        arrow("M210 156 V221"),
        arrow("M670 156 V221"),
        box(110, 224, 200, 62, YELLOW, "X_sum", "Gate(LCE(X))"),
        box(570, 224, 200, 62, YELLOW, "S_sum", "Gate([CLS; PMA; recent])"),
        '<text x="440" y="246" font-weight="bold">Cross Arch</text>',
        label(440, 265, "a summary of each side"),
        arrow("M250 286 C 250 345, 610 315, 610 371"),
        arrow("M630 286 C 630 345, 270 315, 270 371"),
        label(440, 308, "each side reads the other's summary"),
        arrow("M85 156 V371"),
        arrow("M795 156 V371"),
        box(
            60,
            374,
            330,
            78,
            BLUE,
            "Interaction Arch",
            "X ← MLP(Interaction([X; S_sum]))",
            "features, aware of behaviour",
        ),
        box(490, 374, 330, 78, GREEN, "Sequence Arch", "S ← MHA(PFFN(X_sum, S))", "events, aware of the features"),
        arrow("M225 452 V497"),
        arrow("M655 452 V497"),
        box(60, 500, 760, 40, YELLOW, "last Cross Arch:  X_sum and S_sum"),
        arrow("M440 540 V560"),
        '<text x="440" y="580" font-weight="bold">MLP([X_sum; S_sum])  →  probability of a click</text>',
    ]


def picture() -> str:
    """The SVG file's text."""
    head = (
        '<defs><marker id="head" viewBox="0 0 10 10" refX="8" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 L10 5 L0 10 z" fill="{INK}"/></marker></defs>'
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
            f'font-family="Helvetica, Arial, DejaVu Sans, sans-serif" font-size="15" text-anchor="middle" fill="{INK}">',
            "<title>InterFormer's architecture</title>",
            head,
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
            *parts(),
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    FILE.write_text(picture(), encoding="utf-8")
