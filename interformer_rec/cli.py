"""`interformer`: comes in argv, goes out an exit code; in between one call. Nothing else happens here.

Exit codes: 0 fine, 1 the run failed, 2 bad input or config, 130 interrupted. An error is one readable paragraph on
stderr; `--debug` shows its traceback. The functions that do the work are named as text and resolved when called, so
that `--help`, `doctor` and `config` start without loading torch. docs/decisions/0002-command-line.md says why.
"""

import argparse
import gc
import json
import os
import pkgutil
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from interformer_rec import __version__
from interformer_rec.errors import InputError, paragraph, print_in_any_locale, readable, say, write_torchruns_file
from interformer_rec.files import finite
from interformer_rec.planning.arguments import (
    Asked,
    Output,
    add_diff_arguments,
    add_plan_arguments,
    add_score_arguments,
    given,
    joined,
)
from interformer_rec.redaction import forget, redact
from interformer_rec.serving.arguments import add_export_arguments
from interformer_rec.serving.server.arguments import add_serve_arguments
from interformer_rec.training.scoring.arguments import add_config_arguments, add_scoring_arguments, add_trust_argument

# The only place where a command meets its code.
CALLS = {
    "doctor": "interformer_rec.install.doctor:run",
    "load": "interformer_rec.config.run:load",
    "to_yaml": "interformer_rec.config.run:to_yaml",
    "inspect": "interformer_rec.data.inspect.command:inspect_folder",
    "decisions": "interformer_rec.data.inspect.command:decisions",
    "write": "interformer_rec.storage:write_file",
    "data": "interformer_rec.data.recipes.catalog:prepare",
    "recipes": "interformer_rec.data.recipes.listing:text",
    "train": "interformer_rec.training.run:train",
    "evaluate": "interformer_rec.training.scoring.trained:evaluate",
    "predict": "interformer_rec.training.scoring.trained:predict",
    "export": "interformer_rec.serving.export:export",
    "serve": "interformer_rec.serving.server.command:serve",
    "plan": "interformer_rec.planning.command:plan",
    "plan diff": "interformer_rec.planning.command:compare",
    "plan score": "interformer_rec.planning.score.command:score_run",
    "print once": "interformer_rec.distributed.job.printed_once:print_once",
}

ON_RANKS = ("train", "evaluate", "predict")  # commands that one job runs on several ranks

# What comes before a command's module is loaded: torch's import starts threads, TorchRec's needs FBGEMM or what stands in for it.
BEFORE = {
    "train": ("interformer_rec.training.measure.heap:one_arena", "interformer_rec.install.fbgemm:require"),
    "evaluate": ("interformer_rec.install.fbgemm:require",),
    "predict": ("interformer_rec.install.fbgemm:require",),
    "export": ("interformer_rec.install.fbgemm:require",),
    "plan": ("interformer_rec.install.fbgemm:plan_without",),
    "plan diff": ("interformer_rec.install.fbgemm:plan_without",),
    "plan score": ("interformer_rec.install.fbgemm:plan_without",),
}


def call(name: str, *args: Any, **options: Any) -> Any:
    """Load the module that holds a function of the table and call it."""
    collects, heavy = gc.isenabled(), name in BEFORE and CALLS[name].partition(":")[0] not in sys.modules
    gc.disable()  # modules leave next to no garbage, and looking for it takes a seventh of the time in which torch is loaded
    try:
        for before in BEFORE.get(name, ()):
            pkgutil.resolve_name(before)()
        function = pkgutil.resolve_name(CALLS[name])
    finally:
        if heavy:
            gc.collect()  # here, once: it would come in the middle of a step and take a third of a second
        if collects:
            gc.enable()
    return function(*args, **options)


def doctor(args: argparse.Namespace) -> int:
    """Exit code 1 if training cannot work here."""
    return call("doctor", args.json)


def config(args: argparse.Namespace) -> int:
    """Print the resolved config."""
    print(call("to_yaml", call("load", args.config, args.set)).rstrip("\n"))
    return 0


def inspect(args: argparse.Namespace) -> int:
    """Print the drafted run config or write it to a file or URI."""
    text = call("inspect", args.path)
    for decision in call("decisions", text):
        say(decision)
    if args.out is None:
        print(text.rstrip("\n"))
        return 0
    call("write", args.out, text)
    print(f"wrote {args.out}")
    return 0


def data(args: argparse.Namespace) -> int:
    """Prepare a data set; the last lines are the rows of each file."""
    rows = call("data", args.name, args.out, args.raw, options(args.set))
    show("data", {file: f"{count:,} rows" for file, count in rows.items()})
    return 0


def train(args: argparse.Namespace) -> int:
    """Train; the exit code is the run's."""
    return call("train", call("load", args.config, args.set), args.resume)


def evaluate(args: argparse.Namespace) -> int:
    """Print metrics: one JSON object or a table."""
    metrics = call("evaluate", args.path, args.data, args.set, trust=args.trust_run)
    show("evaluate", metrics, as_json=args.json)
    return 0


def predict(args: argparse.Namespace) -> int:
    """Score rows; prints what was written."""
    written = call("predict", args.path, args.data, args.out, args.set, args.score_column, trust=args.trust_run)
    show("predict", written, as_json=args.json)
    return 0


def export(args: argparse.Namespace) -> int:
    """Write a version of an artefact that scores as predict does; prints what was compared."""
    written = call(
        "export", args.path, args.out, args.tables, args.runtime, args.isa, data=args.data, trust=args.trust_run
    )
    show("export", written, as_json=args.json)
    return 0


def serve(args: argparse.Namespace) -> int:
    """Answer requests until a signal ends it."""
    return call("serve", {name: value for name, value in vars(args).items() if name not in ("run", "command", "debug")})


def plan(args: argparse.Namespace) -> int:
    """Print a sharding plan for a cluster."""
    return call("plan", given(Asked, args), given(Output, args))


def plan_diff(args: argparse.Namespace) -> int:
    """Print what differs between two plan files."""
    return call("plan diff", args.first, args.second, args.json)


def plan_score(args: argparse.Namespace) -> int:
    """Print what a run says about its prediction."""
    return call("plan score", args.run_folder, args.cluster, out=args.out, as_json=args.json, trust=args.trust_run)


def options(pairs: list[str]) -> dict[str, str]:
    """["rows=100", ...] -> {"rows": "100", ...}."""
    split = [pair.partition("=") for pair in pairs]
    for (name, equals, _), pair in zip(split, pairs, strict=True):
        if not (name and equals):
            raise InputError(f"--set {pair}: expected name=value, for example --set rows=100000")
    return {name: value for name, _, value in split}


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


class _Parser(argparse.ArgumentParser):
    """Its help may end with a text that is made when somebody asks for it: `ending` names it in CALLS."""

    ending: str | None = None

    def format_help(self) -> str:
        """The usual, then what `ending` makes."""
        return super().format_help() + (f"\n{call(self.ending)}\n" if self.ending else "")


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    # --debug is accepted before and after the command; SUPPRESS keeps the second from undoing the first.
    debug = _Parser(add_help=False)
    debug.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks")
    root = _Parser("interformer", description="InterFormer on TorchRec.", parents=[debug])
    root.add_argument("--version", action="version", version=f"interformer {__version__}")
    commands = root.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(run: Callable[[argparse.Namespace], int], about: str) -> _Parser:
        name = run.__name__.replace("_", " ")
        command = commands.add_parser(name, help=about, description=about, parents=[debug])
        command.set_defaults(run=run)
        return command

    one = add(doctor, "Do the installed versions fit; what to do if not. Exit code 1 if training cannot work.")
    one.add_argument("--json", action="store_true", help="one JSON object instead of tables")

    one = add(config, "Check a run config and print it with every default filled in.")
    add_config_arguments(one)

    one = add(inspect, "Draft a schema from a folder of Parquet files.")
    one.add_argument("path", metavar="PATH", help="a folder, file, glob or URI")
    one.add_argument("--out", metavar="FILE", help="a path or URI: write the draft there instead of to the screen")

    one = add(data, "Prepare a public or a synthetic data set: Parquet files and a schema.")
    one.ending = "recipes"
    one.add_argument("name", metavar="NAME", help="a recipe of the list below")
    one.add_argument("--out", metavar="DIR", required=True, help="the folder to write")
    one.add_argument("--raw", metavar="DIR", help="the data set as its owners publish it, if you have it already")
    one.add_argument("--set", metavar="NAME=VALUE", action="append", default=[], help="an option of the recipe")

    one = add(train, "Train. Writes a run folder: config, metrics, checkpoints, report.")
    add_config_arguments(one)
    one.add_argument("--resume", action="store_true", help="go on from the last checkpoint of the run")

    add_plan_arguments(add(plan, "Plan the tables' sharding for a cluster: memory, time, reasons. No GPU needed."))
    add_diff_arguments(add(plan_diff, "What differs between two plan files."))
    one = add(plan_score, "A plan's prediction beside what a run measured; --out writes the calibrated cluster.")
    add_score_arguments(one)
    add_trust_argument(one)

    one = add(evaluate, "Metrics of a trained model.")
    add_scoring_arguments(one, "Parquet files with labels; default: the test data of the run", required=False)

    one = add(predict, "Parquet in, Parquet out, with a score column.")
    add_scoring_arguments(one, "Parquet files, labels not needed", required=True)
    one.add_argument(
        "--out", metavar="PATH", required=True, help="path or URI: a .parquet file, or a folder (a part a rank)"
    )
    one.add_argument(
        "--score-column", metavar="NAME", default="score_{label}", help="{label} is a label's name; score_{label}"
    )

    one = add(export, "A run becomes an artefact that answers without the training code, and scores as predict does.")
    add_export_arguments(one)
    add_trust_argument(one)

    add_serve_arguments(add(serve, "Answer requests over HTTP with an exported model."))
    return root


def main(argv: list[str] | None = None) -> int:
    """Run one command. Returns the exit code; only argparse (--help, a wrong flag: 2) leaves by SystemExit."""
    print_in_any_locale()
    forget()
    args = parser().parse_args(joined(sys.argv[1:] if argv is None else argv))
    debug = getattr(args, "debug", False)
    try:
        return args.run(args)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # `interformer inspect ... | head`: the reader has what it wanted. Python's own flush at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # torch's CheckpointException derives from BaseException
        if debug:
            print(redact(traceback.format_exc()), end="", file=sys.stderr)
        error = readable(error)
        text = paragraph(args.command, error, debug)
        code = 2 if isinstance(error, InputError) else 1
        if args.command in ON_RANKS and os.environ.get("WORLD_SIZE", "1") != "1":
            text, code = call("print once", error, text, say)
        else:
            say(text)
        write_torchruns_file(text)
        return code


if __name__ == "__main__":
    sys.exit(main())
