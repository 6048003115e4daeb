"""Whatever a parsed request holds, it is encoded or refused, alike in every form, and the message can be sent."""

from __future__ import annotations

import random
from typing import Any

import pytest

from interformer_rec.serving.encode.encoder import Encoder
from interformer_rec.serving.encode.refusal import Refusal
from tests.serving.encode.samples import CANDIDATE, USER, arrays, encoder

JUNK: list[Any] = [
    None, True, False, 0, -1, 7, 24, 2**63, -(2**63) - 1, 2**64, 10**400, 1 << 20_000, 0.0, -0.0, 1.5, 1e39, 1e308,
    float("nan"), float("inf"), "", "7", "x", "\ud800", "\x00", "日本" * 500, "2022-01-08", "2022-01-08T00:00:00Z",
    [], [None], [7], [7.0], [[7]], ["a"] * 40, list(range(40)), [True] * 40, {}, {"a": 1}, [{}], (7,), b"x", 1j, object(),
]  # fmt: skip


def damaged(rng: random.Random, value: Any) -> Any:
    """One part of it is another one."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        changed = {name: damaged(rng, part) if name == key else part for name, part in value.items()}
        if rng.random() < 0.1:
            changed[rng.choice(["more", "", "\ud800", "item_id", "age"])] = changed.pop(key)
        return changed
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        return [damaged(rng, part) if place == at else part for place, part in enumerate(value)]
    return rng.choice(JUNK)


def answer(encoder: Encoder, user: Any, candidates: Any) -> list[Any] | tuple[str, str | None, int | None]:
    """Numbers, or the refusal's place."""
    try:
        inputs = encoder.rank(user, candidates)
    except Refusal as refusal:
        text = str(refusal)
        assert len(text.encode()) < 3000 and refusal.cure
        return refusal.part, refusal.field, refusal.row
    return arrays(inputs)


def check(seed: int, requests: int) -> int:
    rng, model, taken = random.Random(seed), encoder(), 0
    for _ in range(requests):
        user, candidates = USER, [CANDIDATE, {**CANDIDATE, "price": 0.5}, CANDIDATE]
        for _ in range(rng.randint(0, 2)):
            if rng.random() < 0.5:
                user = damaged(rng, user)
            else:
                candidates = damaged(rng, candidates)
        found = answer(model, user, candidates)
        taken += isinstance(found, list)
        if isinstance(candidates, list) and candidates and all(type(one) is dict for one in candidates):
            if all(one.keys() == CANDIDATE.keys() for one in candidates):
                lists = {name: [one[name] for one in candidates] for name in CANDIDATE}
                assert answer(model, user, lists) == found
            ones = [answer(model, user, [one]) for one in candidates]
            assert all(isinstance(one, list) for one in ones) == isinstance(found, list)
    return taken


def test_any_request_is_encoded_or_refused():
    assert 100 < check(0, 600) < 500


@pytest.mark.release
def test_any_of_many_requests_is_encoded_or_refused():
    assert check(1, 30_000) > 5_000
