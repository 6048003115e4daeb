"""What of a trained model means the same in another one. In: both configs, vocabularies and shapes; out: which row and which part of a
weight comes from where, and what has no counterpart.

Ids are matched by value, not by row: vocabularies may be sorted otherwise or have free rows. Weights are matched by model/slices.py.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from interformer_rec.checkpoint.warm import Copied, CopiedRows
from interformer_rec.config.features import FeatureSchema
from interformer_rec.data.fit import Fitted
from interformer_rec.model.slices import Axis, Slices


@dataclass(frozen=True)
class TableMatch:
    """What becomes of one table. `rows`: None where nothing of it is kept. `reason`: why a table of both starts fresh."""

    name: str
    rows: CopiedRows | None
    kept: int = 0
    new: int = 0
    dropped: int = 0
    reason: str = ""


@dataclass(frozen=True)
class WeightMatch:
    """What becomes of one dense weight, in numbers. `part`: None where it starts fresh. `reason`: why, though nothing new needs it."""

    name: str
    part: Copied | None
    kept: int = 0
    new: int = 0
    dropped: int = 0
    reason: str = ""


def match_tables(
    before: Fitted, now: Fitted, shapes: Mapping[str, Sequence[int]], dims: Mapping[str, int], states: bool
) -> list[TableMatch]:
    """Every table of either run. `shapes`: rows and floats of those there; `dims`: floats a row here."""
    assert before.meaning is not None and now.meaning is not None
    found = []
    for name in now.meaning.features.tables:
        rows = now.table_rows[name]
        if name not in shapes:
            found.append(TableMatch(name, None, new=rows))
            continue
        reason = _unlike(name, before, now, shapes[name][1], dims[name])
        if reason:
            found.append(TableMatch(name, None, new=rows, dropped=shapes[name][0], reason=reason))
            continue
        if name in now.vocabularies:
            there = _rows(name, before, now)
            kept, source = int((there >= 0).sum()), CopiedRows(there, states=states)
        else:  # hashes of one size, or ids that are rows already
            kept = min(before.table_rows[name], rows)
            source = CopiedRows(None, kept, states)
        found.append(TableMatch(name, source, kept, _used(now, name) - kept, _used(before, name) - kept))
    gone = [name for name in shapes if name not in now.meaning.features.tables]
    return found + [TableMatch(name, None, dropped=shapes[name][0]) for name in gone]


def _used(fitted: Fitted, table: str) -> int:
    """Rows that are not free."""
    vocabulary = fitted.vocabularies.get(table)
    return fitted.table_rows[table] - (vocabulary.null_count if vocabulary is not None else 0)


def _unlike(name: str, before: Fitted, now: Fitted, dim_there: int, dim_here: int) -> str:
    """Why rows of one run say nothing in the other, or ""."""
    assert before.meaning is not None and now.meaning is not None
    there, here = before.meaning.features.tables[name], now.meaning.features.tables[name]
    if dim_there != dim_here:
        return f"its rows have {dim_there} floats there and {dim_here} here"
    if there.ids != here.ids:
        return f"it has ids: {there.ids} there and ids: {here.ids} here"
    if there.ids == "hash" and there.num_embeddings != here.num_embeddings:
        return f"it has num_embeddings {there.num_embeddings} there and {here.num_embeddings} here, so ids have other hashes"
    kinds = [_kinds(name, fitted) for fitted in (before, now)]
    if kinds[0] and kinds[1] and not kinds[0] & kinds[1]:
        return f"its ids are {' and '.join(sorted(kinds[0]))} there and {' and '.join(sorted(kinds[1]))} here"
    return ""


def _kinds(table: str, fitted: Fitted) -> set[str]:
    """Of the columns that are read through a table."""
    assert fitted.meaning is not None
    features, kinds = fitted.meaning.features, fitted.meaning.kinds
    columns = {one.column for one in (*features.ids, *features.bags) if one.table == table}
    columns |= {one.column for group in features.sequences for one in group.columns if one.table == table}
    return {kinds[column] for column in columns if column in kinds} - {"null"}


def _rows(name: str, before: Fitted, now: Fitted) -> np.ndarray:
    """(rows,) of each row of a vocabulary here its row there, or -1."""
    old, new = before.vocabularies[name], now.vocabularies[name]
    special = now.table_rows[name] - len(new)
    if old.type != new.type:  # integers of other widths, strings in another layout
        shared = pa.string() if pa.types.is_string(old.type) or pa.types.is_large_string(old.type) else None
        shared = shared or (old.type if old.type.bit_width > new.type.bit_width else new.type)
        old, new = old.cast(shared), new.cast(shared)
    place = pc.index_in(new, value_set=old, skip_nulls=True)
    found = pc.fill_null(place, -1 - special).to_numpy(zero_copy_only=False).astype(np.int64) + special
    return np.concatenate([np.arange(special), found])


def match_weights(
    before: Mapping[str, Slices],
    now: Mapping[str, Slices],
    shapes_there: Mapping[str, Sequence[int]],
    shapes_here: Mapping[str, Sequence[int]],
) -> list[WeightMatch]:
    """Every weight of the model here, and those of the one there that have no place here. Names are those of `Slices`."""
    names = {slices.key: name for name, slices in before.items()}
    owners = {slices.owner for slices in before.values()} | {""}
    found = []
    for name, slices in now.items():
        shape, size = shapes_here[name], int(np.prod(shapes_here[name]))
        other = names.pop(slices.key, None)
        if other is None:
            reason = "there is no such weight there" if slices.owner in owners else ""
            found.append(WeightMatch(name, None, new=size, reason=reason))
            continue
        size_there = int(np.prod(shapes_there[other]))
        part = _part(other, before[other].axes, slices.axes, shapes_there[other], shape)
        if part is None:
            reason = f"its shape is {list(shapes_there[other])} there and {list(shape)} here"
            found.append(WeightMatch(name, None, new=size, dropped=size_there, reason=reason))
            continue
        kept = int(np.prod([n if cut is None else len(cut[0]) for n, cut in zip(shape, part.places, strict=True)]))
        found.append(WeightMatch(name, part, kept, size - kept, size_there - kept))
    return found + [WeightMatch(other, None, dropped=int(np.prod(shapes_there[other]))) for other in names.values()]


def _part(
    name: str,
    before: Sequence[Axis | None],
    now: Sequence[Axis | None],
    there: Sequence[int],
    here: Sequence[int],
) -> Copied | None:
    """Which places of a weight mean the same; None where its shapes do not fit each other."""
    if len(there) != len(here):
        return None
    places: list[tuple[np.ndarray, np.ndarray] | None] = []
    zeroed = []
    for axis, (old, new, size_there, size_here) in enumerate(zip(before, now, there, here, strict=True)):
        if old is None or new is None:
            if old is not new or size_there != size_here:
                return None
            places.append(None)
            continue
        width = size_here // len(new.labels)
        if width != size_there // len(old.labels):
            return None
        at = {label: place for place, label in enumerate(old.labels)}
        known = [place for place, label in enumerate(new.labels) if label in at]
        places.append((_spread(known, width), _spread([at[new.labels[place]] for place in known], width)))
        fresh = [place for place, label in enumerate(new.labels) if label not in at]
        if new.reads and fresh:
            zeroed.append((axis, _spread(fresh, width)))
    return Copied(name, tuple(places), tuple(zeroed))


def _spread(places: Iterable[int], width: int) -> np.ndarray:
    """Places of labels -> places of their entries."""
    first = np.fromiter(places, np.int64)[:, None] * width
    return (first + np.arange(width)).reshape(-1)


def not_silent(before: FeatureSchema, now: FeatureSchema, merge: str) -> list[str]:
    """What is new and changes logits from the first step on, a sentence each."""
    if merge == "separate":
        return []
    names = {group.name for group in before.sequences}
    return [
        f"history {group.name!r} is new and changes logits at once: with model.sequence.merge {merge} its events stand in one "
        "sequence with those of the others"
        for group in now.sequences
        if group.name not in names
    ]
