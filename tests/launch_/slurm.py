"""A real Slurm cluster of two nodes on this machine: munged, slurmctld and two slurmd from the distribution's packages.

Debian builds slurmd for one node a host, so each runs under a host name and an /etc/hosts of its own (`unshare --uts
--mount`); nothing outside the folder given changes. Works for root in a container that allows unshare.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGES = ("slurm-wlm", "munge")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "unshare")
NODES = ("node0", "node1")

CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
# As many CPUs as the configuration says, whatever the machine has.
SlurmdParameters=config_overrides
SchedulerParameters=bf_interval=1,sched_interval=1
ReturnToService=2
KillWait=2
NodeName=node0 NodeHostname=node0 NodeAddr=127.0.0.1 Port={ports[1]} CPUs=8 RealMemory=32000
NodeName=node1 NodeHostname=node1 NodeAddr=127.0.0.1 Port={ports[2]} CPUs=8 RealMemory=32000
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Why there can be no cluster here; empty if there can. Installs the packages, in a container of a Debian kind only."""
    if os.geteuid() != 0:
        return "needs root: Slurm's daemons start jobs for other users"
    if not all(map(shutil.which, PROGRAMS)):
        cure = f"apt-get install --no-install-recommends {' '.join(PACKAGES)}"
        if Path("/run/systemd/system").exists() or shutil.which("apt-get") is None:
            return f"needs Slurm and munge, and does not install them on a whole system by itself: {cure}"
        complaint = _install()
        if complaint:
            return f"cannot install Slurm ({cure}): {complaint}"
    tried = subprocess.run(["unshare", "--uts", "--mount", "true"], capture_output=True, text=True)
    return f"needs unshare: {tried.stderr.strip()}" if tried.returncode else ""


def _install() -> str:
    apt = ["apt-get", "-qq", "-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=15"]
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in ([*apt, "update"], [*apt, "install", "-y", "--no-install-recommends", *PACKAGES]):
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        if done.returncode:
            return (done.stderr.strip().splitlines() or ["apt-get failed"])[-1]
    return ""


@contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Start it, hand out the environment in which sbatch and friends find it, stop it. Raises RuntimeError with the logs."""
    for name in ("state", *NODES):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(secrets.token_bytes(1024))
    (folder / "munge.key").chmod(0o400)
    (folder / "hosts").write_text(Path("/etc/hosts").read_text() + f"\n127.0.0.1 {' '.join(NODES)}\n")
    config = CONFIG.format(host=socket.gethostname().split(".")[0], folder=folder, ports=_free_ports(3))
    (folder / "slurm.conf").write_text(config)
    if _version() >= (23, 11):  # later releases want control groups unless configured otherwise
        (folder / "cgroup.conf").write_text("CgroupPlugin=disabled\n")
    env = {**os.environ, "SLURM_CONF": f"{folder}/slurm.conf"}
    try:
        _start(folder, env)
        yield env
    finally:
        _end_jobs(env)
        for name in (*NODES, "slurmctld", "munge"):
            _stop(folder / f"{name}.pid")


def _start(folder: Path, env: dict[str, str]) -> None:
    files = [f"--{what}={folder}/munge.{end}" for what, end in
             {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}.items()]  # fmt: skip
    _run(["munged", "--force", *files], folder, env)
    _run(["slurmctld", "-c", "-L", f"{folder}/slurmctld.log"], folder, env)
    for node in NODES:
        script = f'mount --bind "{folder}/hosts" /etc/hosts && hostname {node} && exec slurmd -L "{folder}/{node}.log"'
        _run(["unshare", "--uts", "--mount", "sh", "-c", script], folder, env)
    states: list[str] = []
    for _ in range(600):
        answer = subprocess.run(["sinfo", "-hN", "-o", "%T"], env=env, capture_output=True, text=True)
        states = answer.stdout.split()
        if states == ["idle"] * len(NODES):
            return
        time.sleep(0.1)
    raise RuntimeError(f"the nodes are {states}, not idle, after 60 s\n{_logs(folder)}")


def _run(command: list[str], folder: Path, env: dict[str, str]) -> None:
    """Start a daemon; it detaches by itself. Its output goes to a file: a pipe would stay open with it."""
    with (folder / "start.log").open("a") as log:
        if subprocess.run(command, env=env, stdout=log, stderr=log).returncode:
            raise RuntimeError(f"{command[0]} did not start\n{_logs(folder)}")


def _logs(folder: Path) -> str:
    return "\n".join(f"{path.name}:\n{path.read_text()[-2000:]}" for path in sorted(folder.glob("*.log")))


def _end_jobs(env: dict[str, str]) -> None:
    """Jobs of a test that failed half-way would outlive the daemons."""
    for _ in range(20):
        queue = subprocess.run(["squeue", "-h", "-o", "%A"], env=env, capture_output=True, text=True)
        if not queue.stdout.split():
            return
        subprocess.run(["scancel", *queue.stdout.split()], env=env, capture_output=True)
        time.sleep(0.5)


def _stop(pid_file: Path) -> None:
    """End the daemon of a pid file and wait until it is gone."""
    try:
        pid = int(pid_file.read_text())
        os.kill(pid, signal.SIGTERM)
        for _ in range(50):
            time.sleep(0.1)
            os.kill(pid, 0)
        os.kill(pid, signal.SIGKILL)
    except (OSError, ValueError):
        return  # never started, or gone


def _version() -> tuple[int, ...]:
    answer = subprocess.run(["slurmctld", "-V"], capture_output=True, text=True, check=True).stdout
    return tuple(int(part) for part in re.findall(r"\d+", answer)[:2])


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
