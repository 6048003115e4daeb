"""Options of `interformer benchmark` and `benchmark diff`. In: a parser; out: the same with them, and what they say. No torch here."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from interformer_rec.errors import InputError
from interformer_rec.training.scoring.arguments import add_config_arguments

SUBCOMMANDS = ("benchmark diff",)
LENGTHS = (64, 256, 1024)
DISTRIBUTIONS = ("data", "zipf", "fixed")
PARTS = ("step", "model", "lookup", "data")
MOST = {"--lengths": 1 << 20, "--candidates": 1 << 16, "--ranks": 1 << 12}  # more is a slip of the pen
MOST_POINTS = 500


@dataclass(frozen=True)
class BenchmarkOptions:
    """What the command line says, beside the config."""

    lengths: tuple[int, ...] = LENGTHS
    distribution: str = "data"
    candidates: tuple[int, ...] = ()  # none: the rows as they are
    kinds: tuple[str, ...] = ()  # none: the config's
    ranks: tuple[int, ...] = ()  # none: 1, or as torchrun has it
    what: str = "step"
    cluster: str | None = None
    out: str | None = None  # None: runs/NAME-benchmark
    rounds: int = 3
    steps: int = 12
    seconds: float = 30.0
    events: int | None = None
    fill: float = 0.25

    def __post_init__(self) -> None:
        for option, least in (("rounds", 1), ("steps", 3)):
            if getattr(self, option) < least:
                raise InputError(f"--{option} {getattr(self, option)}: at least {least}")
        if not 0 < self.seconds <= 86_400:
            raise InputError(f"--seconds {self.seconds:g}: above 0, a day at most")
        if self.events is not None and self.events < 1:
            raise InputError(f"--events {self.events}: at least 1 event a rank and step")
        if not 0 < self.fill <= 0.5:
            raise InputError(
                f"--fill {self.fill:g}: mean over longest history, above 0 and up to 0.5 (all lengths alike)"
            )


def add_benchmark_arguments(one: argparse.ArgumentParser) -> None:
    """A config, what is varied, what is measured and how long, and where it goes."""
    add_config_arguments(one)

    def add(name: str, **more: Any) -> None:
        one.add_argument(name, default=argparse.SUPPRESS, **more)

    add("--lengths", metavar="N,N", type=_numbers("--lengths"), help="longest histories; 64,256,1024")
    about = (
        "data: rows of data.train, histories cut or stretched to each length; zipf, fixed: rows made up from the schema"
    )
    add("--distribution", choices=DISTRIBUTIONS, help=about)
    add("--fill", type=float, metavar="SHARE", help="zipf: mean over longest history; 0.25")
    about = "rows are requests of so many candidates; default: the rows as they are"
    add("--candidates", metavar="N,N", type=_numbers("--candidates"), help=about)
    add("--kinds", metavar="KIND,KIND", type=_names, help="kinds of model, such as interformer,din,bst; the config's")
    add("--ranks", metavar="N,N", type=_numbers("--ranks"), help="processes on this host; 1. Not under torchrun")
    add("--what", choices=PARTS, help="the whole training step, or the model, the lookup or the loader alone")
    add(
        "--cluster", metavar="NAME_OR_FILE", help="predict for it, with prices; default: this machine, as measured here"
    )
    add("--events", type=int, metavar="N", help="cut the batch where it has more events a rank than this")
    add("--rounds", type=int, help="turns of each point; 3")
    add("--steps", type=int, help="measured steps of a turn at most; 12")
    add("--seconds", type=float, help="of a turn's measured steps at most, but 3 steps at least; 30")
    add("--out", metavar="DIR", help="folder of benchmark.json and benchmark.html; runs/NAME-benchmark")


def add_diff_arguments(one: argparse.ArgumentParser) -> None:
    """Two results."""
    one.add_argument(
        "first", metavar="A", help="a folder that `interformer benchmark` has written, or its benchmark.json"
    )
    one.add_argument("second", metavar="B", help="another one")
    one.add_argument("--noise", type=float, default=0.05, metavar="SHARE", help="smaller changes are none; 0.05")
    one.add_argument("--json", action="store_true", help="one JSON object instead of a table")


def _numbers(option: str) -> Callable[[str], tuple[int, ...]]:
    def read(text: str) -> tuple[int, ...]:
        parts = [part.strip() for part in text.split(",")]
        if not all(part.isdecimal() and 1 <= int(part[:12]) <= MOST[option] for part in parts):
            raise argparse.ArgumentTypeError(
                f"{text!r}: whole numbers from 1 to {MOST[option]}, divided by commas, for example {option} 1,8"
            )
        return tuple(dict.fromkeys(map(int, parts)))

    return read


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",")))
