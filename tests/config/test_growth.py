"""`grow` of a table."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from interformer_rec.config.features import Table


def test_a_growing_table_says_its_size_and_when_ids_come_and_go():
    table = Table.model_validate({"ids": "vocab", "grow": {"rows": 100, "min_count": 3, "keep": 7}})
    assert table.grow is not None and (table.grow.rows, table.grow.min_count, table.grow.keep) == (100, 3, 7)
    assert Table(ids="vocab").grow is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ids": "hash", "num_embeddings": 5, "grow": {"rows": 3}}, "grow is for ids: vocab only, not for ids: hash"),
        ({"ids": "vocab", "num_embeddings": 5, "grow": {"rows": 3}}, "grow.rows instead of num_embeddings"),
        ({"ids": "vocab", "min_count": 2, "grow": {"rows": 3}}, "grow.min_count instead of min_count"),
        ({"ids": "vocab", "grow": {}}, "rows"),
        ({"ids": "vocab", "grow": {"rows": 0}}, "greater than or equal to 1"),
        ({"ids": "vocab", "grow": {"rows": 3, "keep": 0}}, "greater than or equal to 1"),
    ],
)
def test_what_does_not_go_together_is_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        Table.model_validate(options)
