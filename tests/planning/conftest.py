"""What planning costs where a test asks about something else: the dense part is run once for all questions about it, for most tests
ask about the same small model, and a plan is polished for a few rounds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from interformer_rec.config.run import RunConfig
from interformer_rec.planning import question
from interformer_rec.planning.cost.dense import DenseCosts
from interformer_rec.planning.cost.sizes import Sizes
from interformer_rec.planning.search import search


@pytest.fixture(scope="package", autouse=True)
def dense_parts_are_run_once() -> Iterator[None]:
    """Equal configs and sizes share their measured costs, as the questions of one `--what-if` do."""
    known: dict[str, DenseCosts] = {}

    def costs(config: RunConfig, sizes: Sizes) -> DenseCosts:
        return known.setdefault(f"{config.model_dump_json()} {sizes}", DenseCosts(config, sizes))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(question, "DenseCosts", costs)
        yield


@pytest.fixture(scope="module", autouse=True)
def plans_are_polished_briefly(request: pytest.FixtureRequest) -> Iterator[None]:
    """As a user's plans are in tests/planning/search, which says how good they are; elsewhere for a twentieth of the rounds."""
    with pytest.MonkeyPatch.context() as patch:
        if "tests/planning/search/" not in request.node.nodeid:
            for name in ("LEAST_ROUNDS", "MOST_ROUNDS"):
                patch.setattr(search, name, getattr(search, name) // 20)
        yield
