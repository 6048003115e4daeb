"""Two hosts on one machine: network namespaces joined by a wire that can be cut. In: nothing; out: commands that run inside.

Each host has its own interfaces and ports and shares the disk, as the nodes of a cluster do. Needs root and iproute2.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

PORT = 29400  # of the rendezvous; each host has all ports for itself
WIRE = "wire0"  # the interface's name in both hosts
_serial = count()


class Hosts:
    """Host 0 (10.77.0.1) and host 1 (10.77.0.2)."""

    def __init__(self, names: tuple[str, str]) -> None:
        self.names = names

    def inside(self, host: int) -> tuple[str, ...]:
        """What to put before a command so that it runs on a host."""
        return ("ip", "netns", "exec", self.names[host])

    @staticmethod
    def address(host: int) -> str:
        """Its address on the wire."""
        return f"10.77.0.{host + 1}"

    def cut(self) -> None:
        """The wire is out: what is sent is lost, nobody is notified."""
        ip("-n", self.names[1], "link", "set", WIRE, "down")

    def mend(self) -> None:
        """The wire is in again."""
        ip("-n", self.names[1], "link", "set", WIRE, "up")

    def torchrun(self, host: int, *more: str) -> tuple[str, ...]:
        """Options of the agent of a host: the job takes one host or two; host 0 is where they meet."""
        return (
            "--nnodes=1:2", "--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-id=two-hosts",
            f"--rdzv-endpoint={self.address(0)}:{PORT}", f"--local-addr={self.address(host)}", *more,
        )  # fmt: skip


def ip(*arguments: str) -> None:
    """iproute2's `ip`. Raises RuntimeError with its complaint."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def missing() -> str:
    """Why there can be no two hosts here; empty if there can."""
    if shutil.which("ip") is None:
        return "needs iproute2: apt-get install iproute2"
    if os.geteuid() != 0:
        return "needs root, for network namespaces"
    try:
        with two_hosts():
            return ""
    except RuntimeError as error:
        return f"network namespaces cannot be made here: {error}"


@contextmanager
def two_hosts() -> Iterator[Hosts]:
    """Make them; at the end they are gone, and their interfaces with them. End what runs inside first."""
    serial = f"{os.getpid()}-{next(_serial)}"  # another test process may have two of its own
    hosts = Hosts((f"interformer-a-{serial}", f"interformer-b-{serial}"))
    try:
        for name in hosts.names:
            ip("netns", "add", name)
        first, second = hosts.names
        ip("link", "add", WIRE, "netns", first, "type", "veth", "peer", "name", WIRE, "netns", second)
        for host, name in enumerate(hosts.names):
            ip("-n", name, "addr", "add", f"{hosts.address(host)}/24", "dev", WIRE)
            ip("-n", name, "link", "set", WIRE, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield hosts
    finally:
        for name in hosts.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
