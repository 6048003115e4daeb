"""The same rows in both forms, with the histories in them and joined with stores: shared by the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from interformer_rec.config.data import DataConfig
from interformer_rec.data.event_store.joined import open_rows
from interformer_rec.data.fit import fit
from tests.data.event_store import samples
from tests.data.event_store.samples import MOST, features
from tests.data.samples import loader_of

USERS, CLOCK = 12, 40


class Both:
    """The same rows in both forms: fat, and joined with stores."""

    def __init__(self, folder: Path, seed: int) -> None:
        draw = np.random.default_rng(seed)
        self.stores = samples.events(draw, 400, USERS, CLOCK)
        rows = samples.rows(draw, 150, USERS, CLOCK)
        self.whole = samples.with_histories(rows, self.stores, MOST)
        self.fat, self.plain = (
            samples.write_rows(folder / "fat", self.whole),
            samples.write_rows(folder / "plain", rows),
        )
        paths = {name: samples.write_store(folder / f"store-{name}", table) for name, table in self.stores.items()}
        self.events = {"user": "user", "time": "at", "stores": paths, "cache": str(folder / "cache")}

    def loaders(self, **options):
        schema = features()
        data = DataConfig.model_validate({"events": self.events})
        fitted = fit(schema, self.fat)
        joined = fit(schema, open_rows(self.plain, data, schema))
        assert {name: ids.to_pylist() for name, ids in joined.vocabularies.items()} == {
            name: ids.to_pylist() for name, ids in fitted.vocabularies.items()
        }
        assert all(np.array_equal(joined.counts[name], counts) for name, counts in fitted.counts.items())
        return (
            loader_of(self.fat, schema, fitted, **options),
            loader_of(self.plain, schema, joined, events=self.events, **options),
        )


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> Both:
    return Both(tmp_path_factory.mktemp("joined"), 1)
