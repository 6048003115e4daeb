"""What a benchmark prints. In: cases as they are measured; out: a table that grows, or lines where nobody watches a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from interformer_rec.benchmarking.doublings import doublings
from interformer_rec.redaction import redact
from interformer_rec.text import clock, count, milliseconds, share, size

COLUMNS = (
    "longest", "cand.", "ranks", "batch", "events/row", "step", "middle half", "samples/s", "events/s", "MFU", "peak", "waiting",
    "predicted", "pred./meas.",
)  # fmt: skip


class Screen:
    """Rank 0's; a context manager. `enabled` False: says nothing."""

    def __init__(self, enabled: bool, console: Console | None = None) -> None:
        self._enabled = enabled
        self._console = console or Console(width=None if sys.stdout.isatty() else 180)
        self._live = Live(console=self._console, auto_refresh=False) if enabled and self._console.is_terminal else None

    def __enter__(self) -> Screen:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def say(self, text: str) -> None:
        """A line."""
        if self._enabled:
            self._console.print(redact(text), markup=False, highlight=False, soft_wrap=True)

    def turn(self, result: Mapping[str, Any], number: int, turns: int, seconds_left: float | None, text: str) -> None:
        """A turn is over; `text`: what it measured."""
        if not self._enabled:
            return
        eta = f", about {clock(seconds_left)} left" if seconds_left is not None else ""
        if self._live:
            self._live.update(table(result, f"turn {number} of {turns}{eta}"), refresh=True)
        else:
            self.say(f"turn {number}/{turns}{eta}: {text}")

    def end(self, result: Mapping[str, Any]) -> None:
        """The whole table; on a terminal it is there already, but for its title."""
        if not self._enabled:
            return
        if self._live:
            self._live.update(table(result, "done"), refresh=True)
        else:
            self._console.print(table(result, ""))
        for one in doublings(result["cases"]):
            cpu = "" if one["times_cpu"] is None else f" ({one['times_cpu']:.2f} of CPU time)"
            self.say(
                f"{one['kind']}, from {one['from']:,} to {one['to']:,} events: a sample takes {one['times']:.2f} times as long{cpu}; "
                f"{one['events_from']:,.1f} to {one['events_to']:,.1f} events a row"
            )
        for case in result["cases"]:
            if case["error"]:
                self.say(f"{case['kind']}, {case['longest']:,} events: {case['error']}")


def table(result: Mapping[str, Any], state: str) -> Table:
    """A row a case."""
    cases = result["cases"]
    dear = any(
        case["predicted"]["price_per_million_samples"] or case.get("price_per_million_samples") for case in cases
    )
    title = f"{result['name']}: {result['what']} of {result['device']}" + (f" - {state}" if state else "")
    shown = Table(title=escape(redact(title)), title_justify="left", box=None, header_style="bold")
    shown.add_column("model")
    names = [*COLUMNS, *(["price a million"] if dear else [])]
    for name in names:
        shown.add_column(name, justify="right")
    for case in cases:
        shown.add_row(case["kind"], *row(case, dear), style="red" if case["error"] else None)
    return shown


def row(case: Mapping[str, Any], dear: bool) -> Sequence[str]:
    """Texts of COLUMNS, – where nothing is known."""
    predicted = case["predicted"]
    head = [count(case["longest"]), str(case["candidates"] or "–"), str(case["ranks"]), count(case["batch_size"])]
    step = case.get("step_ms")
    if step is None:
        middle = ["–"] * 8
    else:
        spread = f"{milliseconds(case['step_ms_p25'])} to {milliseconds(case['step_ms_p75'])}"
        middle = [
            count(round(case["events_a_row"], 1)),
            milliseconds(step),
            spread,
            count(round(case["samples_per_second"])),
        ]
        middle += [
            count(round(case["events_per_second"])),
            share(case["mfu"]),
            size(case["peak_bytes"]),
            share(case["wait_share"]),
        ]
    said = "–" if predicted["step_ms"] is None else milliseconds(predicted["step_ms"])
    ratio = case.get("predicted_over_measured")
    tail = [said, "–" if ratio is None else f"{ratio:.2f}"]
    price = case.get("price_per_million_samples") or predicted["price_per_million_samples"]
    return [*head, *middle, *tail, *([f"{price:,.3g}" if price else "–"] if dear else [])]
