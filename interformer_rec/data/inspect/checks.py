"""What the reader of a draft has to look at, most important first. In: the draft and what its files say of each other; out: sentences."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from interformer_rec.data.column_roles import SMALL
from interformer_rec.data.inspect.draft import Draft, Group, leave_ids_out
from interformer_rec.data.inspect.partition_splits import key_of
from interformer_rec.data.inspect.time_order import Older
from interformer_rec.data.inspect.unseen import Unseen
from interformer_rec.data.written_names import shown

MOSTLY = 0.5  # share of unseen ids from which an id is left out
OFTEN = 0.2  # and from which it is mentioned
OLD = 0.01  # share of held-out rows older than the newest training row that a split by time may have


def leave_unseen_out(guess: Draft, unseen: dict[str, Unseen]) -> None:
    """Ids that held-out rows mostly do not share with training are no features; the best of them stays if nothing else would."""
    mostly = {column.name: unseen[column.name] for column in guess.ids if column.name in unseen}
    mostly = {name: one for name, one in mostly.items() if one.share > MOSTLY}
    others = [column for column in guess.ids if column.name not in mostly] or guess.bags or guess.dense
    if mostly and not others and not guess.groups:
        del mostly[min(mostly, key=lambda name: mostly[name].share)]
    reasons = {
        name: f"{one.share:.0%} of the rows of {one.path} have one that no training row has: it would be memorised in training and "
        "mean nothing there. Where ids stay for a while after they have come, train over data.windows with tables that grow"
        for name, one in mostly.items()
    }
    if reasons:
        leave_ids_out(guess, reasons)


def checks(guess: Draft, valid: str | None, unseen: dict[str, Unseen], older: list[Older]) -> Iterator[str]:
    """What the reader has to look at, most important first."""
    if guess.label is not None:
        others = ", ".join(shown(column.name) for column in guess.other_labels)
        yield f"The label is {shown(guess.label.name)}" + (
            f"; also 0/1 feedback, not read: {others}." if others else "."
        )
        if guess.label.distinct == 1:
            yield f"Its value is {guess.label.low:.6g} in every row of the sample: there is nothing to learn, and no AUC."
        if guess.label.nulls or guess.label.not_finite:
            yield "It has nulls or NaN: such rows are left out (data.on_bad_row: skip)."
    if not guess.groups:
        yield "HISTORY MISSING: no list column of ids is read as one, so model.kind is dcnv2; InterFormer needs features.sequences."
    yield from guess.warnings
    for note in dict.fromkeys(note for group in guess.groups for note in group.notes):
        yield f"History {', '.join(shown(group.name) for group in guess.groups if note in group.notes)}: {note}."
    for group in guess.groups:
        repeats = _repeats_candidate(group, guess)
        if repeats is not None and repeats[1] > 0.5:
            name, share = shown(repeats[0]), repeats[1]
            yield f"LEAK? In {share:.0%} of the rows the newest event of {name} is the row's own id: is the row in it?"
    yield from _strangers(guess, unseen)
    yield from _older(older)
    if guess.left_out:
        yield "Columns left out stand below the features, each with the reason."
    if valid is None:
        yield "No file is named valid, val, dev or eval: without data.valid a run cannot stop early. Split by time."
    elif key := key_of(valid):
        yield f"Split by {shown(key)}: the newest rows are for test, those before them for valid."
    yield "Is every feature known before the moment of prediction? Counters and averages often are not."


def _strangers(guess: Draft, unseen: dict[str, Unseen]) -> Iterator[str]:
    """Ids without a trained row: those that were left out, and those that are read all the same."""
    gone = [name for name in unseen if name in guess.left_out]
    if gone:
        most = max(gone, key=lambda name: unseen[name].share)
        listed = ", ".join(shown(name) for name in gone)
        yield (
            f"NEW IDS: left out {listed}: up to {unseen[most].share:.0%} of the rows of {shown(unseen[most].path)} have one that no "
            "training row has."
        )
    for name, one in unseen.items():
        if name not in gone and one.share > OFTEN and name in guess.tables:
            what = "rows" if any(column.name == name for column in guess.ids) else "listed ids"
            yield (
                f"NEW IDS: {one.share:.0%} of the {what} of {shown(one.path)} have a {shown(name)} that no training row has: see whether "
                "the model is better without it."
            )


def _older(older: list[Older]) -> Iterator[str]:
    for one in older:
        if one.share > OLD:
            yield (
                f"TIME: {one.share:.0%} of the rows of {shown(one.path)} are older than the newest training row, by {shown(one.column)}: "
                "a model that has seen the future looks better than it is. Split by time."
            )


def _repeats_candidate(group: Group, guess: Draft) -> tuple[str, float] | None:
    """(event column, share of the rows whose newest event is the candidate), of a column that shares a table."""
    for column in group.columns.values():
        owner = next((one for one in guess.ids if one.name == guess.tables[column.name]), None)
        if owner is not None and owner.distinct > SMALL:
            newest, shown = column.sample(), owner.sample()
            same = (
                pc.equal(newest.cast(shown.type, safe=False), shown)
                if newest.type != shown.type
                else pc.equal(newest, shown)
            )
            share = pc.mean(same.cast(pa.int8())).as_py()
            return column.name, share or 0.0
    return None
