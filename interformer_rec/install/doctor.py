"""`interformer doctor`: do the installed versions fit, does what is installed work here, and if not, what to type.

Comes in: the metadata of the environment, then what probe.py reports from a process of its own. Goes out: tables on the
screen or one JSON object. This process imports neither torch nor TorchRec nor FBGEMM: it has to survive their absence.
"""

import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from interformer_rec import __version__, host
from interformer_rec.install import fbgemm, graphs, stack
from interformer_rec.install.probe import STEPS
from interformer_rec.text import size

OTHERS = ("triton", "torchx", "pyarrow", "numpy", "pydantic", "scikit-learn", "tensorboard")
# Loading torch and TorchRec takes 3-10 s from a warm disk, a minute from a cold network one.
PROBE_SECONDS = 240.0


def run(as_json: bool = False) -> int:
    """Print the report. Returns 0 if training can work here, 1 if it cannot."""
    # A report is often read through a pipe or in a log: never narrower than its tables.
    console = Console(width=None if sys.stdout.isatty() else 120)
    found = stack.read()
    verdict = stack.judge(found)
    facts = {"interformer": __version__, "versions": versions(found), "machine": machine(found), "pairings": pairings()}
    if not as_json:
        _show_versions(console, facts, verdict)
        console.print("Loading torch, FBGEMM and TorchRec in another process ...", style="dim")
    steps = probe()
    failures = [f"{name}: {step['error']}" for name, step in steps.items() if step["state"] == "failed"]
    works = not verdict.problems and not failures
    problems, cure = diagnose(found, verdict, steps)
    able = commands(found, steps, works)
    where = operators() if steps.get("torch", {}).get("state") == "done" else {}
    if as_json:
        report = {
            "ok": works,
            **facts,
            "problems": list(problems),
            "remarks": list(verdict.remarks),
            "probe": steps,
            **where,
            "cure": list(cure),
            "commands": able,
        }
        print(json.dumps(report, indent=2))
    else:
        _show_probe(console, steps)
        _show_operators(console, where)
        _show_verdict(console, verdict.remarks, problems[len(verdict.problems) :], works, cure, able)
    return 0 if works else 1


def diagnose(
    found: stack.Installed, verdict: stack.StackVerdict, steps: dict[str, dict[str, Any]]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is wrong, by metadata and probe together, and what to do about it."""
    failed = {name: step["error"] for name, step in steps.items() if step["state"] == "failed"}
    if verdict.problems or not failed:
        return verdict.problems, verdict.cure
    if steps["torch"]["state"] == "done" and fbgemm.missing_library(failed.get("fbgemm", "")):
        problem, cure = fbgemm.explain(failed["fbgemm"], found)
        return (f"{problem}.",), cure
    return (), stack.cure(found)


def commands(found: stack.Installed, steps: dict[str, dict[str, Any]], works: bool) -> dict[str, list[str]]:
    """Which commands work here and which do not."""
    everything = [*fbgemm.WORKS_WITHOUT, *fbgemm.NEEDS_IT]
    if works:
        able = everything
    elif steps["torch"]["state"] == "done" and not stack.problems_beside_fbgemm(found):
        able = list(fbgemm.WORKS_WITHOUT)
    else:
        able = list(fbgemm.NEED_NO_TORCH)
    return {"work": able, "do not work": [name for name in everything if name not in able]}


def versions(found: stack.Installed) -> dict[str, str | None]:
    """Distribution -> installed version; None where it is missing. FBGEMM's two builds are listed apart."""
    return {
        "python": platform.python_version(),
        "torch": found.torch,
        "torch built for CUDA": found.torch_cuda,
        "torchrec": found.torchrec,
        stack.CPU: found.fbgemm_cpu,
        stack.CUDA: found.fbgemm_cuda,
        **{name: stack.version_of(name) for name in OTHERS},
    }


def machine(found: stack.Installed) -> dict[str, Any]:
    """What the run would have without a GPU: cores that this process may use, memory (a container's where that has less), the platform."""
    return {
        "platform": platform.platform(),
        "cores": host.usable_cores(),
        "memory_bytes": host.total_memory(),
        "memory_free_bytes": host.free_memory(),
        "nvidia_driver": found.gpu,
        "export_runtimes": list(graphs.automatic()),
    }


def pairings() -> list[dict[str, str]]:
    """The releases known to fit together; the first is the one InterFormer is tested with."""
    return [{"torch": row.torch, "torchrec": row.torchrec, "fbgemm": row.fbgemm} for row in stack.PAIRINGS]


def probe(seconds: float = PROBE_SECONDS) -> dict[str, dict[str, Any]]:
    """Run probe.py. Step -> {"state": "done" | "failed", "error" if it failed, facts};
    the first step that did not end is failed."""
    return _steps(*_run("interformer_rec.install.probe", seconds))


def operators() -> dict[str, Any]:
    """Where each operator of the models runs, as ops/operators.py prints it; {} where it cannot be loaded, which the probe explains."""
    output, _ = _run("interformer_rec.ops.operators", PROBE_SECONDS)
    try:
        found = json.loads(output)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _run(module: str, seconds: float) -> tuple[str, str]:
    """What the module prints in a process of its own, and how that ended."""
    # The same package as this one, also where it is not installed; after what is there, so that nothing is shadowed.
    paths = [path for path in (os.environ.get("PYTHONPATH"), str(Path(__file__).resolve().parents[2])) if path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", module]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, encoding="utf-8", errors="replace", timeout=seconds
        )
        return done.stdout, _ending(done.returncode, done.stderr)
    except subprocess.TimeoutExpired as late:
        output = late.stdout.decode() if isinstance(late.stdout, bytes) else late.stdout or ""
        return output, f"hung for {seconds:g} s and was stopped"


def _ending(code: int, stderr: str) -> str:
    """How the probe's process ended, for the step it was in."""
    last = stderr.strip().splitlines()[-1:] or ["it said nothing"]
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return f"the process {how} ({last[0]})"


def _steps(output: str, ending: str) -> dict[str, dict[str, Any]]:
    """The last state of every step. The first that is neither done nor failed is the one in which the process ended."""
    steps: dict[str, dict[str, Any]] = {name: {"state": "not reached"} for name in STEPS}
    for line in output.splitlines():
        # Something loaded by the probe may print lines of its own.
        with contextlib.suppress(ValueError):
            said = json.loads(line)
            if isinstance(said, dict) and said.get("step") in STEPS:
                steps[said.pop("step")] = said
    ended_in = next((name for name in STEPS if steps[name]["state"] in ("start", "not reached")), None)
    if ended_in is not None:
        steps[ended_in] = {"state": "failed", "error": ending}
    return steps


def _show_versions(console: Console, facts: dict[str, Any], verdict: stack.StackVerdict) -> None:
    table = Table(title=f"InterFormer {facts['interformer']}", title_justify="left")
    table.add_column("installed")
    table.add_column("version")
    for name, version in facts["versions"].items():
        table.add_row(name, version or "[dim]-[/dim]")
    console.print(table)
    here = facts["machine"]
    console.print(
        f"{here['platform']}; {here['cores']} cores; {size(here['memory_bytes'])} of memory, "
        f"{size(here['memory_free_bytes'])} free; NVIDIA driver: {'yes' if here['nvidia_driver'] else 'no'}"
    )
    console.print(graphs.sentence(), highlight=False)
    console.print("Releases that fit together; InterFormer is tested with the first row:")
    known = Table()
    for name in ("torch", "torchrec", "fbgemm-gpu(-cpu)"):
        known.add_column(name)
    for row in facts["pairings"]:
        known.add_row(*row.values())
    console.print(known)
    # Now, not after the probe: if the versions clash, the reader need not wait for the crash.
    for problem in verdict.problems:
        console.print(f"[red]wrong[/red]  {escape(problem)}", highlight=False)


def _show_probe(console: Console, steps: dict[str, dict[str, Any]]) -> None:
    for name, step in steps.items():
        mark = {"done": "[green]works[/green]", "failed": "[red]fails[/red]"}.get(step["state"], "[dim]not tried[/dim]")
        facts = {key.replace("_", " "): value for key, value in step.items() if key not in ("state", "error")}
        said = step.get("error") or ", ".join(f"{key} {_plain(value)}" for key, value in facts.items())
        console.print(f"{mark}  {name}: {escape(said)}", highlight=False)
    for index, device in enumerate(steps["devices"].get("devices", ())):
        console.print(
            f"       GPU {index}: {device['name']}, compute capability {device['capability']}, "
            f"{size(device['total_bytes'])}, {size(device['free_bytes'])} free"
        )


def _show_operators(console: Console, found: dict[str, Any]) -> None:
    """One row an operator."""
    if not found:
        return
    console.print(
        "Where the operators run on jagged histories; under torch.compile and torch.export: where one is part of a single graph. "
        "On histories padded to a rectangle all of them are plain torch, and are exported:"
    )
    if found["no_kernels"]:
        console.print(f"  without Triton kernels: {found['no_kernels']}", highlight=False, markup=False)
    shown = Table()
    for name in ("operator", *next(iter(found["operators"].values()))):
        shown.add_column(name)
    for name, where in found["operators"].items():
        shown.add_row(name, *(place or "[dim]-[/dim]" for place in where.values()))
    console.print(shown)


def _show_verdict(
    console: Console,
    remarks: tuple[str, ...],
    problems: tuple[str, ...],
    works: bool,
    cure: tuple[str, ...],
    able: dict[str, list[str]],
) -> None:
    for remark in remarks:
        console.print(f"[yellow]note[/yellow]  {escape(remark)}", highlight=False)
    for problem in problems:
        console.print(f"[red]wrong[/red]  {escape(problem)}", highlight=False)
    if works:
        console.print("[green]Training can work here.[/green]")
        return
    console.print(f"Commands that work here: {', '.join(able['work'])}. That do not: {', '.join(able['do not work'])}.")
    console.print("[red]Training cannot work here.[/red] To cure it:")
    for line in cure:
        # Not wrapped: it is there to be copied.
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)


def _plain(value: object) -> str:
    if isinstance(value, list):
        return str(len(value)) if value and isinstance(value[0], dict) else "/".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
