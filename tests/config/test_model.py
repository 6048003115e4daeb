"""InterFormer's options: which features they can work with, and what a flow lets each mode read."""

from typing import get_args

import pytest

from interformer_rec.config.model import Flow, FlowName, ModelConfig
from interformer_rec.errors import InputError
from tests.model import cases


def options(**keys) -> ModelConfig:
    return ModelConfig.model_validate(keys)


def test_a_union_needs_the_same_tables_in_all_histories():
    with pytest.raises(InputError, match="'like' and 'watch' must have columns of the same tables"):
        options(sequence={"merge": "union"}).check_features(cases.schema())
    options(sequence={"merge": "concat"}).check_features(cases.schema())


def test_histories_alone_are_not_enough():
    with pytest.raises(InputError, match="dense, ids or bags"):
        options().check_features(cases.schema(groups=(("watch", 1),), ids=0, dense=0))
    options().check_features(cases.schema(groups=(("watch", 1),), ids=0, dense=1))


def test_a_split_needs_candidates():
    with pytest.raises(InputError, match="list the names of the candidate's"):
        options(split=True).check_features(cases.schema())
    options().check_features(cases.schema())


@pytest.mark.parametrize("name", get_args(FlowName))
def test_a_split_goes_with_the_flows_whose_sequences_read_the_fields(name):
    if Flow.of(name).s_reads_x:
        assert options(flow=name, split=True).split
    else:
        with pytest.raises(ValueError, match=f"with flow: {name} no feature reaches them"):
            options(flow=name, split=True)


def test_flows_differ():
    flows = [Flow.of(name) for name in get_args(FlowName)]
    assert len(set(flows)) == len(flows) == 5
    assert [name for name in get_args(FlowName) if Flow.of(name).pooled_first] == ["sole"]
