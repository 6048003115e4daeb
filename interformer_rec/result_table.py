"""The result of a command on the screen. In: names and values; out: a table, or one JSON object."""

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from interformer_rec.files import finite
from interformer_rec.redaction import redact


def show(title: str, values: Mapping[str, Any], as_json: bool = False) -> None:
    """Print a result on rank 0 only: the other processes of a torchrun have the same one."""
    if os.environ.get("RANK", "0") != "0":
        return
    if as_json:
        print(json.dumps(finite(values)))
        return
    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in values.items():
        table.add_row(*map(_as_it_is, (name, f"{value:.6g}" if isinstance(value, float) else redact(str(value)))))
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _as_it_is(text: str) -> Text:
    """No markup: names come from other people's configs. What is not printable could change the terminal, and is shown escaped."""
    return Text("".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text))
