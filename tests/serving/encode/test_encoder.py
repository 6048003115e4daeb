"""Requests become rows; and every value that is no value of its input is refused, with its place, the value and the cure."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from interformer_rec.config.features import MISSING_ROW
from interformer_rec.serving.encode.refusal import Refusal
from interformer_rec.serving.request import NO_ROW
from tests.serving.encode.samples import CANDIDATE, USER, arrays, encoder


def refused(user: Any = USER, candidates: Any = None, **options: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        encoder(**options).rank(user, [CANDIDATE] if candidates is None else candidates)
    return caught.value


def test_a_request_becomes_rows():
    """Rows of vocabulary tables: 0 missing, 1 unknown, then 7, 8, 9 by count."""
    inputs = encoder().rank(USER, [CANDIDATE, {"item_id": None, "price": -1.5, "also": None}])
    user, candidates = inputs.users, inputs.candidates
    assert user.dense.tolist() == [[20.5, 0.0]] and inputs.owners.tolist() == [0, 0]
    assert candidates.dense[:, 0].tolist() == np.float32([np.log1p(3), -np.log1p(1.5)]).tolist()
    assert candidates.ids[1].tolist() == [NO_ROW] and candidates.ids[0, 0] == user.bags[0].rows[0]
    assert user.bags[0].rows[1] == MISSING_ROW and user.bags[0].lengths.tolist() == [2]
    assert candidates.bags[0].lengths.tolist() == [1, 1] and candidates.bags[0].rows[1] == MISSING_ROW
    assert user.histories[0].rows[:, 1].tolist() == [24, 2, 3]  # the newest three hours, after the missing row
    assert user.histories[0].rows[1, 0] == MISSING_ROW and user.histories[0].lengths.tolist() == [3]


def test_rows_columns_and_ranked_candidates_are_the_same():
    rows = [{**USER, **CANDIDATE}, {**USER, "item_id": 99, "price": 0.5, "also": []}]
    lists = {name: [row[name] for row in rows] for name in rows[0]}
    scored = encoder().score(rows)
    assert arrays(scored) == arrays(encoder().score(lists)) and scored.owners.tolist() == [0, 1]
    mine = [{name: row[name] for name in CANDIDATE} for row in rows]
    ranked = encoder().rank(USER, mine)
    assert arrays(ranked) == arrays(encoder().rank(USER, {name: [row[name] for row in mine] for name in CANDIDATE}))
    assert ranked.candidates.ids.tolist() == scored.candidates.ids.tolist()
    assert ranked.users.ids.tolist() == scored.users.ids.tolist()[:1]


WRONG = [
    ("hour", 1.5, "a number with a point, which is no id"),
    ("hour", 3.0, "a number with a point"),
    ("hour", True, "no integer"),
    ("hour", "3", "no integer"),
    ("hour", [3], "no integer"),
    ("hour", 24, "outside 0 .. 24 - 1"),
    ("hour", -1, "outside 0 .. 24 - 1"),
    ("hour", 2**63, "an integer that 64 bits do not hold"),
    ("big", 2**64, "an integer that 64 bits do not hold"),
    ("big", -(2**63) - 1, "an integer that 64 bits do not hold"),
    ("big", 10**4000, "an integer that 64 bits do not hold"),
    ("city", 3, "no text"),
    ("city", False, "no text"),
    ("city", ["x"], "no text"),
    ("city", "\ud800", "half of a surrogate pair"),
    ("city", "é\udc00", "half of a surrogate pair"),
    ("flag", 1, "no true or false"),
    ("flag", "true", "no true or false"),
    ("day", 19_000, "no date"),
    ("day", "2022-1-8", "no date"),
    ("day", "2022-02-30", "no date"),
    ("day", "20220108", "no date"),
    ("day", "2022-01-08T00:00:00Z", "no date"),
    ("day", "２022-01-08", "no date"),
    ("seen", 1, "no time"),
    ("seen", "2022-01-08", "no time"),
    ("seen", "2022-01-08T00:00:00", "a time without a zone"),
    ("seen", "2022-01-08T24:00:00Z", "no time"),
    ("seen", "2022-01-08T00:00:00+00:60", "no time"),
    ("seen", "0001-01-01T00:00:00+01:00", "no time"),
    ("seen", "2022-01-08T00:00:00.1234567Z", "not a whole number of microseconds"),
    ("none", 1, "a value, where all training files have null"),
    ("age", "20", "no number"),
    ("age", True, "no number"),
    ("age", [20], "no number"),
    ("age", float("nan"), "not a finite number"),
    ("age", float("-inf"), "not a finite number"),
    ("age", 1e39, "a number too large for the training files' type"),
    ("age", 10**400, "a number too large"),
    ("new", 1, "no true or false"),
    ("new", None, "a null without `fill`"),
    ("likes", 7, "no list"),
    ("likes", "78", "no list"),
    ("likes", {"0": 7}, "no list"),
]


@pytest.mark.parametrize("field, value, what", WRONG, ids=lambda part: str(part)[:40])
def test_a_value_of_another_type_is_refused(field, value, what):
    found = refused({**USER, field: value})
    assert what in found.what and (found.part, found.field, found.row, found.element) == ("user", field, None, None)
    assert found.value and len(found.value) < 100 and found.cure and len(str(found)) < 400
    str(found).encode()  # a message is text
    with pytest.raises(Refusal, match=r"rows\[2\]") as among:  # in the form for many rows too
        encoder().score([{**USER, **CANDIDATE}] * 2 + [{**USER, **CANDIDATE, field: value}] * 30)
    assert what in among.value.what and among.value.row == 2 and among.value.value == found.value


ELEMENTS = [
    ("likes", [7] * 30 + [True], 30, "no integer"),
    ("likes", [7, 8.0], 1, "a number with a point"),
    ("likes", [7, 2**63], 1, "64 bits"),
    ("likes", [[7]], 0, "no integer"),
    ("watch_item", [9, 8, "7", 7], 2, "no integer"),
    ("watch_item", [9.5, 8, 7, 7], 0, "a number with a point"),  # too old to be kept, and refused as in training
    ("watch_hour", [24, 1, 1, 1], 0, "outside 0 .. 24 - 1"),
    ("watch_time", [1, 2, None, 3], 2, "a null among the times"),
    ("watch_time", [1, 3, 2, 3], 2, "a time before the one in front of it"),
    ("watch_time", [1, 2, 2.0, 3], 2, "a number with a point"),
    ("watch_time", [1, 2, "1970-01-01T00:00:00", 3], 2, "no integer"),
]


@pytest.mark.parametrize("field, value, element, what", ELEMENTS, ids=lambda part: str(part)[:40])
def test_an_element_that_is_refused_is_named(field, value, element, what):
    found = refused({**USER, field: value})
    assert what in found.what and (found.field, found.element) == (field, element)
    with pytest.raises(Refusal) as among:
        encoder().score([{**USER, **CANDIDATE}, {**USER, **CANDIDATE, field: value}])
    assert (among.value.row, among.value.element) == (1, element)


def test_lists_of_a_history_that_are_not_aligned_are_refused():
    found = refused({**USER, "watch_hour": [1, 2, 3]})
    assert found.field == "watch_hour" and "3 elements" in found.what and '"watch_item"' in found.what
    assert refused({**USER, "watch_time": None}).field == "watch_time"
    empty = {**USER, "watch_item": None, "watch_hour": [], "watch_time": None}
    assert encoder().rank(empty, [CANDIDATE]).users.histories[0].lengths.tolist() == [0]


def test_a_candidate_that_is_refused_is_named():
    found = refused(candidates=[CANDIDATE, CANDIDATE, {**CANDIDATE, "item_id": "7"}])
    assert (found.part, found.row, found.field) == ("candidates", 2, "item_id")
    assert str(found).startswith('candidates[2], "item_id": no integer; the value is "7". Write the id as an integer')


KEYS = [
    ({"city": ...}, {}, ("user", "city", None), "absent"),
    ({}, {"price": ...}, ("candidates", "price", 0), "absent"),
    ({"cities": 1}, {}, ("user", "cities", None), "no input has; did you mean 'city'"),
    ({}, {"click": 1}, ("candidates", "click", 0), "no input has"),
    ({"item_id": 7}, {}, ("user", "item_id", None), "belongs to a candidate"),
    ({}, {"city": "x"}, ("candidates", "city", 0), "belongs to the user"),
    ({"\ud800" * 500: 1}, {}, ("user", "\ud800" * 500, None), "no input has"),
]


def changed(given: dict[str, Any], by: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**given, **by}.items() if value is not ...}


@pytest.mark.parametrize("user, candidate, place, what", KEYS, ids=lambda part: str(part)[:40])
def test_absent_and_unknown_keys_are_refused(user, candidate, place, what):
    found = refused(changed(USER, user), [changed(CANDIDATE, candidate)])
    assert (found.part, found.field, found.row) == place and what in found.what.replace("Did", "did")
    assert len(str(found).encode()) < 700 and "?." not in str(found)


def test_the_signature_may_say_that_an_absent_key_is_null_and_an_unknown_one_ignored():
    user, candidate = changed(USER, {"age": ..., "likes": ..., "more": [1]}), changed(CANDIDATE, {"also": ..., "x": 1})
    null = encoder().rank({**USER, "age": None, "likes": None}, [{**CANDIDATE, "also": None}])
    for candidates in ([candidate], {name: [value] for name, value in candidate.items()}):
        found = encoder(absent="null", unknown="ignored").rank(user, candidates)
        assert arrays(found) == arrays(null)
    assert refused(changed(USER, {"new": ...}), absent="null").field == "new"  # null is no value of it either
    assert refused(user, absent="null").field == "more"


SHAPES = [
    (None, None, "no object"),
    ([USER], None, "no object"),
    ("user", None, "no object"),
    (USER, [], "no row"),
    (USER, {}, "absent"),
    (USER, {"item_id": [], "price": [], "also": []}, "no row"),
    (USER, None, "neither a list of objects nor an object of lists"),
    (USER, "abc", "neither a list of objects nor an object of lists"),
    (USER, [CANDIDATE, None], "no object"),
    (USER, [[7, 3, [7]]], "no object"),
    (USER, {"item_id": [7], "price": [3, 4], "also": [[7]]}, "a list of 2 values"),
    (USER, {"item_id": 7, "price": [3], "also": [[7]]}, "no list"),
    (USER, {"item_id": "7", "price": "3", "also": "a"}, "no list"),
]


@pytest.mark.parametrize("user, candidates, what", SHAPES, ids=lambda part: str(part)[:40])
def test_other_shapes_are_refused(user, candidates, what):
    with pytest.raises(Refusal) as caught:
        encoder().rank(user, candidates)
    assert what in caught.value.what and caught.value.cure


def test_where_no_feature_is_the_candidates_a_request_says_what_all_share():
    whole = encoder(candidate=False)
    history = {name: USER[name] for name in ("watch_item", "watch_hour", "watch_time")}
    others = {name: value for name, value in USER.items() if name not in history}
    rows = [{**others, **CANDIDATE}, {**others, **CANDIDATE, "price": 8.0}]
    expected = arrays(whole.rank(history, rows))
    shared = {**history, **others, "item_id": 7, "also": [7]}
    for prices in ([{"price": 3}, {"price": 8.0}], {"price": [3, 8.0]}):
        assert arrays(whole.rank(shared, prices)) == expected
    with pytest.raises(Refusal, match=r'user, "hour": no integer'):
        whole.rank({**shared, "hour": "3"}, [{"price": 3}])
    with pytest.raises(Refusal, match=r'candidates\[0\], "city": a key that belongs to the user'):
        whole.rank(shared, [{"price": 3, "city": "x"}])
    with pytest.raises(Refusal, match=r'"watch_item": a key that belongs to the user'):
        whole.rank(history, [{**rows[0], "watch_item": [7]}])


def test_what_strict_parsers_refuse_is_refused_after_lenient_ones_too():
    text = json.dumps({**USER, "age": 1.0, "city": "\ud800"}).replace("1.0", "1e400")
    assert refused({**json.loads(text), "city": "x"}).field == "age"
    assert refused({**json.loads(text), "age": 1.0}).field == "city"


def test_encoding_needs_no_torch():
    code = "import sys, interformer_rec.serving.encode.encoder; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
