"""Ids are matched by value: which row of one run's table is which of another's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from interformer_rec.config.features import FeatureSchema
from interformer_rec.data.fit import Fitted
from interformer_rec.data.meaning import Meaning
from interformer_rec.training.start.warm.match import TableMatch, match_tables, not_silent

INTEGER = pa.int64()


def _fitted(table: dict[str, Any], ids: pa.Array | None, type_: pa.DataType = INTEGER, name: str = "item") -> Fitted:
    features = FeatureSchema.model_validate(
        {"tables": {name: table}, "ids": [{"name": "shown", "table": name}], "labels": ["click"]}
    )
    special = features.tables[name].special_rows
    rows = special + (len(ids) if ids is not None else table["num_embeddings"])
    return Fitted({name: rows}, {name: ids} if ids is not None else {}, meaning=Meaning(features, {"shown": type_}))


def _match(before: Fitted, now: Fitted, dims: tuple[int, int] = (8, 8)) -> dict[str, TableMatch]:
    shapes = {name: (rows, dims[0]) for name, rows in before.table_rows.items()}
    found = match_tables(before, now, shapes, dict.fromkeys(now.table_rows, dims[1]), states=True)
    return {match.name: match for match in found}


def _there(before: Fitted, now: Fitted) -> list[int]:
    rows = _match(before, now)["item"].rows
    assert rows is not None
    return rows.of(0, now.table_rows["item"]).tolist()


@pytest.mark.parametrize(
    "types",
    [(pa.int64(), pa.int64()), (pa.int32(), pa.int64()), (pa.string(), pa.string()), (pa.large_string(), pa.string())],
)
def test_ids_keep_their_rows(types: tuple[pa.DataType, pa.DataType]) -> None:
    before, now = (
        _fitted({}, pa.array(ids, pa.int64()).cast(type_), type_)
        for ids, type_ in zip(([5, 6, 7], [7, 9, 5, 8]), types, strict=True)
    )
    assert _there(before, now) == [0, 1, 4, -1, 2, -1]  # missing, unknown, then 7, 9, 5, 8
    match = _match(before, now)["item"]
    assert (match.kept, match.new, match.dropped) == (4, 2, 1)


def test_free_rows_of_a_growing_table_are_nobodys() -> None:
    before = _fitted({"grow": {"rows": 4}}, pa.array([5, None, 7, None]))
    now = _fitted({"grow": {"rows": 3}}, pa.array([None, 7, 8]))
    assert _there(before, now) == [0, 1, -1, 4, -1]
    match = _match(before, now)["item"]
    assert (match.kept, match.new, match.dropped) == (3, 1, 1)
    assert _there(_fitted({}, pa.array([8])), now) == [0, 1, -1, -1, 2]  # and a fixed vocabulary may begin to grow


@pytest.mark.parametrize("kind", ["hash", "identity"])
def test_hashes_and_identities_have_the_same_rows(kind: str) -> None:
    before, now = (_fitted({"ids": kind, "num_embeddings": 3}, None) for _ in range(2))
    assert _there(before, now) == [0, 1, 2, 3]
    longer = _fitted({"ids": kind, "num_embeddings": 5}, None)
    if kind == "identity":
        assert _there(before, longer) == [0, 1, 2, 3, -1, -1] and _there(longer, before) == [0, 1, 2, 3]
    else:
        assert (
            "has num_embeddings 3 there and 5 here, so ids have other hashes" in _match(before, longer)["item"].reason
        )


def test_tables_of_other_meaning_are_named() -> None:
    before = _fitted({}, pa.array([5, 6]))
    for now, dims, reason in (
        (_fitted({}, pa.array([5])), (8, 4), "its rows have 8 floats there and 4 here"),
        (_fitted({"ids": "hash", "num_embeddings": 9}, None), (8, 8), "it has ids: vocab there and ids: hash here"),
        (_fitted({}, pa.array(["5"]), pa.string()), (8, 8), "its ids are integer there and string here"),
    ):
        match = _match(before, now, dims)["item"]
        assert match.reason == reason and match.rows is None and match.dropped == 4
    other = _match(before, _fitted({}, pa.array([5]), name="other"))
    assert other["item"] == TableMatch("item", None, dropped=4) and other["other"] == TableMatch("other", None, new=3)


def test_rows_are_matched_by_thousands() -> None:
    generator = np.random.default_rng(0)
    old, new = generator.permutation(50_000)[:30_000], generator.permutation(50_000)[:40_000]
    there = np.array(_there(_fitted({}, pa.array(old)), _fitted({}, pa.array(new))))[2:]
    assert np.array_equal(old[there[there >= 0] - 2], new[there >= 0])
    assert set(new[there < 0]) == set(new) - set(old)


def test_a_history_that_cannot_be_silent_is_said() -> None:
    one, two = (
        FeatureSchema.model_validate(
            {
                "tables": {"item": {}},
                "sequences": [
                    {"name": name, "max_length": 3, "columns": [{"name": "item", "column": name}]} for name in names
                ],
                "labels": ["click"],
            }
        )
        for names in (["seen"], ["seen", "bought"])
    )
    assert "history 'bought' is new and changes logits at once" in not_silent(one, two, "concat")[0]
    assert not_silent(one, two, "separate") == [] and not_silent(two, one, "concat") == []
