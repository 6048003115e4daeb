"""Options of the commands that train and score. In: a parser; out: the same with them. No torch here: the command line starts at once."""

import argparse


def add_scoring_arguments(one: argparse.ArgumentParser, data: str, required: bool) -> None:
    """A run, the rows to score and how they are read; `data`: what --data says of itself."""
    one.add_argument("path", metavar="RUN_OR_CHECKPOINT")
    one.add_argument("--data", metavar="PATH", required=required, help=data)
    one.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    about = "how rows are read and scored, for example data.on_bad_row=skip"
    one.add_argument("--set", metavar="A.B=C", action="append", default=[], help=about)
    add_trust_argument(one)


def add_predict_arguments(one: argparse.ArgumentParser) -> None:
    """Rows, and where their scores go."""
    add_scoring_arguments(one, "Parquet files, labels not needed", required=True)
    about = "path or URI: a .parquet file, or a folder (a part a rank)"
    one.add_argument("--out", metavar="PATH", required=True, help=about)
    about = "{label} is a label's name; score_{label}"
    one.add_argument("--score-column", metavar="NAME", default="score_{label}", help=about)


def add_trust_argument(command: argparse.ArgumentParser) -> None:
    """config/found.py says what it opens."""
    about = "this run is mine: fill ${NAME} in its config from the environment, open whatever it names"
    command.add_argument("--trust-run", action="store_true", help=about)


def add_config_arguments(command: argparse.ArgumentParser) -> None:
    """A config file and what is changed in it."""
    command.add_argument("config", metavar="CONFIG", help="a YAML file, see configs/")
    command.add_argument("--set", metavar="A.B=C", action="append", default=[], help="override one value of the config")
