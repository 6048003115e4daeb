"""A guess at every column's role. In: the Profile of a folder; out: a Draft that `inspect` writes as YAML for a
person to correct.

Order of the decisions: label and other feedback; columns that cannot or should not be features; sequence groups and
bags; dense and ids; tables that columns share."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from interformer_rec.data import column_names as names
from interformer_rec.data.profile import Column, Profile

SHORT_LIST = 5  # lists never longer than this are a bag unless the name says history
SMALL = 64  # an integer with fewer distinct values is an id, whatever its name
EPOCHS = ((5e8, 5e9), (5e11, 5e12), (5e14, 5e15), (5e17, 5e18))  # seconds, ms, us, ns since 1970: years 1985 to 2128
MOST_EVENTS = 200


@dataclass
class Group:
    """A sequence group: short name -> column."""

    name: str
    columns: dict[str, Column]
    timestamp: Column | None
    max_length: int
    notes: list[str]


@dataclass
class Draft:
    """Roles of all columns. `left_out` says why a column is no feature; `warnings` are for the top of the file."""

    label: Column | None = None
    other_labels: list[Column] = field(default_factory=list)
    group_key: Column | None = None
    ids: list[Column] = field(default_factory=list)
    bags: list[Column] = field(default_factory=list)
    dense: list[Column] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    tables: dict[str, str] = field(default_factory=dict)  # id column -> table
    left_out: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def draft(profile: Profile) -> Draft:
    """Guess the role of every column."""
    result = Draft()
    rest = list(profile.columns.values())
    _take_labels(result, rest)
    open_columns = [column for column in rest if column.name not in result.left_out and column is not result.label]
    _take_user(result, open_columns)
    lists: list[Column] = []
    for column in open_columns:
        reason = _unusable(column, result.group_key)
        if reason:
            result.left_out[column.name] = reason
        elif column.is_list:
            lists.append(column)
        elif column.kind in ("float", "bool") or _is_amount(column):
            result.dense.append(column)
        else:
            result.ids.append(column)
    _take_lists(result, lists)
    _share_tables(result)
    return result


def _take_labels(result: Draft, columns: list[Column]) -> None:
    """The most label-like 0/1 column is the label; other feedback is left out, because it would leak."""
    flags = [c for c in columns if not c.is_list and _is_flag(c) and names.feedback_rank(c.name) is not None]
    flags.sort(key=lambda column: (names.feedback_rank(column.name), columns.index(column)))
    if flags:
        result.label, result.other_labels = flags[0], flags[1:]
        for column in flags[1:]:
            result.left_out[column.name] = "0/1 feedback: another label; as an input it would leak the outcome"
    for column in columns:
        if not column.is_list and column not in flags and names.is_outcome(column.name):
            result.left_out[column.name] = "by its name known only after the impression: would leak the outcome"


def _is_flag(column: Column) -> bool:
    return column.kind in ("int", "bool", "float") and column.distinct == 2 and (column.low, column.high) == (0, 1)


def _take_user(result: Draft, columns: list[Column]) -> None:
    keys = [c for c in columns if not c.is_list and c.kind in ("int", "string") and names.user_rank(c.name) is not None]
    result.group_key = min(keys, key=lambda column: names.user_rank(column.name) or 0, default=None)


def _unusable(column: Column, group_key: Column | None) -> str | None:
    """Why a column is no feature, or None."""
    sampled = column.rows - column.nulls
    if column.kind == "other":
        return f"type {column.type} is no feature kind"
    if column.distinct == 0:
        return "no value in the sample"
    if column.is_list:
        return (
            f"{column.type}: elements must be ids (integers or strings)" if column.kind in ("float", "bool") else None
        )
    if column.distinct == 1 and not column.nulls:
        return "the same value in every row"
    if column.kind == "time" or _is_epoch(column) or _is_calendar(column):
        return "time of the row: not a feature (later rows have values training never saw)"
    if column.not_finite:
        return f"{column.not_finite:,} NaN or infinite values in the sample; write nulls instead, then give it a fill"
    if column.kind == "float" and column.whole and names.words(column.name)[-1:] == ("id",):
        return "an id stored as a float; write it as an integer or a string"
    if (
        column is not group_key
        and sampled > 1000
        and column.kind != "float"
        and column.distinct > 0.98 * sampled
        and not _is_amount(column)
    ):
        return "another value in nearly every row: a row key?"
    return None


def _is_epoch(column: Column) -> bool:
    """Integers that are times since 1970."""
    in_range = any(low <= column.low and column.high < high for low, high in EPOCHS)
    named = bool(set(names.words(column.name)) & names.TIME)
    return column.kind in ("int", "time") and in_range and (named or column.rising or column.falling)


def _is_calendar(column: Column) -> bool:
    """2024-05-01, 20240501 and the like under a name of time."""
    if not set(names.words(column.name)) & names.TIME or column.values is None:
        return False
    if column.kind == "int":
        return bool(column.low >= 19_850_101 and column.high <= 21_281_231)
    return column.kind == "string" and pc.all(pc.match_substring_regex(column.values, r"^\d{4}-?\d\d-?\d\d")).as_py()


def _is_amount(column: Column) -> bool:
    return column.kind == "int" and column.distinct > SMALL and bool(set(names.words(column.name)) & names.NUMERIC)


def _take_lists(result: Draft, lists: list[Column]) -> None:
    """Lists of equal lengths are one group; a single or short list is a bag unless it looks like a history."""
    aligned: dict[tuple[str, ...], list[Column]] = {}
    for column in lists:
        constant = column.length(0) == column.length(100)  # padded lists are all equally long: then only names can tell
        prefix = names.words(column.name)[:1] if constant else ()
        aligned.setdefault((column.digest, *prefix), []).append(column)
    scalars = {names.stem(column.name) for column in result.ids}
    for columns in aligned.values():
        prefix = names.common_words([column.name for column in columns])
        longest = max(column.length(100) for column in columns)
        says_history = any(set(names.words(column.name)) & names.HISTORY for column in columns)
        shares = any(_partner(names.stem(column.name), scalars) for column in columns)
        if says_history or (longest > SHORT_LIST and (len(columns) > 1 or shares)):
            _add_group(result, columns, prefix)
        else:
            result.bags += columns
    if not result.groups and result.bags:
        most = max(result.bags, key=lambda column: column.length(95))
        result.bags.remove(most)
        _add_group(result, [most], ())
        result.warnings.append(
            f"No list column looks like a history; {most.name} was taken as one because the model needs at least one."
        )


def _add_group(result: Draft, columns: list[Column], prefix: tuple[str, ...]) -> None:
    notes = []
    times = [
        c
        for c in columns
        if _is_epoch(c) or (c.kind in ("int", "time") and names.words(c.name)[-1] in names.EVENT_TIME)
    ]
    timestamp = next((column for column in times if column.rising), None)
    if any(column.falling and not column.rising for column in times):
        notes.append("NEWEST EVENT FIRST by its times: reverse the lists before training, oldest must come first")
    elif any(not column.rising for column in times):
        notes.append("times that go up and down: sort the events by time before training, oldest first")
    elif not times:
        notes.append("no times: make sure that the oldest event comes first")
    for column in times:
        if column is not timestamp:
            result.left_out[column.name] = "times of events, not usable as the group's timestamp"
    events = {}
    for column in columns:
        parts = names.words(column.name)
        if column in times:
            continue
        if column.kind == "time" or (column.kind == "int" and column.distinct > SMALL and parts[-1] in names.AMOUNTS):
            result.left_out[column.name] = "a number per event: event fields are ids; cut it into bins to use it"
            continue
        events["_".join(parts[len(prefix) :]) or column.name] = column
    if not events:
        result.left_out.update({column.name: "a sequence group of times alone" for column in columns})
        return
    first = columns[0]
    if first.length(0) == first.length(100) > 1:
        notes.append(
            f"every list has {first.length(100)} elements: if padded, the padding counts as events; cut it off"
        )
    used = min(-(-first.length(95) // 10) * 10, max(first.length(100), 1), MOST_EVENTS)
    name = "_".join(prefix) or (columns[0].name if len(columns) == 1 else "history")
    taken = {group.name for group in result.groups} | {
        column.name for column in (*result.ids, *result.dense, *result.bags)
    }
    while name in taken:
        name += "_events"
    result.groups.append(Group(name, events, timestamp, max(used, 1), notes))


def _share_tables(result: Draft) -> None:
    """A table a feature, but one table for columns that hold the same ids: by name, if the values agree."""
    for column in result.ids:
        result.tables[column.name] = column.name
    bags_and_events = [*result.bags, *(column for group in result.groups for column in group.columns.values())]
    for column in bags_and_events:
        owners = [owner for owner in (*result.ids, *result.bags, *bags_and_events) if owner.name in result.tables]
        fitting = [owner for owner in owners if owner.kind == column.kind and result.tables[owner.name] == owner.name]
        named = [
            owner
            for owner in fitting
            if _partner(names.stem(column.name), {names.stem(owner.name)}) and _overlap(column, owner) > 0.02
        ]
        if not named:
            named = [owner for owner in fitting if _same_ids(column, owner)]
        best = max(named, key=lambda owner: (len(names.stem(owner.name)), _overlap(column, owner)), default=column)
        result.tables[column.name] = best.name


def _partner(stem: tuple[str, ...], owners: set[tuple[str, ...]]) -> bool:
    """Whether a stem ends with an owner's: (watch, video) with (video,)."""
    return any(owner and stem[-len(owner) :] == owner for owner in owners)


def _overlap(column: Column, owner: Column) -> float:
    """Share of the column's distinct values that the owner has."""
    if column.values is None or owner.values is None:
        return 0.0
    theirs = (
        owner.values.cast(column.values.type, safe=False) if owner.values.type != column.values.type else owner.values
    )
    return float(np.mean(pc.is_in(column.values, value_set=theirs).to_numpy(zero_copy_only=False)))


def _same_ids(column: Column, owner: Column) -> bool:
    """Values alone prove it only for many strings, or for integers spread far wider than their number."""
    many = min(column.distinct, owner.distinct) >= 50
    spread = column.kind == "string" or column.high - column.low > 100 * column.distinct
    return many and spread and _overlap(column, owner) > 0.9


def repeats_candidate(group: Group, draft_: Draft) -> tuple[str, float] | None:
    """(event column, share of the rows whose newest event is the candidate), of a column that shares a table."""
    for column in group.columns.values():
        owner = next((one for one in draft_.ids if one.name == draft_.tables[column.name]), None)
        if owner is not None and owner.distinct > SMALL:
            newest, shown = column.sample(), owner.sample()
            same = pc.equal(newest.cast(shown.type), shown) if newest.type != shown.type else pc.equal(newest, shown)
            share = pc.mean(same.cast(pa.int8())).as_py()
            return column.name, share or 0.0
    return None
