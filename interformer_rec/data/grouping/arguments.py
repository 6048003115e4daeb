"""What `interformer data group` and `data ungroup` take on the command line. No torch."""

import argparse
from dataclasses import dataclass
from typing import Any

MEMORY = 2.0  # GiB


@dataclass(frozen=True)
class AskedColumns:
    """What the user says of the columns; each a list of names and patterns (`watch_*`), joined by commas."""

    candidates: str = ""
    first: str = ""
    drop: str = ""
    config: str | None = None  # a run config: its candidates, labels and weight


def add_group_arguments(one: argparse.ArgumentParser) -> None:
    """SRC, --by, --out and whose the columns are."""
    one.set_defaults(given=given)
    _add_source(one, "impression rows: a Parquet file, folder, glob or URI")
    about = "columns that tell requests apart, joined by commas; `time_ms//60000`: that column in units of 60000"
    one.add_argument("--by", metavar="COLUMN[,...]", required=True, help=about)
    _add_candidates(one)
    about = "request's columns that may differ in its rows: the first row's value is taken"
    one.add_argument("--first", metavar="COLUMN[,...]", default="", help=about)
    one.add_argument("--drop", metavar="COLUMN[,...]", default="", help="columns to leave out")


def add_ungroup_arguments(one: argparse.ArgumentParser) -> None:
    """SRC, --out and, for files of others, which columns are lists."""
    one.set_defaults(given=given)
    _add_source(one, "request rows: a Parquet file, folder, glob or URI")
    _add_candidates(one)


def given(args: argparse.Namespace) -> dict[str, Any]:
    """What `group` or `ungroup` takes beside the two places."""
    options = ("candidates", "first", "drop", "config")
    columns = AskedColumns(**{name: getattr(args, name) for name in options if hasattr(args, name)})
    return {"asked": columns, "memory": args.memory} | ({"by": args.by} if hasattr(args, "by") else {})


def _add_source(one: argparse.ArgumentParser, about: str) -> None:
    one.add_argument("source", metavar="SRC", help=about)
    one.add_argument("--out", metavar="DIR", required=True, help="the folder to write: files of the same names")
    about = f"what sorting and checking may take, in GiB ({MEMORY:g}); the rest goes to disk beside --out"
    one.add_argument("--memory", metavar="GIB", type=float, default=MEMORY, help=about)


def _add_candidates(one: argparse.ArgumentParser) -> None:
    about = "the candidates' columns, labels too: names or patterns such as 'item_*', joined by commas"
    one.add_argument("--candidates", metavar="COLUMN[,...]", default="", help=about)
    one.add_argument("--config", metavar="CONFIG", help="a run config whose candidates, labels and weight these are")


# Command, what its help says first, and what adds its options.
PARSERS = (
    ("data group", "Impressions become request rows: lists of candidates.", add_group_arguments),
    ("data ungroup", "Request rows become impressions.", add_ungroup_arguments),
)
COMMANDS = tuple(command for command, _, _ in PARSERS)
