"""An explanation on the screen. In: what explain.json holds; out: a rich table of the most important inputs."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from interformer_rec.text import metric, size

SHOWN = 20  # inputs; the page has all


def show(content: Mapping[str, Any], written: Sequence[str]) -> None:
    """The first label's inputs by their importance in AUC, its histories by age, and where the files are."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    label = content["labels"][0]
    level = f"{100 * content['level']:.0f}%"
    table = Table(title=f"{escape(label)}: loss of AUC, {level} interval", title_justify="left")
    for heading in ("input", "loss of AUC", level, "saves: tables", "step"):
        table.add_column(heading, justify="left" if heading == "input" else "right")
    entries = [*content["features"], *content["groups"], *content["histories"]]
    entries.sort(key=lambda entry: -(entry["importance"][label]["auc"]["mean"] or 0.0))
    for entry in entries[:SHOWN]:
        saves = entry.get("saves", {})
        saved = (size(saves["table_bytes"]), f"{saves['step_ms']:.2f} ms") if "step_ms" in saves else ("–", "–")
        table.add_row(*map(escape, (entry["name"], *_cells(entry["importance"][label]), *saved)))
    for age in content["ages"]:
        first, last = age["ages"]
        name = f"{age['history']}, age {first}" + (f"-{last}" if last > first else "")
        table.add_row(*map(escape, (name, *_cells(age["permuted"][label]), "", "")))
    console.print(table)
    if "why" in content["savings"]:
        console.print(f"savings were not planned: {escape(content['savings']['why'])}", soft_wrap=True)
    for file in written:
        console.print(f"wrote {escape(file)}", soft_wrap=True)


def _cells(importance: Mapping[str, Any]) -> tuple[str, str]:
    auc = importance["auc"]
    return metric(auc["mean"]), " to ".join(map(metric, auc["interval"]))
