"""Everything a borrowed GPU should say, by one command: tests, checked kernels, models, tables, and the targets with pass or miss.

    python -m benchmarks.gpu_suite [--parts environment,tests,...] [--device cuda] [--quick] [--limit 290] [--budget 870] [--json PATH]

The most telling parts come first. A part is a process of its own with a hard limit of --limit seconds; one that fails or is stopped is a
row with its error and what it had measured, and the others go on until --budget seconds are over. Parts for which no time is left are
rows too. The result is written after every part: all cases in one list, each with its part, so that `benchmarks.harness.compare` and
`benchmarks.harness.plot --part` read it. --quick: small shapes, seconds a part; with --device cpu it shows that the script works.
Parts, and how to run on a host without a network: docs/guides/gpu.md.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.gpu.parts import Part, parts
from benchmarks.gpu.targets import targets
from benchmarks.harness.machine import facts
from benchmarks.harness.result_file import write_result

ROOT = Path(__file__).parents[1]
Row = dict[str, Any]
LEAST = 15.0  # seconds in which a part can say something


def run_part(name: str, part: Part, limit: float, log: Path | None) -> Row:
    """{part, status: ok, failed, stopped or skipped, seconds, command, error, said, result}; the process and its children end with it."""
    row: Row = {"part": name, "command": " ".join(["python", *part.arguments])}
    if part.missing:
        return {**row, "status": "skipped", "seconds": 0.0, "error": part.missing, "result": None}
    with tempfile.TemporaryDirectory() as folder:
        result, said = Path(folder) / "result.json", Path(folder) / "said"
        written = ["--json", str(result)] if part.writes else []
        began = time.perf_counter()
        with said.open("wb") as output:
            # a group of its own: compilers and ranks it started must not outlive it
            process = subprocess.Popen(
                [sys.executable, *part.arguments, *written],
                cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            try:
                code: int | None = process.wait(limit)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        text = said.read_text(encoding="utf-8", errors="replace")
        if log is not None:
            log.mkdir(parents=True, exist_ok=True)
            (log / f"{name}.log").write_text(text, encoding="utf-8")
        status = "stopped" if code is None else "ok" if code == 0 else "failed"
        error = {"ok": None, "stopped": f"stopped after {limit:.0f} s"}.get(
            status, f"exit code {code}: {text[-1500:].strip()}"
        )
        found = json.loads(result.read_text(encoding="utf-8")) if result.exists() else None
    row |= {"status": status, "seconds": time.perf_counter() - began, "error": error}
    return {**row, "said": text.strip().rpartition("\n")[2], "result": found}


def merged(rows: list[Row], device: torch.device) -> Row:
    """One result: the host's facts, the parts without their cases, all cases with their part, the targets."""
    cases = [{"part": row["part"], **case} for row in rows for case in (row["result"] or {}).get("cases", [])]
    headers = [{**row, "result": {k: v for k, v in (row["result"] or {}).items() if k != "cases"}} for row in rows]
    known = facts(device)
    return {
        "benchmark": "gpu_suite",
        **known,
        "parts": headers,
        "targets": targets(cases, known["device"]),
        "cases": cases,
    }


def show(result: Row, console: Console) -> None:
    """Parts, errors inside them, then the targets, last."""
    shown = Table(box=None, header_style="bold", title="parts")
    for name in ("part", "status", "seconds", "cases", "errors", "last line"):
        shown.add_column(name)
    for row in result["parts"]:
        cases = [case for case in result["cases"] if case["part"] == row["part"]]
        errors = sum("error" in case for case in cases)
        last = (row["error"] or row.get("said") or "").splitlines()[-1:] or [""]
        shown.add_row(
            row["part"], row["status"], f"{row['seconds']:.0f}", str(len(cases)), str(errors or ""), last[0][:90]
        )
    console.print(shown)
    for case in result["cases"]:
        if "error" in case:
            what = " ".join(
                str(case[key]) for key in ("operator", "d", "longest", "alternative", "variant") if key in case
            )
            console.print(f"{case['part']} {what}: {case['error'][:200]}", markup=False, style="red")
    goals = Table(box=None, header_style="bold", title="targets")
    for name in ("target", "where", "wanted", "measured", ""):
        goals.add_column(name)
    for goal in result["targets"]:
        measured = "" if goal["measured"] is None else f"{goal['measured']:.2f}"
        verdict = {True: "pass", False: "MISS", None: "not measured"}[goal["passed"]]
        goals.add_row(goal["target"], goal["where"], f"{goal['wanted']:.2f}", measured, verdict)
    console.print(goals)


def main() -> int:
    """Run the parts, write after each, show; 1 if a part failed or was stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", help="names, divided by commas; default: all")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--limit", type=float, default=290.0, help="seconds a part")
    parser.add_argument("--budget", type=float, default=870.0, help="seconds in all")
    parser.add_argument("--log", type=Path, help="a folder for what each part prints")
    parser.add_argument("--json")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device; --device cpu --quick shows that the script works")
    known = parts(options.device, options.quick)
    chosen = options.parts.split(",") if options.parts else list(known)
    for name in chosen:
        if name not in known:
            parser.error(f"{name!r} is none of {', '.join(known)}")
    console = Console(width=None if sys.stdout.isatty() else 160)
    rows: list[Row] = []
    ends = time.monotonic() + options.budget
    for name in chosen:
        left = ends - time.monotonic()
        part = known[name] if left >= LEAST else replace(known[name], missing="no time was left for it")
        rows.append(run_part(name, part, min(options.limit, left), options.log))
        console.print(f"{name}: {rows[-1]['status']}, {rows[-1]['seconds']:.0f} s", style="dim")
        result = merged(rows, device)
        write_result(options.json, result, done=False)
    show(result, console)
    write_result(options.json, result)
    return 1 if any(row["status"] in ("failed", "stopped") for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
