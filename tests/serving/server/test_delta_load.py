"""Deltas and versions change beneath a server under load: no request fails, and each answer is that of one published state."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.serving.random_deltas import publish_random
from interformer_rec.serving.arguments import ExportOptions
from interformer_rec.serving.export import export
from interformer_rec.serving.published import pointer
from tests.serving.server.client import eventually
from tests.serving.server.test_load import Load

pytestmark = pytest.mark.release

DELTAS, SWAPS = 200, 20


def test_twenty_swaps_and_two_hundred_deltas_under_load_fail_no_request(launched, published, began, golden, tmp_path):
    place, generator = published.copied(tmp_path, at=0), np.random.default_rng(5)
    data, current = began[0]["data"]["valid"], place / "current.json"
    export(str(published.checkpoints[1]), str(place), ExportOptions(runtime="eager"), data=data)
    chains = [published.pointers[0], current.read_bytes()]  # of two versions, each with deltas of its own
    _, client = launched(place, "--watch", "0.05")
    rows = [one["row"] for one in golden[:4]]
    expected: dict[tuple[str, str | None], list[float]] = {}

    def serving(state: pointer.Current) -> tuple[str, str | None]:
        return state.version, None if state.delta is None else state.delta.id

    def follow() -> None:
        wanted = serving(pointer.current(str(place)))

        def there() -> bool:
            status = client.get("/v1/status")
            assert status["refused"] == {}
            return (status["version"], status["delta"]) == wanted

        eventually(there)
        expected[wanted] = client.post("/v1/score", {"rows": rows})["scores"]["label"]

    follow()
    with Load(lambda: client("POST", "/v1/score", {"rows": rows})) as load:
        for swap in range(SWAPS):
            chains[swap % 2], other = current.read_bytes(), chains[(swap + 1) % 2]
            current.with_suffix(".next").write_bytes(other if swap else chains[0])
            current.with_suffix(".next").replace(current)
            follow()
            for number in range(DELTAS // SWAPS):
                publish_random(place, generator, dense=number % 3 == 0)
                follow()
    assert load.failures == []
    answers = {(one["version"], one["delta"]) for one in load.contents}
    assert answers <= expected.keys() and len(answers) > SWAPS
    for one in load.contents:
        np.testing.assert_allclose(one["scores"]["label"], expected[one["version"], one["delta"]], atol=1e-6)
    assert len(expected) > DELTAS
    different = {json.dumps(scores) for scores in expected.values()}
    assert len(different) > 0.9 * len(expected)  # a delta may miss the rows that these requests read
