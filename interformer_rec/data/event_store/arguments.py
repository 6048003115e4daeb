"""What `interformer data events` takes on the command line. No torch."""

import argparse
from dataclasses import dataclass
from typing import Any

from interformer_rec.data.grouping.arguments import MEMORY


@dataclass(frozen=True)
class StoreOptions:
    """What the user says of the columns."""

    user: str
    time: str
    columns: str = ""  # NAME or NEW=OLD, joined by commas; "": all others
    event_time: str | None = None  # rows with histories in them: the list column with the events' times
    rows: str | None = None  # then: where the rows without the lists go
    delay: float = 0.0  # then: how much earlier than its row a history ends


def add_events_arguments(one: argparse.ArgumentParser) -> None:
    """SRC, --user, --time, --columns and --out."""
    one.set_defaults(given=given)
    about = "events, or rows with histories in list columns (--event-time): a Parquet file, folder, glob or URI"
    one.add_argument("source", metavar="SRC", help=about)
    one.add_argument("--user", metavar="COLUMN", required=True, help="the user")
    one.add_argument("--time", metavar="COLUMN", required=True, help="the time: an integer or a timestamp")
    about = "what a history reads of an event, as it is to be called: NAME, or NEW=OLD, joined by commas; default: all others"
    one.add_argument("--columns", metavar="NAME[,...]", default="", help=about)
    about = "SRC are rows, --columns lists of their histories; this list column has the events' times"
    one.add_argument("--event-time", metavar="COLUMN", help=about)
    one.add_argument("--out", metavar="DIR", required=True, help="the folder to write")
    one.add_argument("--rows", metavar="DIR", help="with --event-time: the folder for the rows without the lists")
    about = "with --event-time: how much before its row a history ends (data.events.delay), in seconds or an integer time's unit"
    one.add_argument("--delay", metavar="TIME", type=float, default=0.0, help=about)
    about = f"what sorting and checking may take, in GiB ({MEMORY:g}); the rest goes to disk beside --out"
    one.add_argument("--memory", metavar="GIB", type=float, default=MEMORY, help=about)


def given(args: argparse.Namespace) -> dict[str, Any]:
    """What `events` takes beside the two places."""
    names = ("user", "time", "columns", "event_time", "rows", "delay")
    return {"asked": StoreOptions(**{name: getattr(args, name) for name in names}), "memory": args.memory}


# Command, what its help says first, and what adds its options.
PARSERS = (
    ("data events", "Events, or histories in rows, become a store that rows are joined with.", add_events_arguments),
)
COMMANDS = tuple(command for command, _, _ in PARSERS)
