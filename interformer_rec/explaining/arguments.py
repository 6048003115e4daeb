"""Options of `interformer explain`. In: a parser; out: the same with them, and their values as ExplainOptions. No torch here."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from interformer_rec.config.strict import LARGEST
from interformer_rec.errors import InputError
from interformer_rec.training.scoring.arguments import add_scoring_arguments

ROWS, REPEATS = 20_000, 3
MOST_REPEATS = 1_000


@dataclass(frozen=True)
class ExplainOptions:
    """What is explained, and how thoroughly."""

    path: str
    data: str | None = None
    out: str | None = None
    rows: int = ROWS
    repeats: int = REPEATS
    groups: Sequence[str] = ()
    slices: str | None = None  # column,column
    seed: int = 0
    cluster: str | None = None
    nodes: int | None = None
    set: Sequence[str] = ()
    trust_run: bool = False

    def check(self) -> None:
        """Raises InputError for numbers that cannot be."""
        if not 1 <= self.rows <= LARGEST:
            raise InputError(f"--rows {self.rows}: from 1 to {LARGEST} rows are kept and scored")
        if not 1 <= self.repeats <= MOST_REPEATS:
            raise InputError(f"--repeats {self.repeats}: from 1 to {MOST_REPEATS} permutations of each input")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"--seed {self.seed}: from 0 to 2^63 - 1")
        if self.nodes is not None and self.cluster is None:
            raise InputError(f"--nodes {self.nodes} is about a cluster: name it with --cluster, or leave --nodes out")
        for name in ("data", "out", "cluster"):
            if getattr(self, name) == "":
                raise InputError(f"--{name} is empty: name one, or leave it out")

    @property
    def columns(self) -> list[str]:
        """To slice by. Raises InputError for an empty name."""
        names = [name.strip() for name in (self.slices or "").split(",")] if self.slices is not None else []
        if not all(names):
            raise InputError(f"--slices {self.slices!r}: write COLUMN,COLUMN, for example --slices age,gender")
        return list(dict.fromkeys(names))


def add_explain_arguments(one: argparse.ArgumentParser) -> None:
    """A run, the rows, what is permuted and cut."""
    add_scoring_arguments(one, "Parquet files with labels; default: the test data of the run", required=False)
    one.add_argument("--out", metavar="DIR", help="for explain.html and explain.json; default: RUN/explain")
    about = f"at most so many rows are kept in memory and scored, those of whole users; {ROWS}"
    one.add_argument("--rows", metavar="N", type=int, default=ROWS, help=about)
    one.add_argument("--repeats", metavar="K", type=int, default=REPEATS, help=f"permutations of each input; {REPEATS}")
    about = "permute these together; default: the candidate's, the others"
    one.add_argument("--groups", metavar="NAME=FEATURE,...", action="extend", nargs="+", default=[], help=about)
    about = "metrics by values or quantiles of these columns of the files"
    one.add_argument("--slices", metavar="COLUMN,...", help=about)
    one.add_argument("--seed", metavar="S", type=int, default=0, help="of rows, permutations and intervals; 0")
    about = "what removing an input saves there: a name or file as for `interformer plan`; default: these ranks"
    one.add_argument("--cluster", metavar="NAME_OR_FILE", help=about)
    one.add_argument("--nodes", metavar="N", type=int, help="of the cluster; 1")
