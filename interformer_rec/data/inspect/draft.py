"""A guess at every column's role. In: the Profile of a folder; out: a Draft that `inspect` writes as YAML for a
person to correct.

Order of the decisions: label and other feedback; columns that cannot or should not be features; sequence groups and
bags; dense and ids; tables that columns share."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow.compute as pc

from interformer_rec.data.column_roles import (
    SMALL,
    is_amount,
    is_epoch,
    is_flag,
    is_share,
    is_timestamp,
    number_by_values,
    unusable,
    values,
)
from interformer_rec.data.inspect import column_names as names
from interformer_rec.data.inspect.profile import Column, Profile
from interformer_rec.data.inspect.signal import LEAK, Outcome
from interformer_rec.data.written_names import free, shown

SHORT_LIST = 5  # lists never longer than this are a bag unless the name says history
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
    request: tuple[str, ...] = ()  # columns that are lists of candidates; () where rows are impressions
    structs: str | None = None  # the list of structs whose fields those columns are; None: they are lists of their own
    other_labels: list[Column] = field(default_factory=list)
    group_key: Column | None = None
    ids: list[Column] = field(default_factory=list)
    bags: list[Column] = field(default_factory=list)
    dense: list[Column] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    tables: dict[str, str] = field(default_factory=dict)  # id column -> table
    left_out: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)  # column -> why it has its role, where that is not plain
    warnings: list[str] = field(default_factory=list)
    # without a label: columns that could become one, and what they hold
    candidates: dict[str, str] = field(default_factory=dict)


def draft(profile: Profile) -> Draft:
    """Guess the role of every column."""
    result = Draft(left_out=dict(profile.unread))
    rest = list(profile.columns.values())
    _take_labels(result, rest)
    open_columns = [column for column in rest if column.name not in result.left_out and column is not result.label]
    _take_user(result, open_columns)
    outcome = Outcome.of(result.label)
    lists: list[Column] = []
    for column in open_columns:
        reason = unusable(column, result.group_key) or _leak(result, column, outcome)
        if reason:
            result.left_out[column.name] = reason
        elif column.is_list:
            lists.append(column)
        elif column.kind in ("float", "bool") or is_amount(column):
            result.dense.append(column)
        else:
            result.ids.append(column)
    _take_counts(result, lists, outcome)
    _take_lists(result, lists)
    _finish(result)
    return result


def leave_ids_out(result: Draft, reasons: dict[str, str]) -> None:
    """Take ids out of the features, each with the reason, and find the owners of the tables again."""
    result.ids = [column for column in result.ids if column.name not in reasons]
    result.left_out |= reasons
    _finish(result)


def _finish(result: Draft) -> None:
    """What follows from the roles."""
    if result.groups and not (result.ids or result.bags or result.dense):
        _histories_alone(result)
    result.tables.clear()
    _share_tables(result)


def _leak(result: Draft, column: Column, outcome: Outcome | None) -> str | None:
    """Why a column that knows the label is left out, with a warning; None for one that does not."""
    auc = outcome.auc(column) if outcome is not None else 0.5
    if auc <= LEAK:
        return None
    result.warnings.append(
        f"LEAK? {shown(column.name)} alone predicts the label with AUC {auc:.3f} in the sample; it is left out. If it is known before "
        "the impression, put it back."
    )
    return f"alone it predicts the label with AUC {auc:.3f} in the sample: known only after the impression?"


def _take_counts(result: Draft, lists: list[Column], outcome: Outcome | None) -> None:
    """Integers that are numbers by their values, unless a list holds ids of their name."""
    stems = [names.stem(column.name) for column in lists]
    for column in list(result.ids):
        own = names.stem(column.name)
        if column is result.group_key or any(_partner(stem, {own}) for stem in stems):
            continue
        reason = number_by_values(column, outcome.trend if outcome is not None else lambda _: False)
        if reason is not None:
            result.ids.remove(column)
            result.dense.append(column)
            result.notes[column.name] = f"{reason}; if it is a name of something, move it to ids"


def _histories_alone(result: Draft) -> None:
    """InterFormer needs a feature beside the histories: without one they are bags."""
    for group in result.groups:
        result.bags += group.columns.values()
        if group.timestamp is not None:
            result.left_out[group.timestamp.name] = "times of events, which bags do not have"
    listed = ", ".join(shown(column.name) for column in result.bags)
    result.warnings.append(
        f"Nothing but histories can be read, and InterFormer needs a feature beside them: {listed} are read as bags."
    )
    result.groups = []


def _take_labels(result: Draft, columns: list[Column]) -> None:
    """The most label-like 0/1 column is the label, else one in [0, 1]; other feedback is left out, because it would leak."""
    named = [column for column in columns if not column.is_list and names.feedback_rank(column.name) is not None]
    named.sort(key=lambda column: (names.feedback_rank(column.name), columns.index(column)))
    flags = [column for column in named if is_flag(column)]
    shares = [column for column in named if is_share(column) and names.is_feedback_alone(column.name)]
    if flags or shares:
        result.label, *result.other_labels = flags or shares[:1]
        for column in result.other_labels:
            result.left_out[column.name] = "0/1 feedback: another label; as an input it would leak the outcome"
    chosen = (result.label, *result.other_labels)
    for column in columns:
        if column.is_list or column in chosen:
            continue
        if names.is_outcome(column.name):
            result.left_out[column.name] = "by its name known only after the impression: would leak the outcome"
        elif column in named and names.is_feedback_alone(column.name):
            result.left_out[column.name] = f"by its name feedback, {values(column)}: no label in [0, 1], and no input"
    if result.label is None:
        asked = [column for column in columns if column.name in result.left_out and column.kind != "other"]
        asked = [column for column in asked if not column.is_list and column.distinct]
        asked += [column for column in columns if column not in asked and not column.is_list and is_share(column)]
        result.candidates = {column.name: values(column) for column in asked}


def _take_user(result: Draft, columns: list[Column]) -> None:
    keys = [c for c in columns if not c.is_list and c.kind in ("int", "string") and names.user_rank(c.name) is not None]
    result.group_key = min(keys, key=lambda column: names.user_rank(column.name) or 0, default=None)


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
            continue
        for column in columns:
            if is_timestamp(column):
                result.left_out[column.name] = "times without ids of events beside them: no lists are as long as these"
            else:
                result.bags.append(column)
    if not result.groups and result.bags:
        most = max(result.bags, key=lambda column: column.length(95))
        result.bags.remove(most)
        _add_group(result, [most], ())
        result.warnings.append(
            f"No list column looks like a history; {shown(most.name)} was taken as one because the model needs at least one."
        )


def _add_group(result: Draft, columns: list[Column], prefix: tuple[str, ...]) -> None:
    notes = []
    times = [column for column in columns if _is_time(column)]
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
    events: dict[str, Column] = {}
    for column in columns:
        parts = names.words(column.name)
        if column in times:
            continue
        if column.kind == "time" or (
            column.kind == "int" and column.distinct > SMALL and names.last_word(column.name) in names.AMOUNTS
        ):
            result.left_out[column.name] = "a number per event: event fields are ids; cut it into bins to use it"
            continue
        events[free("_".join(parts[len(prefix) :]) or column.name, events)] = column
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
    name = free(name if name not in taken else f"{name}_events", taken)
    result.groups.append(Group(name, events, timestamp, max(used, 1), notes))


def _is_time(column: Column) -> bool:
    named = column.kind == "int" and names.last_word(column.name) in names.EVENT_TIME
    return named or is_epoch(column) or is_timestamp(column)


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
