"""Do the held-out files suit a draft? In: their paths, the training files, the draft; out: their rows, and why one cannot be read."""

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow.compute as pc

from interformer_rec.data.decode.kinds import value_kind
from interformer_rec.data.files.source import Source, open_source
from interformer_rec.data.inspect.draft import Draft
from interformer_rec.data.inspect.profile import SAMPLE_ROWS, column_batches
from interformer_rec.errors import InputError


@dataclass(frozen=True)
class Split:
    """Files of valid or test. `problem`: what its reader has to decide before it can be used, or empty."""

    rows: int
    problem: str = ""
    one_class: bool = False  # every label is the same: no AUC


def held_out(
    paths: dict[str, str], train: Source, guess: Draft, opened: Callable[[str], Source] = open_source
) -> dict[str, Split]:
    """valid and test, where there are files of those names; `opened` reads them as `train` was read."""
    return {name: _split(paths[name], train, guess, opened) for name in ("valid", "test") if name in paths}


def _split(path: str, train: Source, guess: Draft, opened: Callable[[str], Source]) -> Split:
    try:
        source = opened(path)
    except InputError as error:
        return Split(0, _sentence(error))
    try:
        for name in used_columns(guess):
            here, there = source.require([name])[0].type, train.require([name])[0].type
            if value_kind(here) != value_kind(there):
                raise InputError(f"column {name!r} is {here} there, but {there} in the training files")
        return Split(source.rows, one_class=guess.label is not None and _one_value(source, guess.label.name))
    except InputError as error:
        return Split(source.rows, _sentence(error))


def used_columns(guess: Draft) -> list[str]:
    """Columns that the drafted config reads."""
    columns = [*guess.ids, *guess.bags, *guess.dense]
    for group in guess.groups:
        columns += group.columns.values()
    columns += [one for one in (guess.label, guess.group_key) if one]
    return list(dict.fromkeys(column.name for column in columns))


def _one_value(source: Source, name: str) -> bool:
    """Whether the column's first values, a sample's number of them, are one and the same."""
    seen, rows = set(), 0
    for values in column_batches(source, name):
        seen |= set(pc.unique(values.drop_null()).to_pylist())
        rows += len(values)
        if len(seen) > 1 or rows > SAMPLE_ROWS:
            break
    return len(seen) < 2


def _sentence(error: InputError) -> str:
    return " ".join(str(error).split(". Its columns: ")[0].split())
