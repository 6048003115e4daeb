"""`interformer`: comes in argv, goes out an exit code; in between one call. Nothing else happens here.

Exit codes: 0 fine, 1 the run failed, 2 bad input or config, 130 interrupted. An error is one readable paragraph on
stderr; `--debug` shows its traceback. The functions that do the work are named as text and resolved when called, so
that `--help`, `doctor` and `config` start without loading torch. docs/decisions/0002-command-line.md says why.
"""

import argparse
import gc
import os
import pkgutil
import sys
import traceback
from collections.abc import Callable
from typing import Any

from interformer_rec import __version__
from interformer_rec.benchmarking import arguments as benchmarking
from interformer_rec.data.event_store import arguments as event_store
from interformer_rec.data.grouping import arguments as grouping
from interformer_rec.data.inspect.arguments import add_inspect_arguments
from interformer_rec.data.recipes.arguments import add_data_arguments, options
from interformer_rec.errors import InputError, paragraph, print_in_any_locale, readable, say, write_torchruns_file
from interformer_rec.explaining import arguments as explaining
from interformer_rec.planning import arguments as planning
from interformer_rec.planning.arguments import given
from interformer_rec.redaction import forget, redact
from interformer_rec.result_table import show
from interformer_rec.serving import arguments as exporting
from interformer_rec.serving.server.arguments import add_serve_arguments
from interformer_rec.training.scoring import arguments as scoring
from interformer_rec.training.start.arguments import add_train_arguments, beginning
from interformer_rec.tuning.arguments import TuneOptions, add_tune_arguments

# The only place where a command meets its code.
CALLS = {
    "doctor": "interformer_rec.install.doctor:run",
    "load": "interformer_rec.config.run:load",
    "to_yaml": "interformer_rec.config.run:to_yaml",
    "inspect": "interformer_rec.data.inspect.command:inspect_folder",
    "decisions": "interformer_rec.data.inspect.command:decisions",
    "write": "interformer_rec.storage:write_file",
    "data": "interformer_rec.data.recipes.catalog:prepare",
    "data group": "interformer_rec.data.grouping.command:group",
    "data ungroup": "interformer_rec.data.grouping.command:ungroup",
    "data events": "interformer_rec.data.event_store.command:events",
    "recipes": "interformer_rec.data.recipes.listing:text",
    "train": "interformer_rec.training.run:train",
    "tune": "interformer_rec.tuning.command:tune",
    "benchmark": "interformer_rec.benchmarking.command:benchmark",
    "benchmark diff": "interformer_rec.benchmarking.difference:compare",
    "evaluate": "interformer_rec.training.scoring.trained:evaluate",
    "predict": "interformer_rec.training.scoring.trained:predict",
    "explain": "interformer_rec.explaining.command:run",
    "export": "interformer_rec.serving.export:export",
    "serve": "interformer_rec.serving.server.command:serve",
    "plan": "interformer_rec.planning.command:plan",
    "plan diff": "interformer_rec.planning.command:compare",
    "plan score": "interformer_rec.planning.score.command:score_runs",
    "plan improve": "interformer_rec.planning.choose.command:improve_run",
    "print once": "interformer_rec.distributed.job.printed_once:print_once",
}

ON_RANKS = ("train", "evaluate", "predict", "explain", "benchmark")  # commands that one job runs on several ranks
TWO_WORDS = (*planning.SUBCOMMANDS, *benchmarking.SUBCOMMANDS, *grouping.COMMANDS, *event_store.COMMANDS)

# What comes before a command's module is loaded: torch's import starts threads, TorchRec's needs FBGEMM or what stands in for it.
READS_TABLES, PLANS = ("interformer_rec.install.fbgemm:require",), ("interformer_rec.install.fbgemm:plan_without",)
BEFORE: dict[str, tuple[str, ...]] = {
    "train": ("interformer_rec.training.measure.heap:one_arena", *READS_TABLES),
    "tune": ("interformer_rec.install.search:require", *READS_TABLES),
    **dict.fromkeys(("evaluate", "predict", "explain", "export", "benchmark"), READS_TABLES),
    **dict.fromkeys(("plan", *planning.SUBCOMMANDS, *benchmarking.SUBCOMMANDS), PLANS),
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
    text = call("inspect", args.path, args.kind)
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


def regroup(args: argparse.Namespace) -> int:
    """Rows or events are written in another form; prints what was written."""
    show(args.command, call(args.command, args.source, args.out, **args.given(args)))
    return 0


def train(args: argparse.Namespace) -> int:
    """Train; the exit code is the run's."""
    return call("train", call("load", args.config, args.set), args.resume, *beginning(args))


def tune(args: argparse.Namespace) -> int:
    """Search settings by trials on validation; the exit code is the study's."""
    return call("tune", args.config, args.set, given(TuneOptions, args))


def benchmark(args: argparse.Namespace) -> int:
    """Measure what the config's training costs over lengths, candidates, kinds and ranks."""
    return call("benchmark", args.config, args.set, given(benchmarking.BenchmarkOptions, args))


def benchmark_diff(args: argparse.Namespace) -> int:
    """Print what differs between two benchmarks."""
    return call("benchmark diff", args.first, args.second, args.noise, args.json)


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


def explain(args: argparse.Namespace) -> int:
    """Print what a trained model depends on, and write it as a page and JSON."""
    return call("explain", given(explaining.ExplainOptions, args), args.json)


def export(args: argparse.Namespace) -> int:
    """Write a version of an artefact that scores as predict does; prints what was compared."""
    written = call("export", args.path, args.out, given(exporting.ExportOptions, args), args.data, args.trust_run)
    show("export", written, as_json=args.json)
    return 0


def serve(args: argparse.Namespace) -> int:
    """Answer requests until a signal ends it."""
    return call("serve", {name: value for name, value in vars(args).items() if name not in ("run", "command", "debug")})


def plan(args: argparse.Namespace) -> int:
    """Print a sharding plan for a cluster."""
    return call("plan", given(planning.Asked, args), given(planning.Output, args))


def plan_diff(args: argparse.Namespace) -> int:
    """Print what differs between two plan files."""
    return call("plan diff", args.first, args.second, args.json)


def plan_score(args: argparse.Namespace) -> int:
    """Print what runs say about their prediction."""
    return call("plan score", args.run_folders, args.cluster, out=args.out, as_json=args.json, trust=args.trust_run)


def plan_improve(args: argparse.Namespace) -> int:
    """Print a better plan for a run."""
    return call("plan improve", args.run_folder, args.cluster, out=args.out, as_json=args.json, trust=args.trust_run)


class _Parser(argparse.ArgumentParser):
    """Its help may end with a text that is made when somebody asks for it: `ending` names it in CALLS."""

    ending: str | None = None

    def format_help(self) -> str:
        """The usual, then what `ending` makes."""
        return super().format_help() + (f"\n{call(self.ending)}\n" if self.ending else "")


def _add_planning(add: Callable[[Callable[[argparse.Namespace], int], str], _Parser]) -> None:
    """`plan` and its subcommands."""
    planning.add_plan_arguments(add(plan, "Plan the tables' sharding for a cluster: memory, time, reasons."))
    planning.add_diff_arguments(add(plan_diff, "What differs between two plan files."))
    one = add(plan_score, "A plan's prediction beside what runs measured; --out writes the calibrated cluster.")
    planning.add_score_arguments(one)
    scoring.add_trust_argument(one)
    one = add(plan_improve, "A better plan for a run: the gain, and the bytes that would move; --out writes it.")
    planning.add_improve_arguments(one)
    scoring.add_trust_argument(one)


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    # --debug is accepted before and after the command; SUPPRESS keeps the second from undoing the first.
    debug = _Parser(add_help=False)
    debug.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks")
    root = _Parser("interformer", description="InterFormer on TorchRec.", parents=[debug])
    root.add_argument("--version", action="version", version=f"interformer {__version__}")
    commands = root.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(run: Callable[[argparse.Namespace], int], about: str, name: str = "") -> _Parser:
        name = name or run.__name__.replace("_", " ")
        command = commands.add_parser(name, help=about, description=about, parents=[debug])
        command.set_defaults(run=run)
        return command

    one = add(doctor, "Do the installed versions fit; what to do if not. Exit code 1 if training cannot work.")
    one.add_argument("--json", action="store_true", help="one JSON object instead of tables")

    scoring.add_config_arguments(add(config, "Check a run config and print it with every default filled in."))
    add_inspect_arguments(add(inspect, "Draft a schema from a folder of Parquet files."))

    one = add(data, "Prepare a public or a synthetic data set: Parquet files and a schema.")
    one.ending = "recipes"
    add_data_arguments(one)
    for command, about, arguments in (*grouping.PARSERS, *event_store.PARSERS):
        arguments(add(regroup, about, command))
    add_train_arguments(add(train, "Train. Writes a run folder: config, metrics, checkpoints, report."))
    add_tune_arguments(add(tune, "Search settings by trials on validation: a page, and the config that is best."))
    _add_planning(add)
    about = "Measure your own config's training over history lengths, candidates, kinds and ranks."
    benchmarking.add_benchmark_arguments(add(benchmark, about))
    benchmarking.add_diff_arguments(add(benchmark_diff, "What became faster or slower between two benchmarks."))
    one = add(evaluate, "Metrics of a trained model.")
    scoring.add_scoring_arguments(one, "Parquet files with labels; default: the test data of the run", required=False)
    scoring.add_predict_arguments(add(predict, "Parquet in, Parquet out, with a score column."))
    explaining.add_explain_arguments(add(explain, "Importance and cost of a trained model's inputs; slices."))
    one = add(export, "A run becomes an artefact that answers without the training code, and scores as predict does.")
    exporting.add_export_arguments(one)
    scoring.add_trust_argument(one)

    add_serve_arguments(add(serve, "Answer requests over HTTP with an exported model."))
    return root


def main(argv: list[str] | None = None) -> int:
    """Run one command. Returns the exit code; only argparse (--help, a wrong flag: 2) leaves by SystemExit."""
    print_in_any_locale()
    forget()
    args = parser().parse_args(planning.joined(sys.argv[1:] if argv is None else argv, TWO_WORDS))
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
