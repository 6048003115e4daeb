"""What is permuted: features, groups of them, histories, their fields and their events by age. In: the schema; out: Targets."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from interformer_rec.config.errors import nearest
from interformer_rec.config.features import FeatureSchema
from interformer_rec.data.decode.columns import Columns
from interformer_rec.errors import InputError
from interformer_rec.explaining.changes import Changes, ages_of

Change = Callable[[Columns, np.random.Generator], Columns]
AGE_GROWTH = 4  # 1, 2-4, 5-16, 17-64, ...: ages matter by their ratio
CANDIDATE, OTHERS, HISTORIES = "candidate", "user and context", "histories"


@dataclass(frozen=True)
class Target:
    """One change of the input, and where its importance belongs."""

    kind: str  # feature, group, history, field, age
    name: str
    change: Change
    about: dict[str, Any] = field(default_factory=dict)
    how: str = "permuted"  # or removed, which is not random


def require_impressions(features: FeatureSchema) -> None:
    """Raises InputError for rows that are requests: permuting one would move the candidates of another."""
    if features.request is not None:
        raise InputError(
            "explain permutes rows that are impressions, and features.request makes a row several candidates': train on impressions to "
            "explain a model"
        )


def groups_of(features: FeatureSchema, given: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Name -> features and histories. By default the candidate's, the others, and the histories, as the schema has them; `given`: others,
    as NAME=A,B. Raises InputError for a name that is not there."""
    single = [feature.name for feature in (*features.dense, *features.ids, *features.bags)]
    histories = tuple(group.name for group in features.sequences)
    found: dict[str, tuple[str, ...]] = {}
    if not given:
        others = tuple(name for name in single if name not in features.candidate)
        declared = {CANDIDATE: features.candidate, OTHERS: others, HISTORIES: histories}
        declared = {name: members for name, members in declared.items() if features.candidate or name == HISTORIES}
        return {name: members for name, members in declared.items() if len(members) > 1}
    known = [*single, *histories]
    for text in given:
        name, equals, listed = text.partition("=")
        members = [member.strip() for member in listed.split(",")]
        if not (name and equals and all(members)):
            raise InputError(f"--groups {text!r}: write NAME=FEATURE,FEATURE, for example --groups user=age,gender")
        for member in members:
            if member not in known:
                raise InputError(
                    f"--groups {text!r} names {member!r}, which is no feature or history of the run{nearest(member, known)}. It has "
                    f"{', '.join(known)}"
                )
        if name in found:
            raise InputError(f"--groups {name} is given twice: write all its features after one {name}=")
        found[name] = tuple(dict.fromkeys(members))
    return found


def targets_of(features: FeatureSchema, groups: dict[str, tuple[str, ...]], columns: Columns) -> list[Target]:
    """In the order in which they are shown. `columns`: the rows, for how old their events are."""
    changes = Changes(features)
    targets = []
    for kind, of_kind in (("dense", features.dense), ("id", features.ids), ("bag", features.bags)):
        for feature in of_kind:
            table = getattr(feature, "table", None)
            change = functools.partial(changes.permuted, (feature.name,))
            targets.append(Target("feature", feature.name, change, {"input": kind, "table": table}))
    for name, members in groups.items():
        change = functools.partial(changes.permuted, members)
        targets.append(Target("group", name, change, {"features": list(members)}))
    for group in features.sequences:
        targets.append(Target("history", group.name, functools.partial(changes.permuted, (group.name,))))
        for column in group.columns if len(group.columns) > 1 else ():
            change = functools.partial(changes.field_permuted, group.name, column.name)
            about = {"history": group.name, "field": column.name, "table": column.table}
            targets.append(Target("field", f"{group.name}.{column.name}", change, about))
        targets += _by_age(changes, group.name, ages_of(changes.of(columns, group)))
    return targets


def _by_age(changes: Changes, history: str, ages: np.ndarray) -> Iterator[Target]:
    """Two targets an age bucket in which there are events."""
    for bucket in age_buckets(int(ages.max(initial=0))):
        first, last = bucket
        name = f"{history} {first}" if first == last else f"{history} {first}-{last}"
        events = int(np.count_nonzero((ages >= first) & (ages <= last)))
        about = {"history": history, "ages": [first, last], "events": events}
        yield Target("age", name, functools.partial(changes.ages_permuted, history, bucket), about)
        removed = functools.partial(changes.ages_removed, history, bucket)
        yield Target("age", name, lambda columns, _, removed=removed: removed(columns), about, "removed")  # type: ignore[misc]


def age_buckets(oldest: int) -> list[tuple[int, int]]:
    """(first, last) age of each: 1, 2-4, 5-16, ..., the last one ending at `oldest`."""
    found, last = [], 0
    while last < oldest:
        first, last = last + 1, min(AGE_GROWTH * last or 1, oldest)
        found.append((first, last))
    return found
