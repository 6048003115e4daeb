"""Ids that come and go, against dictionaries."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from interformer_rec.config.features import UNKNOWN_ROW
from interformer_rec.config.growth import Growth
from interformer_rec.data.decode.ids import VocabMap
from interformer_rec.data.growth import vocabulary as vocabulary_module
from interformer_rec.data.growth.saved import from_tables, to_tables
from interformer_rec.data.growth.vocabulary import FIRST, GrowingVocabulary, VocabularyChange
from interformer_rec.data.growth.waiting import Waiting
from interformer_rec.errors import InputError
from tests.data.growth.reference import Plain, column

RULES = (
    Growth(rows=12),
    Growth(rows=12, min_count=4, keep=2),
    Growth(rows=30, min_count=2, keep=1),
    Growth(rows=5, min_count=3, keep=3),
    Growth(rows=200, min_count=1, keep=4),
    Growth(rows=200),  # nobody waits, and nobody goes
)


def windows(seed: int, text: bool) -> list[dict]:
    """What each of 9 windows counts: ids drift, and the fifth window is empty."""
    random = np.random.default_rng(seed)
    found = []
    for window in range(9):
        drawn = random.zipf(1.4, 0 if window == 4 else 60) % 40 + 5 * window
        ids, times = np.unique(drawn, return_counts=True)
        order = random.permutation(len(ids))
        names = [f"é{id_}" if text else int(id_) - 7 for id_ in ids[order]]
        found.append(dict(zip(names, times[order].tolist(), strict=True)))
    return found


def grown(state: GrowingVocabulary, counted: dict, rule: Growth) -> tuple[GrowingVocabulary, VocabularyChange]:
    return state.grown(column(list(counted)), np.array(list(counted.values()), np.int64), rule, "item")


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_ids_come_and_go_as_in_plain_python(rule, text):
    state, plain = GrowingVocabulary.empty(rule.rows), Plain(rule)
    freed_for_room = left = 0
    for counted in windows(3, text):
        before = state.ids
        state, change = grown(state, counted, rule)
        admitted, freed = plain.grow(counted)
        assert dict(zip(change.ids.to_pylist(), (change.rows - FIRST).tolist(), strict=True)) == admitted
        assert list(admitted) == change.ids.to_pylist(), "the most frequent one gets the lowest free row"
        assert (change.freed - FIRST).tolist() == freed
        assert state.ids.to_pylist() == plain.ids() == change.applied(before).to_pylist()
        assert state.counts.tolist() == [plain.count.get(id_, 0) for id_ in plain.ids()]
        assert state.seen.tolist() == [plain.seen.get(id_, -1) for id_ in plain.ids()]
        waiting = {id_: count for id_, count in plain.count.items() if id_ not in plain.row}
        assert dict(zip(state.waiting.ids.to_pylist(), state.waiting.counts.tolist(), strict=True)) == waiting
        assert len(state.ids) == rule.rows
        freed_for_room, left = freed_for_room + change.for_room, left + change.left
    assert state.windows == 9
    if rule.rows < 20:
        assert freed_for_room + left > 0, "the small tables have to be short of room for this test to mean something"


@pytest.mark.parametrize("text", [False, True])
def test_the_change_over_several_windows_leads_to_the_same_vocabulary(text):
    state, rule = GrowingVocabulary.empty(14), Growth(rows=14, min_count=2, keep=2)
    kept = [state.ids]
    for counted in windows(11, text):
        state, change = grown(state, counted, rule)
        one = VocabularyChange.between(kept[-1], state.ids)
        assert set(change.freed) >= set(one.freed) and set(one.rows) <= set(change.rows)
        kept.append(state.ids)
    for before, after in ((0, 9), (2, 7), (4, 9), (6, 6)):
        change = VocabularyChange.between(kept[before], kept[after])
        assert change.applied(kept[before]).to_pylist() == kept[after].to_pylist()
        stay = set(kept[before].to_pylist()) & set(kept[after].to_pylist())
        assert before != after or (len(change.ids), len(change.freed)) == (0, 0)
        assert len(change.freed) >= 14 - kept[before].null_count - len(stay - {None})


@pytest.mark.parametrize("text", [False, True])
def test_lookups_find_the_row_of_every_id_and_the_unknown_row_for_the_rest(text):
    state, rule = GrowingVocabulary.empty(12), Growth(rows=12, keep=2)
    for counted in windows(5, text)[:4]:
        state, _ = grown(state, counted, rule)
        map_ = VocabMap("item", state.ids)
        everyone = [f"é{id_}" for id_ in range(120)] if text else list(range(-20, 120))
        row = {id_: at + FIRST for at, id_ in enumerate(state.ids.to_pylist()) if id_ is not None}
        expected = [row.get(id_, UNKNOWN_ROW) for id_ in everyone]
        assert len(row) > 3 and map_.type == np.uint8
        if text:
            assert map_.texts(everyone).tolist() == expected == [map_.row_of_text(id_) for id_ in everyone]
        else:
            assert map_.ints(np.array(everyone)).tolist() == expected == [map_.row_of_int(id_) for id_ in everyone]


def test_lookups_of_ids_far_apart_with_free_rows_between():
    ids = pa.array([None, 10**15, None, -(10**17), 3, None, 9 * 10**18], pa.int64())
    map_ = VocabMap("item", ids)
    asked = np.array([0, 3, 10**15, -(10**17), 9 * 10**18, 4, -1])
    assert map_.ints(asked).tolist() == [UNKNOWN_ROW, 6, 3, 5, 8, UNKNOWN_ROW, UNKNOWN_ROW]
    assert [map_.row_of_int(int(id_)) for id_ in asked] == map_.ints(asked).tolist()


def test_the_order_in_which_ids_were_counted_does_not_matter():
    rule, results = Growth(rows=8, min_count=2, keep=3), []
    for seed in range(3):
        state = GrowingVocabulary.empty(rule.rows)
        for counted in windows(1, text=False):
            order = np.random.default_rng(seed).permutation(len(counted))
            items = list(counted.items())
            state, change = grown(state, dict(items[at] for at in order), rule)
        waiting = sorted(zip(state.waiting.ids.to_pylist(), state.waiting.counts.tolist(), strict=True))
        results.append((state.ids.to_pylist(), change.freed.tolist(), waiting))
    assert results[0] == results[1] == results[2]


def test_what_waits_is_bounded_and_the_longest_unseen_and_rarest_are_forgotten(monkeypatch):
    monkeypatch.setattr(vocabulary_module, "LEAST_WAITING", 3)
    state, rule = GrowingVocabulary.empty(2), Growth(rows=2, min_count=10)
    state, _ = grown(state, {1: 9, 2: 5}, rule)
    state, _ = grown(state, {3: 1, 4: 7, 5: 1, 6: 1}, rule)
    assert sorted(state.waiting.ids.to_pylist()) == [3, 4, 5], (
        "those of this window before those of the last; of equals the lower"
    )
    state, change = grown(state, {1: 1, 4: 3}, rule)
    assert change.ids.to_pylist() == [4], "1 was forgotten, and is counted from 0 again"
    assert sorted(zip(state.waiting.ids.to_pylist(), state.waiting.counts.tolist(), strict=True))[0] == (1, 1)


def test_waiting_ids_of_strings_are_bounded_too():
    waiting = Waiting.none().with_counts(column(["b", "a", "c"]), np.array([1, 1, 2]), 0, "item")
    assert sorted(waiting.at_most(2).ids.to_pylist()) == ["a", "c"]
    assert waiting.at_most(3) is waiting


def test_a_window_of_another_kind_of_ids_is_refused():
    state, rule = GrowingVocabulary.empty(4), Growth(rows=4)
    state, _ = grown(state, {}, rule)
    state, _ = grown(state, {"a": 1}, rule)
    with pytest.raises(InputError, match=r"table 'item' has ids of type string, and this window has integer"):
        grown(state, {1: 1}, rule)


def test_a_vocabulary_begins_with_the_ids_of_another_run() -> None:
    ids = pa.array([5, None, 7, 9, 11], pa.int32())
    counts, ages = np.array([1, 0, 8, 3, 4]), np.array([1, 9, 1, 1, 4])
    whole = GrowingVocabulary.begun(6, ids, counts, ages)
    assert whole.ids.to_pylist() == [5, 7, 9, 11, None, None] and whole.windows == 0
    assert whole.counts.tolist() == [1, 8, 3, 4, 0, 0] and whole.seen.tolist() == [-1, -1, -1, -4, -1, -1]
    assert GrowingVocabulary.begun(2, ids, counts, ages).ids.to_pylist() == [7, 9]  # seen last, then most frequent
    again = from_tables(*to_tables(whole), 0, "here")
    assert again.ids.equals(whole.ids) and again.seen.tolist() == whole.seen.tolist()
    after, change = grown(whole, {7: 2, 20: 1}, Growth(rows=6, keep=3))
    assert after.ids.to_pylist() == [5, 7, 9, 20, None, None]  # 11 was not seen for four windows
    assert change.freed.tolist() == [FIRST + 3] and after.seen.tolist() == [-1, 0, -1, 0, -1, -1]
    rule = Growth(rows=6, keep=2)
    after, change = grown(GrowingVocabulary.begun(3, ids, counts, ages), {7: 1}, rule)
    assert not len(change.freed), "one window without 5 and 9, the last one of the old run had them"
    assert grown(after, {7: 1}, rule)[1].freed.tolist() == [FIRST, FIRST + 2]
    full, change = grown(GrowingVocabulary.begun(4, ids, counts, ages), {20: 1, 21: 1}, Growth(rows=4))
    assert full.ids.to_pylist() == [20, 7, 9, 21] and change.for_room == 2  # the longest unseen, then the rarest
    texts = GrowingVocabulary.begun(2, pa.array(["b", "a"]), np.ones(2, int), np.ones(2, int))
    assert texts.ids.type == pa.large_string() and texts.ids.to_pylist() == ["b", "a"]


@pytest.mark.parametrize("text", [False, True])
def test_a_run_that_begins_with_another_one_goes_on_counting_ids_that_wait(text) -> None:
    rule = Growth(rows=200, min_count=4, keep=3)  # nobody leaves for want of room, where rows would decide
    whole = GrowingVocabulary.empty(200)
    states = [whole := grown(whole, one, rule)[0] for one in windows(3, text)]
    for cut in (2, 4):
        before = states[cut]
        waiting = before.waiting.counted_back(before.windows)
        state = GrowingVocabulary.begun(200, before.ids, before.counts, before.windows - before.seen, waiting)
        assert len(state.waiting.ids)
        for one, expected in zip(windows(3, text)[cut + 1 :], states[cut + 1 :], strict=True):
            state = from_tables(*to_tables(state), state.windows, "here")
            state = grown(state, one, rule)[0]
            assert {*state.ids.to_pylist()} == {*expected.ids.to_pylist()}
            counts = (
                {*zip(one.waiting.ids.to_pylist(), one.waiting.counts.tolist(), strict=True)}
                for one in (state, expected)
            )
            assert next(counts) == next(counts)


def test_ids_for_which_a_smaller_table_has_no_room_wait() -> None:
    begun = GrowingVocabulary.begun(2, pa.array([5, 7, 9]), np.array([1, 8, 3]), np.ones(3, int))
    assert (begun.waiting.ids.to_pylist(), begun.waiting.counts.tolist(), begun.waiting.seen.tolist()) == (
        [5],
        [1],
        [-1],
    )
    assert grown(begun, {5: 1, 7: 1}, Growth(rows=2, min_count=2))[0].ids.to_pylist() == [7, 5]
