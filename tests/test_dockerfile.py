"""The Dockerfile, read instead of built: no test machine has a Docker engine. Rules in the manner of hadolint, each shown to fail."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from interformer_rec import cli
from interformer_rec.serving.server.settings import Settings

ROOT = Path(__file__).parents[1]
DOCTOR = 'CMD ["interformer", "doctor"]'
SERVE = ["-m", "pip", "install", "-r", "requirements/serve.txt"]
WITHOUT_TORCH = ["-m", "pip", "install", "-r", "requirements/base.txt", "-r", "requirements/serve.txt"]


class Line(NamedTuple):
    instruction: str
    text: str


def parse(text: str) -> list[Line]:
    """Instructions in order, continued lines joined, comments dropped, ARG defaults filled in where they are used."""
    joined = re.sub(r"\\\n", " ", "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#")))
    lines = [Line(line.split()[0], line.partition(" ")[2].strip()) for line in joined.splitlines() if line.strip()]
    defaults = dict(line.text.split("=", 1) for line in lines if line.instruction == "ARG" and "=" in line.text)
    return [Line(i, re.sub(r"\$\{(\w+)\}", lambda m: defaults.get(m[1], m[0]), t)) for i, t in lines]


def of(lines: list[Line], instruction: str) -> list[str]:
    return [line.text for line in lines if line.instruction == instruction]


def shell(lines: list[Line]) -> list[str]:
    """Every command of every RUN."""
    return [command.strip() for run in of(lines, "RUN") for command in run.split("&&")]


def bases_are_pinned(lines: list[Line]) -> list[str]:
    stages = {text.split()[-1] for text in of(lines, "FROM") if " AS " in text}
    images = [text.split()[0] for text in of(lines, "FROM")]
    return [
        f"{image}: pin a tag"
        for image in images
        if image not in stages and not re.search(r":(?!latest)[\w.-]+$", image)
    ]


def the_base_is_an_argument(lines: list[Line]) -> list[str]:
    return [] if lines[0].instruction == "ARG" and lines[0].text.startswith("BASE=") else ["ARG BASE= comes first"]


def apt_leaves_nothing_behind(lines: list[Line]) -> list[str]:
    complaints = []
    for run in (run for run in of(lines, "RUN") if "apt-get" in run or "apt " in run):
        commands = [command.strip() for command in run.split("&&")]
        good = commands[0] == "apt-get update" and commands[-1] == "rm -rf /var/lib/apt/lists/*"
        good &= all(c.startswith("apt-get install -y --no-install-recommends ") for c in commands[1:-1])
        complaints += (
            [] if good else [f"RUN {run}: update, install -y --no-install-recommends, rm the lists, in one layer"]
        )
    return complaints


def images(lines: list[Line]) -> list[list[Line]]:
    """The stages that are images: those with a command, and the last one."""
    starts = [i for i, line in enumerate(lines) if line.instruction == "FROM"]
    stages = [lines[start:end] for start, end in zip(starts, [*starts[1:], len(lines)], strict=True)]
    return [stage for i, stage in enumerate(stages) if of(stage, "CMD") or i == len(stages) - 1]


def nothing_runs_as_root(lines: list[Line]) -> list[str]:
    users = [(of(stage, "USER") or ["root"])[-1] for stage in images(lines)]
    complaints = [f"{command}: RUN is root already" for command in shell(lines) if "sudo" in command.split()]
    # Kubernetes' runAsNonRoot cannot judge a name.
    wrong = [f"USER {user}: want a number that is not 0" for user in users if not re.match(r"[1-9]\d*(:|$)", user)]
    return complaints + wrong


def pip_installs_what_requirements_say(lines: list[Line]) -> list[str]:
    complaints = []
    for words in (shlex.split(command) for command in shell(lines) if "pip install" in command):
        given = words[words.index("install") + 1 :]
        files = [value for option, value in pairwise(given) if option == "-r"]
        complaints += [f"{name}: no such file in requirements/" for name in files
                       if not (ROOT / name).is_file() or Path(name).parts[0] != "requirements"]  # fmt: skip
        loose = [word for word in given if not word.startswith("-") and word not in (*files, ".")]
        complaints += [f"pip install {word}: versions belong in requirements/" for word in loose]
    return complaints


def no_hosts(lines: list[Line]) -> list[str]:
    return [
        f"{line.text}: hosts are given at build time"
        for line in lines
        if re.search(r"https?://|--index-url|\w+\.\w+/\w+:", line.text)
    ]


def copies_exist_and_are_sent(lines: list[Line]) -> list[str]:
    sent = {line[1:].rstrip("/") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    sources = [word.rstrip("/") for text in of(lines, "COPY") if "--from" not in text for word in text.split()[:-1]]
    return [
        f"COPY {name}: not there, or left out by .dockerignore"
        for name in sources
        if not any(name == folder or name.startswith(f"{folder}/") for folder in sent) or not (ROOT / name).exists()
    ]


def commands_are_lists(lines: list[Line]) -> list[str]:
    complaints = [f"ADD {text}: use COPY" for text in of(lines, "ADD")] + [
        f"ENTRYPOINT {t}" for t in of(lines, "ENTRYPOINT")
    ]
    for text in [*of(lines, "CMD"), *(check.partition("CMD ")[2] for check in of(lines, "HEALTHCHECK"))]:
        complaints += [] if text.startswith('["') and json.loads(text) else [f"{text}: write a JSON list"]
    return complaints


def health_is_checked(lines: list[Line]) -> list[str]:
    """A server is asked whether it lives; what trains, whether its releases fit together."""
    complaints = []
    for stage in images(lines):
        checks, serves = of(stage, "HEALTHCHECK"), any('"serve"' in command for command in of(stage, "CMD"))
        good = len(checks) == 1 and ("/v2/health/live" in checks[0] if serves else checks[0].endswith(DOCTOR))
        complaints += [] if good else [f"HEALTHCHECK {checks}: want {'/v2/health/live' if serves else DOCTOR}"]
    return complaints


def folders_are_absolute(lines: list[Line]) -> list[str]:
    return [f"WORKDIR {text}" for text in of(lines, "WORKDIR") if not text.startswith("/")] + [
        f"{command}: use WORKDIR" for command in shell(lines) if command.startswith("cd ")
    ]


BROKEN = {
    bases_are_pinned: "FROM python:latest",
    the_base_is_an_argument: "FROM python:3.12",
    apt_leaves_nothing_behind: "RUN apt-get update && apt-get install -y gcc",
    nothing_runs_as_root: "FROM a:1 AS b\nUSER 10001\nFROM b\nRUN sudo true",
    pip_installs_what_requirements_say: "ARG V=tpu\nRUN pip install torch -r requirements/${V}.txt",
    no_hosts: "RUN pip install --index-url https://example.org/simple -r requirements/cpu.txt",
    copies_exist_and_are_sent: "COPY tests/ nothing.txt ./",
    commands_are_lists: "ADD a b\nCMD interformer --help",
    health_is_checked: "FROM a:1\nHEALTHCHECK CMD true",
    folders_are_absolute: "WORKDIR app\nRUN cd app && make",
}


@pytest.mark.parametrize("rule", BROKEN, ids=lambda rule: rule.__name__)
def test_rule(rule):
    assert rule(parse((ROOT / "Dockerfile").read_text())) == []
    assert rule(parse(BROKEN[rule])) != []


def test_installs_with_the_steps_of_install_py(monkeypatch):
    """The same pip commands as `make setup VARIANT=cuda`, without launch.txt and dev.txt, serve.txt last; the package is copied."""
    spec = importlib.util.spec_from_file_location("install", ROOT / "requirements" / "install.py")
    assert spec is not None and spec.loader is not None
    install = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(install)
    steps: list[list[str]] = []
    monkeypatch.setattr(install, "run", lambda *command: steps.append(list(command[1:])))
    install.install("cuda", fresh=True)
    without = {"--disable-pip-version-check", "--quiet", "--editable"}
    wanted = [[word for word in step if word not in without] for step in steps]
    wanted[0] = wanted[0][: wanted[0].index("requirements/launch.txt") - 1]
    python = [shlex.split(command) for command in shell(parse((ROOT / "Dockerfile").read_text()))]
    without_torch = [WITHOUT_TORCH, ["-m", "pip", "install", "--no-deps", "."]]
    assert [words[1:] for words in python if words[0] == ".venv/bin/python"] == [*wanted, SERVE, *without_torch]


def required(file: str) -> set[str]:
    """Names of the packages of a requirements file, with those of the files that it includes."""
    found: set[str] = set()
    for line in (ROOT / file).read_text(encoding="utf-8").splitlines():
        if line.startswith("-r "):
            found |= required(f"requirements/{line[3:].strip()}")
        elif line and not line.startswith("#"):
            found.add(re.match(r"[\w.-]+", line)[0].lower())
    return found


def test_one_of_the_servers_has_no_torch_and_all_that_serves_onnx():
    names = set[str]().union(*(required(word) for word in WITHOUT_TORCH if word.endswith(".txt")))
    assert {"onnxruntime", "starlette", "uvicorn", "numpy", "pyarrow", "pydantic", "safetensors"} <= names
    assert not names & {name for name in required("requirements/cpu.txt") if re.match("torch|fbgemm|tensordict", name)}
    assert "torch" in required("requirements/cpu.txt")


def the_server() -> list[Line]:
    (stage,) = [one for one in images(parse((ROOT / "Dockerfile").read_text())) if one[0].text.endswith(" AS server")]
    return stage


def test_both_servers_are_the_server_with_packages():
    lines = parse((ROOT / "Dockerfile").read_text())
    for name in ("serve", "serve-onnx"):
        at = lines.index(Line("FROM", f"server AS {name}"))
        assert lines[at + 1] == Line("COPY", f"--from=build-{name} /opt/interformer/.venv /opt/interformer/.venv")
        assert lines[at + 2].instruction == "FROM"


def test_the_servers_command_is_one_that_it_has():
    """It needs no compiler, and what it listens on is what the image exposes."""
    stage = the_server()
    assert stage[0].text == "bare AS server" and shell(stage) == [c for c in shell(stage) if c.startswith("useradd")]
    program, *words = json.loads(of(stage, "CMD")[0])
    given = cli.parser().parse_args(words)
    assert (program, given.command, given.host) == ("interformer", "serve", "0.0.0.0")
    assert of(stage, "EXPOSE") == [str(Settings(path=given.path).port)]


@pytest.mark.parametrize("status", [200, 503])
def test_the_servers_health_check_asks_it(status):
    asked = []

    class Live(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), Live) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        _, *words = json.loads(of(the_server(), "HEALTHCHECK")[0].partition("CMD ")[2])
        check = [word.replace("8000", str(server.server_port)) for word in words]
        assert subprocess.run([sys.executable, *check], timeout=60).returncode == int(status != 200)
    assert asked == ["/v2/health/live"]


def test_make_builds_all():
    def command(*target: str) -> str:
        ran = subprocess.run(["make", "-n", "image", *target], cwd=ROOT, capture_output=True, text=True, check=True)
        return ran.stdout

    assert "--target" not in command() and "-t interformer-rec:" in command()
    for target in ("serve", "serve-onnx"):
        server = command(f"TARGET={target}")
        assert f"--target {target} " in server and "VARIANT=cpu" in server and f"-t interformer-rec-{target}:" in server
