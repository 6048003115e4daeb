"""max_length bounds what is read of a history; no parameter is made for events that no history has."""

from __future__ import annotations

import pytest
import torch
from pydantic import TypeAdapter

from interformer_rec.config.baselines import AnyModelConfig
from interformer_rec.errors import InputError
from interformer_rec.model.baselines.padded import PaddedLayout
from interformer_rec.model.baselines.positions import MOST_AGES, Positions
from interformer_rec.model.task import build_task
from tests.data.samples import with_max_length

ROWS = dict.fromkeys(("item", "city", "hour", "user", "tag"), 10)


def parameters(kind: dict) -> int:
    options = TypeAdapter(AnyModelConfig).validate_python(kind)
    task = build_task(with_max_length(2**31 - 1), options, ROWS, device=torch.device("meta"))
    return sum(parameter.numel() for parameter in task.parameters())


@pytest.mark.parametrize("kind", ["interformer", "din", "dien", "dmin", "dmr", "transact", "bst"])
def test_parameters_of_a_model_with_a_huge_max_length(kind):
    more = {"pooling": "mean"} if kind == "bst" else {}
    assert parameters({"kind": kind, **more}) < 20_000_000


def test_outputs_side_by_side_have_a_bound_that_is_named():
    with pytest.raises(
        InputError,
        match=r"model.pooling: concat gives the head .* Set max_length to [0-9,]+ or less, or model.pooling: mean",
    ):
        parameters({"kind": "bst", "pooling": "concat"})


def test_events_older_than_the_table_share_its_last_row():
    positions = Positions(10**9, 4)
    assert positions.rows.shape == (MOST_AGES, 4)
    layout = PaddedLayout(torch.tensor([MOST_AGES + 2]), MOST_AGES + 2)
    found = positions(layout)
    assert torch.equal(found[0], found[2]) and torch.equal(found[0], positions.rows[-1])
    assert torch.equal(found[-1], positions.rows[0])
