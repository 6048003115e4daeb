"""Options of `interformer export`. In: a parser; out: the same with them, and what they say. No torch: the command line starts at once."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from interformer_rec.serving.contents import Isa
    from interformer_rec.serving.signature import OnAbsent, OnUnknown
    from interformer_rec.serving.tables import Form


@dataclass(frozen=True)
class ExportOptions:
    """How a version is made; None: the default, or what the version has that a delta is to."""

    tables: Form | None = None
    runtime: str | None = None
    isa: Isa | None = None
    absent: OnAbsent | None = None
    unknown: OnUnknown | None = None
    delta: bool = False  # write what has changed since the current state, where both are of one model
    full_every: int | None = None  # of deltas: one of so many exports is a version all the same
    keep: int | None = None  # versions that stay; all


def count(text: str) -> int:
    """A number from 1 on."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def add_export_arguments(one: argparse.ArgumentParser) -> None:
    """All but --trust-run, which other commands have too."""
    one.add_argument("path", metavar="RUN_OR_CHECKPOINT")
    out = "a folder or URI; versions/ID/ and current.json go there"
    one.add_argument("--out", metavar="DIR", required=True, help=out)
    tables = "how rows are stored; fp32; int8: a fourth of the memory, AUC changes in the sixth digit"
    one.add_argument("--tables", choices=("fp32", "fp16", "int8"), help=tables)
    runtimes = "what runs the graphs; auto: AOTInductor where a C++ compiler is found, and ONNX where it is installed"
    one.add_argument("--runtime", choices=("auto", "aoti", "onnx", "eager"), help=runtimes)
    isa = "instruction set of compiled graphs; x86-64-v3; native: this machine's, which others may lack"
    one.add_argument("--isa", choices=("x86-64-v3", "native"), help=isa)
    absent = "what a request without a key means: it is refused, which is the default, or the key's value is null"
    one.add_argument("--absent", choices=("refused", "null"), help=absent)
    unknown = "what a key means that no input has; refused"
    one.add_argument("--unknown", choices=("refused", "ignored"), help=unknown)
    data = "Parquet files with labels whose scores are compared with predict's; default: the test data of the run"
    one.add_argument("--data", metavar="PATH", help=data)
    delta = "write what has changed since the current state of DIR, where that is of the same model; servers with --watch follow"
    one.add_argument("--delta", action="store_true", help=delta)
    every = "with --delta: of N exports one is a version, the others are deltas to it"
    one.add_argument("--full-every", type=count, metavar="N", help=every)
    keep = "of versions, the N newest stay with their deltas, once there is a new one; default: all stay"
    one.add_argument("--keep", type=count, metavar="N", help=keep)
    one.add_argument("--json", action="store_true", help="one JSON object instead of a table")
