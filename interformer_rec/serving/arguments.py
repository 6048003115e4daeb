"""The options of `interformer export`. In: its parser; out: the same with its options. No torch here: the command line starts at once."""

from __future__ import annotations

import argparse


def add_export_arguments(one: argparse.ArgumentParser) -> None:
    """All but --trust-run, which other commands have too."""
    one.add_argument("path", metavar="RUN_OR_CHECKPOINT")
    out = "a folder or URI; versions/ID/ and current.json go there"
    one.add_argument("--out", metavar="DIR", required=True, help=out)
    tables = "how rows are stored; int8: a fourth of the memory, AUC changes in the sixth digit"
    one.add_argument("--tables", choices=("fp32", "fp16", "int8"), default="fp32", help=tables)
    runtimes = "what runs the graphs; auto: AOTInductor where a C++ compiler is found, and ONNX where it is installed"
    one.add_argument("--runtime", choices=("auto", "aoti", "onnx", "eager"), default="auto", help=runtimes)
    isa = "instruction set of compiled graphs; native: this machine's, which others may lack"
    one.add_argument("--isa", choices=("x86-64-v3", "native"), default="x86-64-v3", help=isa)
    data = "Parquet files with labels whose scores are compared with predict's; default: the test data of the run"
    one.add_argument("--data", metavar="PATH", help=data)
    one.add_argument("--json", action="store_true", help="one JSON object instead of a table")
