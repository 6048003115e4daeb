"""Which window comes next, and what is wrong with the others. In: the windows that are there, those left behind; out: one, with notes.

A window that was trained on may vanish: old partitions are deleted. What may not happen in silence: that its files change, that one
appears before it, that one is missing, that one has no rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from interformer_rec.config.windows import WindowsConfig
from interformer_rec.data.windows.window import Seen, Window, missing_between, order_of
from interformer_rec.errors import InputError


@dataclass
class Judged:
    """`seen` with what is known now of it."""

    seen: list[Seen]
    next: Window | None = None
    waiting: str | None = None  # the window that comes next is not whole: which, and why
    notes: list[str] = field(default_factory=list)


def judge(
    windows: Sequence[Window], seen: Sequence[Seen], options: WindowsConfig, footers: Callable[[Window], int]
) -> Judged:
    """`windows` in time order; `footers`: reads those of a window whose files have the sizes of before but another time.

    Raises InputError for what data.windows does not allow.
    """
    known = {one.name: place for place, one in enumerate(seen)}
    judged = Judged(list(seen))
    last = max((one.name for one in seen if one.outcome != "late"), key=order_of, default=None)
    for window in windows:
        if window.name in known:
            _compare(window, known[window.name], judged, options, footers)
        elif last is not None and order_of(window.name) < order_of(last):
            _late(window, last, judged, options)
        else:
            _next(window, last, windows, judged, options)
            break
    return judged


def left_out_empty(window: Window, options: WindowsConfig) -> Seen:
    """What is kept of a window that turned out to have no row. Raises InputError where that is not allowed."""
    if options.empty == "error":
        raise InputError(
            f"window {window.name!r} has no rows ({len(window.files)} Parquet file(s)): write it again, or set data.windows.empty: skip"
        )
    return Seen(window.name, "empty", window.sizes, window.modified, 0, 0)


def _compare(
    window: Window, place: int, judged: Judged, options: WindowsConfig, footers: Callable[[Window], int]
) -> None:
    before = judged.seen[place]
    if (window.sizes, window.modified) == (before.sizes, before.modified):
        return
    now = before.footers
    if window.sizes != before.sizes or (window.modified is not None and before.outcome == "trained"):
        now = footers(window) if before.outcome == "trained" else 0
    changed = window.sizes != before.sizes or now != before.footers
    judged.seen[place] = before._replace(sizes=window.sizes, modified=window.modified, footers=now)
    if not changed:
        return
    what = {"trained": "was trained on", "empty": "had no rows, and was passed over", "late": "came too late"}
    text = f"window {window.name!r} {what[before.outcome]}, and its files have changed since"
    if options.changed == "error":
        raise InputError(
            f"{text}: restore them; or set data.windows.changed: warn, which goes on without reading them again; or train a new run"
        )
    judged.notes.append(f"warning: {text}; they are not read again")


def _late(window: Window, last: str, judged: Judged, options: WindowsConfig) -> None:
    text = f"window {window.name!r} has appeared late: {last!r}, which comes after it, was read already"
    if options.late == "error":
        raise InputError(
            f"{text}. Training goes in time order: remove it, or set data.windows.late: skip, which never reads it; or train a new run"
        )
    judged.seen.append(Seen(window.name, "late", window.sizes, window.modified, 0, 0))
    judged.notes.append(f"warning: {text}; it is never read (data.windows.late: skip)")


def _next(window: Window, last: str | None, windows: Sequence[Window], judged: Judged, options: WindowsConfig) -> None:
    if window.unfinished is not None:
        judged.waiting = f"window {window.name!r} is not whole: {window.unfinished}"
        return
    judged.next = window
    names = [*(one.name for one in windows), *(one.name for one in judged.seen)]
    missing = missing_between(last, window.name, names) if last is not None else 0
    if not missing:
        return
    text = f"{missing} window(s) are missing between {last!r} and {window.name!r}"
    if options.gap == "error":
        raise InputError(
            f"{text}: wait until they are written, or set data.windows.gap: warn, which goes on without them"
        )
    judged.notes.append(f"warning: {text} (data.windows.gap: warn)")
