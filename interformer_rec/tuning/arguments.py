"""Options of `interformer tune`. In: a parser; out: the same with them, and what they say. Needs neither torch nor Optuna."""

import argparse
from dataclasses import dataclass

from interformer_rec.training.scoring.arguments import add_config_arguments


@dataclass(frozen=True)
class TuneOptions:
    """What the command line says, beside the config."""

    trials: int
    space: str | None = None  # a file; None: the space of the model kind
    storage: str | None = None  # None: a journal in `out`
    out: str | None = None  # None: runs/NAME-tune
    resume: bool = False
    prune: bool = True


def add_tune_arguments(one: argparse.ArgumentParser) -> None:
    """A config, how much is tried and where everything goes."""
    add_config_arguments(one)
    one.add_argument("--trials", type=int, required=True, metavar="N", help="of the whole study, all workers together")
    one.add_argument("--space", metavar="FILE", help="YAML, a range a key; default: the space of the model kind")
    about = "where workers meet: a journal file, sqlite:///FILE or a database's URL; default: study.journal in --out"
    one.add_argument("--storage", metavar="URI", help=about)
    one.add_argument("--out", metavar="DIR", help="folder of the trials, page and best.yaml; default: runs/NAME-tune")
    one.add_argument("--resume", action="store_true", help="go on with the study that is there, or join it; else begin")
    one.add_argument("--no-pruning", dest="prune", action="store_false", help="train every trial to its end")
