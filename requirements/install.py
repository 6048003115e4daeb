"""Comes in: the requirement files beside this script. Goes out: the virtual environment .venv, in which they fit.

Run by the Makefile with whatever Python 3 there is, so this file uses the standard library only and no syntax newer
than Python 3.6: an old Python shall get the sentence below, not a SyntaxError. Nothing is done when nothing changed.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")
STAMP = os.path.join(VENV, "interformer-install.json")
OLDEST, NEWEST = (3, 10), (3, 13)
# What a checkout has beside the set of its variant: what searches settings (the cluster image has it too), the launcher, what serves
# a model, and what tests and benchmarks need.
NAMES = ("tune", "launch", "serve", "dev")
EXTRAS = tuple(word for name in NAMES for word in ("-r", "requirements/" + name + ".txt"))


class SetupError(Exception):
    """Set-up cannot go on; the message says why and what to do."""


def text(version):
    """(3, 12) -> "3.12"."""
    return ".".join(str(part) for part in version)


def interpreter(asked):
    """The path and (major, minor) of the Python to build with: the one asked for, else the first on PATH that fits."""
    names = [asked] if asked else ["python3", *(f"python3.{minor}" for minor in range(NEWEST[1], OLDEST[1] - 1, -1))]
    seen = []
    for name in names:
        path = shutil.which(os.path.expanduser(name))
        if path is None:
            continue
        code = "import sys; print(*sys.version_info[:2])"
        answer = subprocess.run([path, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if answer.returncode != 0:
            continue
        version = tuple(int(part) for part in answer.stdout.split())
        if OLDEST <= version <= NEWEST:
            return path, version
        seen.append(f"{name} is Python {text(version)}")
    raise SetupError(
        f"InterFormer needs Python {text(OLDEST)} to {text(NEWEST)}; "
        f"{'; '.join(seen) or 'found none (looked for ' + ', '.join(names) + ')'}. "
        "Install one and name it: make setup PYTHON=/path/to/python3.12"
    )


def fingerprint(variant, version):
    """A hash of all that decides what is installed."""
    digest = hashlib.sha256(f"{variant} {text(version)}".encode())
    folder = os.path.join(ROOT, "requirements")
    inside = sorted(os.path.join(folder, name) for name in os.listdir(folder) if name.endswith((".txt", ".py")))
    # __init__.py: it holds the version, which the installed metadata repeats.
    for path in [*inside, os.path.join(ROOT, "setup.py"), os.path.join(ROOT, "interformer_rec", "__init__.py")]:
        with open(path, "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def installed():
    """What the last complete run wrote: {"variant", "python", "fingerprint"}; empty if there was none."""
    try:
        with open(STAMP) as file:
            return json.load(file)
    except (OSError, ValueError):
        return {}


def run(*command):
    """Run one command in the open; its failure ends set-up."""
    print("+ " + " ".join(command), flush=True)
    code = subprocess.call(command, cwd=ROOT)
    if code != 0:
        raise SetupError(f"this command failed (exit code {code}): {' '.join(command)}")


def create(python, version):
    """A fresh .venv. An old one is removed: packages of another variant or Python must not shine through."""
    try:
        run(python, "-m", "venv", "--clear", VENV)
    except SetupError as error:
        raise SetupError(
            f"{error}. On Debian and Ubuntu the module venv is a package of its own: "
            f"apt-get install python{text(version)}-venv"
        ) from error


def install(variant, fresh):
    """The three steps of docs/decisions/0001-versions-that-fit.md, then the check that they fit."""
    pip = (PYTHON, "-m", "pip", "install", "--disable-pip-version-check")
    # Not quiet the first time: a CUDA build is gigabytes, and pip shows how far it is.
    run(*pip, *([] if fresh else ["--quiet"]), "-r", f"requirements/{variant}.txt", *EXTRAS)
    run(*pip, "--quiet", "--no-deps", "-r", "requirements/torchrec.txt")
    # torch has brought setuptools, so the package itself needs no second download of it for an isolated build.
    run(*pip, "--quiet", "--no-deps", "--no-build-isolation", "--editable", ".")
    run(PYTHON, "-c", "from interformer_rec.install import stack; stack.require_torchrec()")


def main():
    """Exit code 0: .venv is as requirements/ say; 2: it cannot be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default="", help="the Python to build .venv with; default: a fitting one on PATH")
    parser.add_argument("--variant", default="", help="cpu or cuda; default: what .venv is, else cpu")
    args = parser.parse_args()
    before = installed()
    try:
        variant = args.variant or before.get("variant", "cpu")
        if variant not in ("cpu", "cuda"):
            raise SetupError(f"VARIANT={variant}: there are cpu and cuda")
        # Who chose a Python once need not name it again with every `make test`.
        asked = args.python or (PYTHON if before and os.path.exists(PYTHON) else "")
        python, version = interpreter(asked)
        key = fingerprint(variant, version)
        if before.get("fingerprint") == key and os.path.exists(PYTHON):
            return 0
        if os.path.exists(STAMP):
            os.remove(STAMP)
        same = before.get("variant") == variant and before.get("python") == list(version)
        fresh = not (same and os.path.exists(PYTHON))
        if fresh:
            base = os.path.realpath(python) if python == PYTHON else python
            create(base, version)
        install(variant, fresh)
        with open(STAMP, "w") as file:
            json.dump({"variant": variant, "python": list(version), "fingerprint": key}, file)
    except SetupError as error:
        print(f"set-up: {error}", file=sys.stderr)
        return 2
    print(f"set-up: .venv is ready (Python {text(version)}, {variant})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
