"""How the files of a version are made. In: the options of an export, or the version that a delta is to; out: forms, runtimes, rules."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import NamedTuple

from interformer_rec.config.run import RunConfig
from interformer_rec.errors import DamagedError, InputError
from interformer_rec.install import graphs
from interformer_rec.serving import artefact
from interformer_rec.serving.arguments import ExportOptions
from interformer_rec.serving.contents import RUNTIMES, Contents, Isa, Runtime
from interformer_rec.serving.published.pointer import CURRENT
from interformer_rec.serving.published.state import State
from interformer_rec.serving.rectangle import reads_of
from interformer_rec.serving.runtimes import refuse
from interformer_rec.serving.signature import KeyRules
from interformer_rec.serving.tables import Form
from interformer_rec.storage import Storage


@dataclass(frozen=True)
class How:
    """The files of a version."""

    tables: Form
    runtimes: tuple[Runtime, ...]  # that graphs are made for; the modules themselves need none
    isa: Isa  # of compiled graphs
    keys: KeyRules

    @classmethod
    def new(cls, options: ExportOptions, config: RunConfig) -> How:
        """Of a version that stands for itself. Raises InputError where a graph cannot be made here."""
        runtimes = _runtimes(options.runtime or "auto", config)
        keys = (options.absent or "refused", options.unknown or "refused")
        return cls(options.tables or "fp32", runtimes, _of_this_machine(options.isa or "x86-64-v3"), keys)

    @classmethod
    def of(cls, version: artefact.Version) -> How:
        """As a version has them."""
        contents, signature = version.contents, version.signature
        absent = signature.inputs[0].absent if signature.inputs else "refused"
        return cls(_form(contents), contents.runtimes, contents.isa or "native", (absent, signature.unknown))


class Before(NamedTuple):
    """What is there before an export."""

    state: State | None  # that a delta is to; None: there is to be a version
    how: How
    why: str | None  # there is to be a version
    version: artefact.Version | None  # the current one, on this machine and checked, whose graphs may be taken over


_opened: dict[str, State] = {}  # by place: a process that publishes again and again reads what is new


def before_version(out: str, how: How) -> Before:
    """Of an export that is no delta."""
    place = Storage.open(out)
    if place.local is None or place.size(CURRENT) is None or not how.runtimes:
        return Before(None, how, None, None)
    try:
        return Before(None, how, None, artefact.open(out, checksums="graphs/"))
    except InputError:  # it is replaced
        return Before(None, how, None, None)


def before_delta(out: str, options: ExportOptions, config: RunConfig) -> Before:
    """What a delta is to: the current state of `out`, how its files are made, and why there is to be a version instead.

    Raises InputError where an option asks for other files than the current version has.
    """
    if Storage.open(out).size(CURRENT) is None:
        return Before(None, How.new(options, config), "there is none yet", None)
    why, state = None, None
    try:
        state = _opened[out] = State.open(out, _opened.pop(out, None))
        version = state.version
    except DamagedError as error:
        why, version = f"the current state is not whole: {error}", artefact.open(out, checksums=False)
    how = How.of(version)
    for option, wanted, own in (
        ("--tables", options.tables, {how.tables}),
        ("--runtime", options.runtime, {*how.runtimes} or {"eager"}),
        ("--isa", options.isa, {version.contents.isa}),
        ("--absent", options.absent, {how.keys[0]}),
        ("--unknown", options.unknown, {how.keys[1]}),
    ):
        if wanted is not None and {wanted} != own:
            raise InputError(
                f"{option} {wanted}: version {version.name!r} has {', '.join(sorted(map(str, own)))}, and a delta to it has the same. "
                f"Leave {option} out, or export without --delta"
            )
    if state is None:
        return Before(None, how, why, None)
    delta, full_every = state.now.delta, options.full_every
    if full_every is not None and delta is not None and delta.sequence >= full_every - 1:
        why = f"{delta.sequence} deltas follow the one before (--full-every {full_every})"
    elif full_every == 1:
        why = "there are to be no deltas (--full-every 1)"
    return Before(state if why is None else None, how, why, version)


def _form(contents: Contents) -> Form:
    return next(iter(contents.tables.values())).form if contents.tables else "fp32"


def _of_this_machine(isa: Isa) -> Isa:
    """x86-64-v3 is of x86 alone: on another kind of processor its own instructions are compiled for."""
    return isa if platform.machine().lower() in ("x86_64", "amd64") else "native"


def _runtimes(runtime: str, config: RunConfig) -> tuple[Runtime, ...]:
    if runtime == "eager":
        return ()
    if runtime == "aoti" and graphs.compiler() is None:
        raise InputError(
            f"--runtime aoti needs a C++ compiler ({', '.join(graphs.COMPILERS)}), and none is on PATH: install one, or use onnx"
        )
    missing = graphs.missing_for_onnx()
    if runtime == "onnx" and missing:
        raise InputError(
            f"--runtime onnx needs the packages {', '.join(missing)}, which are not installed: pip install 'interformer-rec[serve]'"
        )
    refuse(reads_of(config.features, config.model), config.model.kind)
    chosen = graphs.automatic() if runtime == "auto" else (runtime,)
    return tuple(one for one in RUNTIMES if one in chosen)
