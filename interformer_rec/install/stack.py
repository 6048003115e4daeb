"""Which releases of torch, torchrec and fbgemm fit together, what is installed, and what to do if it does not fit.

Comes in: the metadata of the installed distributions. Goes out: a `StackVerdict`. Nothing is imported here but the standard
library: a wrong FBGEMM build fails (or kills the process) when it is loaded, with a message that names no cause, and
nothing in its wheel's metadata states the torch it was built for. So we ask before loading.
"""

import csv
import functools
import importlib.metadata as metadata
import os
import re
import shlex
import sys
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

from interformer_rec.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
CPU, CUDA = "fbgemm-gpu-cpu", "fbgemm-gpu"
# For who built FBGEMM or TorchRec from source: the pairing is then his own to know.
UNCHECKED = "INTERFORMER_UNCHECKED_STACK"


@dataclass(frozen=True)
class Pairing:
    """Three releases that were built for each other; matched by their first two numbers."""

    torch: str
    torchrec: str
    fbgemm: str


# The first row is the project's own: requirements/ pins it and the tests run on it. The others are known to load.
PAIRINGS = (
    Pairing("2.13.0", "1.8.0", "1.8.0"),
    Pairing("2.14.0", "1.9.0", "1.9.0"),
    Pairing("2.12.0", "1.7.0", "1.7.0"),
    Pairing("2.11.0", "1.6.1", "1.6.0"),
)


@dataclass(frozen=True)
class Installed:
    """What the metadata says, without importing anything. A version is None where the distribution is missing."""

    torch: str | None
    torch_cuda: str | None  # the CUDA release torch was built for; None: a CPU build, or torch is missing
    torchrec: str | None
    fbgemm_cpu: str | None  # the version of fbgemm-gpu-cpu
    fbgemm_cuda: str | None  # the version of fbgemm-gpu
    # fbgemm distribution -> (files that are missing or not its own, files it recorded)
    fbgemm_files: dict[str, tuple[int, int]]
    missing_needs: tuple[str, ...]  # requirements of torchrec, fbgemm apart, that are not met; as pip wants them
    gpu: bool  # an NVIDIA driver is loaded


@dataclass(frozen=True)
class StackVerdict:
    """`problems`: training cannot work. `remarks`: it can, but one should know. `cure`: shell commands in order."""

    problems: tuple[str, ...]
    remarks: tuple[str, ...]
    cure: tuple[str, ...]


def read(path: list[str] | None = None) -> Installed:
    """Read the metadata in the folders of `path` (default: sys.path). Takes some milliseconds; imports nothing."""
    where = sys.path if path is None else path
    torch, torchrec = _find("torch", where), _find("torchrec", where)
    fbgemm = {name: found for name in (CPU, CUDA) if (found := _find(name, where)) is not None}
    return Installed(
        torch=torch.version if torch else None,
        torch_cuda=_cuda_of(torch) if torch else None,
        torchrec=torchrec.version if torchrec else None,
        fbgemm_cpu=fbgemm[CPU].version if CPU in fbgemm else None,
        fbgemm_cuda=fbgemm[CUDA].version if CUDA in fbgemm else None,
        fbgemm_files={name: _foreign_files(found) for name, found in fbgemm.items()},
        missing_needs=_unmet(torchrec, where) if torchrec else (),
        gpu=os.path.exists("/proc/driver/nvidia/version"),
    )


@functools.cache
def installed() -> Installed:
    """`read()` of this process, once: what it runs on does not change under it."""
    return read()


@functools.cache
def version_of(name: str) -> str | None:
    """The installed version of a distribution, None if there is none. Imports nothing."""
    found = _find(name, sys.path)
    return found.version if found else None


def judge(found: Installed) -> StackVerdict:
    """Say whether `found` fits together. Pure: the same answer for the same versions on every machine."""
    problems = [*_missing(found), *_overlaid(found)]
    remarks: list[str] = []
    if not problems:
        pairing_problems, remarks = _pairing(found)
        problems += pairing_problems
    return StackVerdict(tuple(problems), tuple(remarks), cure(found) if problems else ())


def problems_beside_fbgemm(found: Installed) -> tuple[str, ...]:
    """What would still be wrong if the FBGEMM that fits this torch were installed."""
    row = _row(found.torch) or PAIRINGS[0]
    return judge(replace(found, fbgemm_cpu=row.fbgemm, fbgemm_cuda=None, fbgemm_files={})).problems


@functools.cache
def require_torchrec() -> None:
    """Call right before the first `import torchrec`.

    Raises InputError, naming the clash and the commands that cure it, if torch, torchrec and FBGEMM do not fit. With
    the environment variable INTERFORMER_UNCHECKED_STACK=1 the same text is a warning.
    """
    verdict = judge(read())
    if not verdict.problems:
        return
    text = "\n".join([*verdict.problems, "To cure it:", *(f"  {line}" for line in verdict.cure)])
    if os.environ.get(UNCHECKED) == "1":
        warnings.warn(f"{text}\n({UNCHECKED}=1: going on all the same)")
        return
    raise InputError(text)


def variant(found: Installed) -> str:
    """The requirement set, cpu or cuda, that suits this machine."""
    chose_cuda = found.torch_cuda is not None and found.fbgemm_cuda is not None and found.fbgemm_cpu is None
    return "cuda" if found.gpu or chose_cuda else "cpu"


def cure(found: Installed) -> tuple[str, ...]:
    """The shell commands, in order, after which the project's own pairing is installed."""
    kind, pip = variant(found), f"{shlex.quote(sys.executable)} -m pip"
    wanted, torchrec = pins(kind)
    return (
        # Both, always: removing one of two that share files leaves the other in pieces.
        f"{pip} uninstall -y {CUDA} {CPU} torchrec",
        f"{pip} install {wanted}",
        f"{pip} install --no-deps {torchrec}",
    )


def pins(kind: str) -> tuple[str, str]:
    """Arguments for pip: the set of `kind`, and TorchRec. From requirements/ in a checkout, else from our metadata."""
    folder = ROOT / "requirements"
    if folder.is_dir():
        files = (folder / f"{kind}.txt", folder / "torchrec.txt")
        return f"-r {shlex.quote(str(files[0]))}", f"-r {shlex.quote(str(files[1]))}"
    ours = _find("interformer-rec", sys.path)
    extra = re.compile(rf"(.+?)\s*;.*extra == ['\"]{kind}['\"]")
    lines = [match.group(1) for line in (ours.requires if ours else None) or () if (match := extra.match(line))]
    names = [shlex.quote(line) for line in lines if not line.startswith("torchrec")]
    return " ".join(names), f"torchrec=={PAIRINGS[0].torchrec}"


def _missing(found: Installed) -> list[str]:
    """Problems: distributions that are not there at all."""
    problems = []
    if found.torch is None:
        problems.append("PyTorch is not installed.")
    if found.torchrec is None:
        problems.append("TorchRec is not installed.")
    if found.fbgemm_cpu is None and found.fbgemm_cuda is None:
        problems.append(f"FBGEMM is not installed: {CPU} for a machine without a GPU, {CUDA} for one with.")
    if found.missing_needs:
        problems.append(f"TorchRec {found.torchrec} needs {', '.join(found.missing_needs)}: not installed.")
    return problems


def _overlaid(found: Installed) -> list[str]:
    """Problems: two FBGEMM builds in one folder, or one of which files were taken away or replaced."""
    counts = "; ".join(
        f"{bad} of the {total} files of {name} are missing or not its own"
        for name, (bad, total) in found.fbgemm_files.items()
        if bad
    )
    if found.fbgemm_cpu and found.fbgemm_cuda:
        both = f"{CPU} {found.fbgemm_cpu} and {CUDA} {found.fbgemm_cuda} are installed over each other, in one folder"
        return [f"{both}{': ' + counts if counts else ''}. `pip install torchrec` without --no-deps does this."]
    return [f"FBGEMM is damaged: {counts}. Another FBGEMM build was installed over it or removed."] if counts else []


def _pairing(found: Installed) -> tuple[list[str], list[str]]:
    """Problems and remarks about the three versions, all of them present."""
    fbgemm = found.fbgemm_cuda or found.fbgemm_cpu
    assert found.torch and found.torchrec and fbgemm
    have = f"torch {found.torch}, torchrec {found.torchrec} and {CUDA if found.fbgemm_cuda else CPU} {fbgemm}"
    ours = PAIRINGS[0]
    row = _row(found.torch)
    if row is None:
        newest = max((row.torch for row in PAIRINGS), key=_minor)
        age = "newer" if _minor(found.torch) > _minor(newest) else "older"
        return [
            f"{have}: this torch is {age} than every pairing known to fit. InterFormer is built and tested with torch "
            f"{ours.torch}, torchrec {ours.torchrec} and FBGEMM {ours.fbgemm}."
        ], []
    wrong = [
        f"{name} {wanted} and not {version}"
        for name, wanted, version in (("torchrec", row.torchrec, found.torchrec), ("FBGEMM", row.fbgemm, fbgemm))
        if _minor(wanted) != _minor(version)
    ]
    if wrong:
        return [f"{have} do not fit together: torch {_text(found.torch)} needs {' and '.join(wrong)}."], []
    if found.fbgemm_cuda and found.torch_cuda is None:
        kind = variant(found)
        other = "cpu" if kind == "cuda" else "cuda"
        return [
            f"{have}: this FBGEMM is a CUDA build and needs a CUDA build of torch; this torch is a CPU build. This machine has "
            f"{'an' if found.gpu else 'no'} NVIDIA driver, so the cure below installs the {kind} set; for an environment that is "
            f"meant for {'the CPU' if kind == 'cuda' else 'GPU hosts'} take {other}.txt instead of {kind}.txt in it."
        ], []
    remarks = []
    if row is not ours:
        remarks.append(f"{have} fit together, but InterFormer is tested with torch {ours.torch} only.")
    if found.fbgemm_cpu and found.gpu:
        remarks.append(f"{CPU} has no GPU kernels: training runs on the CPU of this machine, which has a GPU.")
    return [], remarks


def _row(torch: str | None) -> Pairing | None:
    """The releases that fit a torch; None: there are none known, or no torch."""
    return next((row for row in PAIRINGS if torch and _minor(row.torch) == _minor(torch)), None)


def _minor(version: str) -> tuple[int, int]:
    """The first two numbers: '2.13.0+cpu' -> (2, 13). (-1, -1) if there are none, which fits nothing."""
    match = re.match(r"(\d+)\.(\d+)", version)
    return (int(match.group(1)), int(match.group(2))) if match else (-1, -1)


def _text(version: str) -> str:
    return ".".join(str(part) for part in _minor(version))


def _find(name: str, where: list[str]) -> metadata.Distribution | None:
    """The distribution that Python would use: the first on the path; None if there is none or its metadata is gone."""
    found = next(iter(metadata.distributions(name=name, path=where)), None)
    # An interrupted uninstall leaves an empty dist-info folder: no name, no version, not installed. read_text rather
    # than .metadata: the importlib_metadata backport, where something has imported it, raises for a missing file.
    return found if found is not None and found.read_text("METADATA") else None


def _cuda_of(torch: metadata.Distribution) -> str | None:
    """The CUDA release in torch/version.py, read as text; None for a CPU build."""
    try:
        source = Path(str(torch.locate_file("torch/version.py"))).read_text(encoding="utf-8")
    except OSError:
        # Metadata without the package: the local version is all there is to go by.
        match = re.search(r"\+cu(\d+)", torch.version)
        return match.group(1) if match else None
    match = re.search(r"^cuda\s*(?::[^=]*)?=\s*['\"](.+?)['\"]", source, re.MULTILINE)
    return match.group(1) if match else None


def _foreign_files(found: metadata.Distribution) -> tuple[int, int]:
    """How many recorded files are missing or have another size than recorded, and how many sizes were recorded.

    RECORD is parsed here because Distribution.files leaves out missing files from Python 3.12 on.
    """
    bad = total = 0
    for name, _, size in csv.reader((found.read_text("RECORD") or "").splitlines()):
        if not size:
            continue
        total += 1
        try:
            bad += os.stat(str(found.locate_file(name))).st_size != int(size)
        except OSError:
            bad += 1
    return bad, total


def _unmet(torchrec: metadata.Distribution, where: list[str]) -> tuple[str, ...]:
    """Requirements of TorchRec, other than FBGEMM, which are missing or of another version than it pins."""
    unmet = []
    for line in torchrec.requires or ():
        match = re.match(r"([A-Za-z0-9._-]+)\s*(?:==\s*([^\s;,]+))?", line)
        if match is None or "extra ==" in line or match.group(1).replace("_", "-") == CUDA:
            continue
        found = _find(match.group(1), where)
        if found is None or (match.group(2) and match.group(2) != found.version):
            unmet.append(match.group(0) if found is None else f"{match.group(0)} (found {found.version})")
    return tuple(unmet)
