"""Stores and rows that do not go together are refused before any work, and a store may be a file a day."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from interformer_rec.config.data import DataConfig
from interformer_rec.data.event_store.joined import open_rows
from interformer_rec.data.fit import fit
from interformer_rec.errors import InputError
from tests.data.event_store import samples
from tests.data.event_store.conftest import CLOCK, Both
from tests.data.event_store.samples import features
from tests.data.samples import loader_of


def joined_error(both: Both, **events) -> str:
    data = DataConfig.model_validate({"events": {**both.events, **events}})
    with pytest.raises(InputError) as error:
        open_rows(both.plain, data, features())
    return str(error.value)


def test_a_store_out_of_order_is_named(both, tmp_path):
    table = both.stores["bought"]
    pq.write_table(table, tmp_path / "events.parquet")
    said = joined_error(both, stores={**both.events["stores"], "bought": str(tmp_path)})
    assert "events.parquet" in said and "row" in said and "interformer data events" in said


@pytest.mark.parametrize("days", [2, 7])
def test_a_store_may_be_a_file_a_day(both, tmp_path, days):
    """A user's events lie in several files then."""
    paths = {}
    for name, table in both.stores.items():
        for day, end in enumerate(np.linspace(0, CLOCK, days + 1)[1:]):
            begin = CLOCK / days * day
            inside = pc.and_(pc.greater_equal(table["at"], begin), pc.less(table["at"], end))
            samples.write_store(tmp_path / name / f"day={day}", table.filter(inside), group=17)
        paths[name] = str(tmp_path / name)
    columns = ("seen_item", "seen_shop", "seen_at", "bought_item")
    data = [DataConfig.model_validate({"events": events}) for events in (both.events, {**both.events, "stores": paths})]
    whole, daily = (open_rows(both.plain, one, features()) for one in data)
    groups = list(range(len(whole.group_rows)))
    assert daily.read(groups, columns).to_pydict() == whole.read(groups, columns).to_pydict()


def test_an_event_that_is_older_than_those_of_an_earlier_file_is_named(both, tmp_path):
    table = both.stores["bought"]
    samples.write_store(tmp_path / "day=1", table)
    samples.write_store(tmp_path / "day=2", table.slice(0, 1))
    said = joined_error(both, stores={**both.events["stores"], "bought": str(tmp_path)})
    assert "day=2/events-" in said and "older than one of the same user before it" in said


def test_kinds_that_cannot_be_compared_are_refused(both, tmp_path):
    table = both.stores["bought"]
    texts = table.set_column(0, "user", table["user"].cast(pa.string()))
    said = joined_error(both, stores={**both.events["stores"], "bought": samples.write_store(tmp_path / "s", texts)})
    assert "column 'user' is int64 in the rows" in said and "string in the events" in said


def test_a_column_in_both_places_is_refused(both):
    data = DataConfig.model_validate({"events": both.events})
    with pytest.raises(InputError, match="which one counts"):
        open_rows(both.fat, data, features())


def test_histories_larger_than_allowed_are_refused(both):
    loader = loader_of(both.plain, features(), fit(features(), both.fat), events=both.events, max_decoded_bytes=2_000)
    with pytest.raises(InputError, match="smaller row groups"):
        list(loader.batches())


def test_a_delay_of_a_part_of_an_integers_unit_is_refused(both):
    assert "must be a whole number of their unit" in joined_error(both, delay=0.5)
