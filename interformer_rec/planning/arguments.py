"""Options of `interformer plan`, `plan diff` and `plan score`. In: parsed arguments; out: Asked and Output, a field an option. No torch."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

RESERVE = 0.1  # share of a device's memory kept free: fragmentation, work space of kernels, what nobody counted

SUBCOMMANDS = ("plan diff", "plan score", "plan improve")
T = TypeVar("T")


@dataclass(frozen=True)
class Asked:
    """What a plan is for."""

    config: str = ""  # a path
    cluster: str = ""  # a name or a path; empty: the first of --what-if cluster=
    set: Sequence[str] = ()
    nodes: int | None = None  # 1, or with objective gpus as few as fit
    batch_size: int | None = None
    constraints: str | None = None
    reserve: float = RESERVE
    # sizes that the data need not be asked for (sizes.find_sizes)
    rows: Sequence[str] = ()
    lengths: Sequence[str] = ()
    distinct: Sequence[str] = ()
    statistics: str | None = None
    dense_ms: str | None = None  # forward,backward: measured, or of somebody else's model


@dataclass(frozen=True)
class Output:
    """What is looked for, and where it goes."""

    objective: str = "time"
    price: Sequence[str] = ()
    what_if: Sequence[str] = ()
    why: Sequence[str] = ()
    out: str | None = None
    html: str | None = None
    json: bool = False
    new_cluster: str | None = None  # a file to fill in, in place of a plan


def add_plan_arguments(one: argparse.ArgumentParser) -> None:
    """Their defaults are those of Asked and Output: an option that is not given leaves no trace."""

    def add(name: str, **more: Any) -> None:
        one.add_argument(name, default=argparse.SUPPRESS, **more)

    one.add_argument("config", metavar="CONFIG", nargs="?", default=argparse.SUPPRESS, help="a YAML file, see configs/")
    add("--set", metavar="A.B=C", action="append", help="override one value of the config")
    add("--cluster", metavar="NAME_OR_FILE", help="one of configs/clusters/, or a YAML file like them")
    add("--new-cluster", metavar="NAME", help="write NAME.yaml, a cluster file to fill in, and plan nothing")
    add("--nodes", type=int, help="of the cluster; 1")
    add("--batch-size", type=int, metavar="ROWS", help="a rank; default: the config's")
    add("--constraints", metavar="FILE", help="allowed sharding types, kernels, tables that stay together")
    add("--reserve", type=float, metavar="SHARE", help="of device memory kept free; 0.1")
    add("--objective", choices=("time", "gpus"), help="time (fastest step) or gpus (fewest nodes that fit)")
    add("--rows", metavar="TABLE=N", action="append", help="rows of a table")
    add("--lengths", metavar="LIST=MEAN", action="append", help="events or ids a row has")
    add("--distinct", metavar="TABLE=SHARE", action="append", help="of a table's ids in a rank's batch that differ")
    add("--statistics", metavar="FILE", help="data.json of a run, or a saved plan")
    add("--dense-ms", metavar="FORWARD,BACKWARD", help="ms of the dense part, in place of those counted")
    add("--price", metavar="CLUSTER=N", action="append", help="of a node and hour")
    add("--what-if", metavar="NAME=A,B", nargs="+", help="nodes=1,2,4 batch=512,1024 cluster=... groups=1,2")
    add("--why", metavar="TABLE", action="append", help="every option the table did not get")
    add("--out", metavar="FILE", help="write the plan for sharding.plan")
    add("--html", metavar="PATH", help="also write the plan, and what --what-if found, as one page")
    add_json(one)


def add_json(one: argparse.ArgumentParser) -> None:
    """For all three commands."""
    one.add_argument("--json", action="store_true", help="one JSON object instead of tables")


def add_diff_arguments(one: argparse.ArgumentParser) -> None:
    """Two plan files."""
    one.add_argument(
        "first", metavar="A", help="a plan file, which `interformer plan --out` has written, or a run folder"
    )
    one.add_argument("second", metavar="B", help="another one")
    add_json(one)


def add_score_arguments(one: argparse.ArgumentParser) -> None:
    """Runs; the command line adds --trust-run, as to all commands that read one."""
    one.add_argument("run_folders", metavar="RUN", nargs="+", help="what `interformer train` has written")
    one.add_argument("--cluster", metavar="NAME_OR_FILE", help="the machine of the runs; needed for those on GPUs")
    one.add_argument("--out", metavar="FILE", help="write the cluster with what was measured, for --cluster")
    add_json(one)


def add_improve_arguments(one: argparse.ArgumentParser) -> None:
    """A run."""
    one.add_argument("run_folder", metavar="RUN", help="what `interformer train` has written")
    one.add_argument("--cluster", metavar="NAME_OR_FILE", help="the machine of the run; needed for one on GPUs")
    one.add_argument("--out", metavar="FILE", help="write the better plan, for sharding.plan")
    add_json(one)


def given(kind: type[T], args: argparse.Namespace) -> T:
    """A dataclass of options, of those that were given. Raises InputError for a value that cannot be."""
    return kind(**{field.name: getattr(args, field.name) for field in fields(kind) if hasattr(args, field.name)})  # type: ignore[arg-type]


def joined(argv: list[str], subcommands: Sequence[str] = SUBCOMMANDS) -> list[str]:
    """["plan", "diff", "a.json", ...] -> ["plan diff", "a.json", ...]: a command of two words is one for argparse."""
    first = next((i for i, word in enumerate(argv) if not word.startswith("-")), 0)
    command = " ".join(argv[first : first + 2])
    return [*argv[:first], command, *argv[first + 2 :]] if command in subcommands else argv
