"""The options of `interformer plan`. In: its parser; out: the same, with them. No torch: every command loads this."""

from __future__ import annotations

import argparse


def plan_arguments(one: argparse.ArgumentParser) -> None:
    """Add them."""
    one.add_argument("config", metavar="CONFIG", help="a YAML file, see configs/; or: diff A B; or: score RUN")
    one.add_argument("others", metavar="A B", nargs="*", help=argparse.SUPPRESS)
    one.add_argument("--set", metavar="A.B=C", action="append", default=[], help="override one value of the config")
    one.add_argument("--cluster", metavar="NAME_OR_FILE", help="one of configs/clusters/, or a YAML file like them")
    one.add_argument("--nodes", type=int, default=1)
    one.add_argument("--batch-size", type=int, metavar="ROWS", help="a rank; default: the config's")
    one.add_argument("--constraints", metavar="FILE", help="allowed sharding types, kernels, tables that stay together")
    one.add_argument("--reserve", type=float, default=0.1, metavar="SHARE", help="of device memory kept free; 0.1")
    one.add_argument("--objective", default="time", help="time (fastest step) or gpus (fewest nodes that fit)")
    one.add_argument("--rows", metavar="TABLE=N", action="append", default=[], help="rows of a table")
    one.add_argument("--lengths", metavar="LIST=MEAN", action="append", default=[], help="events or ids a row has")
    one.add_argument("--statistics", metavar="FILE", help="data.json of a run, or a saved plan")
    one.add_argument("--price", metavar="CLUSTER=N", action="append", default=[], help="of a node and hour")
    one.add_argument(
        "--what-if", metavar="NAME=A,B", nargs="+", default=[], help="nodes=1,2,4 batch=512,1024 cluster=..."
    )
    one.add_argument("--why", metavar="TABLE", action="append", default=[], help="every option the table did not get")
    one.add_argument("--out", metavar="FILE", help="write the plan for sharding.plan; of score: the calibrated cluster")
    one.add_argument("--html", metavar="PATH", help="also write the plan, and what --what-if found, as one page")
    one.add_argument("--json", action="store_true", help="one JSON object instead of tables")
