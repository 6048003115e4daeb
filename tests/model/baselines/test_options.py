"""model.kind in a config: defaults, and what is refused."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from interformer_rec.config.baselines import AnyModelConfig
from interformer_rec.config.model import ModelConfig
from interformer_rec.model.build import MODELS

OPTIONS = TypeAdapter(AnyModelConfig)


def test_silence_is_interformer() -> None:
    assert OPTIONS.validate_python({"preset": "paper", "d": 16}) == ModelConfig.model_validate(
        {"preset": "paper", "d": 16}
    )


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_what_is_written_out_gives_the_same_options(kind: str) -> None:
    options = OPTIONS.validate_python({"kind": kind, "embedding_dim": 4})
    written = OPTIONS.dump_python(options, mode="json")
    assert options.kind == kind == written["kind"] and options.embedding_dim == 4
    assert OPTIONS.validate_python(written) == options


@pytest.mark.parametrize(
    "tree",
    [
        {"kind": "dinn"},
        {"kind": "din", "atention": [80]},
        {"kind": "fm", "hidden": [8]},
        {"kind": "din", "layers": 2},
        {"kind": "interformer", "hidden": [8]},
        {"kind": "din", "attention": []},
        {"kind": "dien", "auxiliary": -1},
    ],
)
def test_options_of_other_kinds_and_misspelt_ones_fail(tree: dict) -> None:
    with pytest.raises(ValidationError):
        OPTIONS.validate_python(tree)


def test_only_candidate_aware_kinds_and_interformer_need_histories() -> None:
    needing = {kind for kind in MODELS if OPTIONS.validate_python({"kind": kind}).needs_sequences}
    assert needing == {"interformer", "din", "dien", "bst", "dmin", "dmr", "transact"}
