"""Options of `interformer plan`, `plan diff` and `plan score`. In: parsed arguments; out: the call they mean, or an InputError that names
an option which that command would ignore. No torch."""

from __future__ import annotations

import argparse
from typing import Any

from interformer_rec.errors import InputError

# option of the command line -> name of the function's argument
OPTIONS = {
    "set": "overrides", "cluster": "cluster", "nodes": "nodes", "batch_size": "batch_size", "constraints": "constraints",
    "reserve": "reserve", "objective": "objective", "rows": "rows", "lengths": "lengths", "statistics": "statistics",
    "price": "prices", "what_if": "what_if", "why": "why", "out": "out", "html": "html", "json": "as_json", "trust_run": "trust",
}  # fmt: skip
USED = {
    "plan": tuple(name for name in OPTIONS if name != "trust_run"),
    "plan diff": ("json",),
    "plan score": ("cluster", "out", "json", "trust_run"),
}


def add_plan_arguments(one: argparse.ArgumentParser) -> None:
    """Options that are not given leave no trace, so that given ones are known."""

    def add(name: str, **more: Any) -> None:
        one.add_argument(name, default=argparse.SUPPRESS, **more)

    one.add_argument("config", metavar="CONFIG", help="a YAML file, see configs/; or: diff A B; or: score RUN")
    one.add_argument("others", metavar="A B", nargs="*", help=argparse.SUPPRESS)
    add("--set", metavar="A.B=C", action="append", help="override one value of the config")
    add("--cluster", metavar="NAME_OR_FILE", help="one of configs/clusters/, or a YAML file like them")
    add("--nodes", type=int, help="of the cluster; 1")
    add("--batch-size", type=int, metavar="ROWS", help="a rank; default: the config's")
    add("--constraints", metavar="FILE", help="allowed sharding types, kernels, tables that stay together")
    add("--reserve", type=float, metavar="SHARE", help="of device memory kept free; 0.1")
    add("--objective", help="time (fastest step) or gpus (fewest nodes that fit)")
    add("--rows", metavar="TABLE=N", action="append", help="rows of a table")
    add("--lengths", metavar="LIST=MEAN", action="append", help="events or ids a row has")
    add("--statistics", metavar="FILE", help="data.json of a run, or a saved plan")
    add("--price", metavar="CLUSTER=N", action="append", help="of a node and hour")
    add("--what-if", metavar="NAME=A,B", nargs="+", help="nodes=1,2,4 batch=512,1024 cluster=...")
    add("--why", metavar="TABLE", action="append", help="every option the table did not get")
    add("--out", metavar="FILE", help="write the plan for sharding.plan; of score: the calibrated cluster")
    add("--html", metavar="PATH", help="also write the plan, and what --what-if found, as one page")
    add("--json", action="store_true", help="one JSON object instead of tables")
    about = "of score: this run is mine, fill ${NAME} in its config from the environment, open whatever it names"
    add("--trust-run", action="store_true", help=about)


def plan_call(args: argparse.Namespace) -> tuple[str, tuple[str, ...], dict[str, Any]]:
    """The command, its positional arguments and its options by the function's names."""
    command = f"plan {args.config}" if args.config in ("diff", "score") else "plan"
    given = {name: getattr(args, name) for name in OPTIONS if hasattr(args, name)}
    ignored = [name for name in given if name not in USED[command]]
    if ignored:
        takes = ", ".join(map(_flag, USED[command]))
        raise InputError(f"{command}: {_flag(ignored[0])} has no meaning there; it takes {takes}")
    if command == "plan diff" and len(args.others) != 2:
        raise InputError(
            "plan diff: name the two plan files, for example: interformer plan diff before.json after.json"
        )
    if command == "plan score" and len(args.others) != 1:
        raise InputError("plan score: name one run folder, for example: interformer plan score runs/kuairand_pure")
    if command == "plan" and (args.others or "cluster" not in given):
        raise InputError("plan: one CONFIG and --cluster NAME_OR_FILE, or: plan diff A B, or: plan score RUN")
    named = {OPTIONS[name]: value for name, value in given.items()}
    return command, tuple(args.others) if args.others else (args.config,), named


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
