"""Which columns are the candidate's, and which are the request's. In: names of columns, the user's options; out: each column's side."""

import difflib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from interformer_rec.config.request import candidate_columns
from interformer_rec.config.run import load
from interformer_rec.data.grouping.arguments import AskedColumns
from interformer_rec.errors import InputError

NAMED = 40  # columns that a message lists


@dataclass(frozen=True)
class Key:
    """One of the columns that tell requests apart; `unit`: whole numbers are divided by it, rounding down."""

    column: str
    unit: int | None = None

    @property
    def text(self) -> str:
        """As the user wrote it."""
        return self.column if self.unit is None else f"{self.column}//{self.unit}"


@dataclass(frozen=True)
class Sides:
    """Names in the files' order; a column is in one of the three, or left out."""

    once: tuple[str, ...]  # the request's: one value in all its rows
    first: tuple[str, ...]  # the request's: its first row's value
    candidates: tuple[str, ...]

    @property
    def written(self) -> tuple[str, ...]:
        """All of them; the request's come first."""
        return (*self.once, *self.first, *self.candidates)


def keys(text: str, names: Sequence[str]) -> tuple[Key, ...]:
    """--by. Raises InputError for a column that is not there."""
    found = []
    for word in _words(text):
        column, slashes, unit = word.partition("//")
        if slashes and not re.fullmatch(r"[1-9][0-9]{0,17}", unit):
            raise InputError(f"--by {word}: behind // stands a whole number from 1 on, for example time_ms//60000")
        _known("--by", [column], names)
        found.append(Key(column, int(unit) if slashes else None))
    if not found:
        raise InputError("--by names no column; name those that tell requests apart, for example --by request_id")
    return tuple(found)


def sides(names: Sequence[str], by: Sequence[Key], asked: AskedColumns) -> Sides:
    """Whose each column is. Raises InputError: a name that is not there or is on two sides, no candidate's column, or one of --by."""
    chosen = {"--drop": _matching("--drop", asked.drop, names), "--first": _matching("--first", asked.first, names)}
    shown = candidates(names, asked)
    chosen["--candidates" if asked.candidates else "--config"] = shown
    sides_of: dict[str, str] = {}
    for option, found in chosen.items():
        for name in found:
            if name in sides_of:
                raise InputError(f"column {name!r} is in {sides_of[name]} and in {option}; it can be in one of them")
            sides_of[name] = option
    for key in by:
        if key.unit is None and key.column in shown:
            raise InputError(f"column {key.column!r} is in --by and is the candidates'; a request has one value of it")
    left = [name for name in names if name not in sides_of]
    return Sides(tuple(left), tuple(one for one in names if one in chosen["--first"]), shown)


def candidates(names: Sequence[str], asked: AskedColumns) -> tuple[str, ...]:
    """The candidates' columns by --candidates and --config, in the files' order. Raises InputError where there is none."""
    found = set(_matching("--candidates", asked.candidates, names))
    if asked.config is not None:
        features = load(asked.config).features
        if not features.candidate:
            raise InputError(
                f"config {asked.config!r} names no candidate: write features.candidate or features.request.candidates, or use --candidates"
            )
        labels = {label.column for label in features.labels} | {features.weight}
        columns = candidate_columns(features)
        _known(f"config {asked.config!r}:", sorted(columns - labels), names)  # rows to score have no labels
        found |= columns & set(names)
    if not found:
        raise InputError(
            "which columns are the candidates'? Name them, labels too: --candidates item_id,price,label, or --config CONFIG of a run that "
            f"has features.candidate. Columns: {_listed(names)}"
        )
    return tuple(name for name in names if name in found)


def structs(asked: AskedColumns) -> str | None:
    """The list of structs whose fields the candidates' columns are, by --config; None: they are lists of their own."""
    request = load(asked.config).features.request if asked.config is not None else None
    return request.column if request is not None else None


def _words(text: str) -> list[str]:
    return [word for word in (part.strip() for part in text.split(",")) if word]


def _matching(option: str, text: str, names: Sequence[str]) -> tuple[str, ...]:
    """The columns that names and patterns mean."""
    found: list[str] = []
    for word in _words(text):
        matched = [word] if word in names else [name for name in names if fnmatchcase(name, word)]
        if not matched:
            _known(option, [word], names)
        found += [name for name in matched if name not in found]
    return tuple(found)


def _known(option: str, wanted: Collection[str], names: Sequence[str]) -> None:
    for name in wanted:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
            meant = f"; did you mean {near[0]!r}?" if near else "."
            raise InputError(f"{option} {name}: the files have no such column{meant} Columns: {_listed(names)}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (f", ... ({len(names)})" if len(names) > NAMED else "")
