"""The line through two small runs against whole tasks of another number of rows: every kind, preset and flow."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from interformer_rec.config.model import ModelConfig
from interformer_rec.config.run import RunConfig, load
from interformer_rec.model.task import build_task
from interformer_rec.planning.cost.counter import Live
from interformer_rec.planning.cost.dense import DenseCosts
from interformer_rec.planning.cost.lengths import Lengths
from interformer_rec.planning.cost.sizes import Sizes
from tests.model.baselines.systems import SMALL
from tests.model.golden_cases import SMALL as SMALL_INTERFORMER
from tests.model.golden_cases import cases, features_of
from tests.planning.measure import batch_of, saved_bytes, torchs_flops

CONFIGS = Path(__file__).parents[3] / "configs"
ROWS, MEASURED = 320, 128  # rows that are asked about, and of the larger of the two runs that answer
SHIPPED = {
    "kuairand_pure": [],
    "kuairand_pure, one set": ["model.ensemble_members=1"],
    "kuairand_pure, no l2": ["optimizer.embedding.l2=0", "model.dropout=0"],
    "synthetic": [],
    "synthetic, long histories": ["features.sequences.0.max_length=400", "features.sequences.1.max_length=300"],
    "ml_100k": [],
}


def sizes_of(config: RunConfig) -> Sizes:
    lengths = {}
    for group in config.features.sequences:
        longest = group.max_length
        lengths[group.name] = Lengths(0.4 * longest, 0.3 * longest, 0.95 * longest, longest, longest, 0.1)
    lengths |= {bag.name: Lengths(1.5, 1, 3, 3, 3, 0.1) for bag in config.features.bags}
    # so many that drawn histories share no event, what is counted for merge: union
    union = isinstance(config.model, ModelConfig) and config.model.sequence.merge == "union"
    return Sizes(dict.fromkeys(config.features.tables, 100_000 if union else 1_000), lengths)


def small(name: str, **training: str) -> RunConfig:
    """The run config of a case of tests/model/golden_cases.py."""
    options = cases()[name]
    kind = options.get("kind", "interformer")
    sizes = SMALL_INTERFORMER if kind == "interformer" else {"embedding_dim": 8, **SMALL[kind]}
    epochs = {"epochs": options.get("ensemble_members", 1)}
    return RunConfig.model_validate(
        {
            "name": "small",
            "data": {},
            "features": features_of(options).model_dump(),
            "model": {**sizes, **options},
            "optimizer": {"embedding": {"kind": "adagrad"}},
            "training": {**epochs, **training},
        }
    )


def shipped(name: str) -> RunConfig:
    return load(CONFIGS / f"{name.split(',')[0]}.yaml", SHIPPED[name])


def costs_of(config: RunConfig, sizes: Sizes) -> DenseCosts:
    costs = DenseCosts(config, sizes)
    costs._most = MEASURED
    return costs


@pytest.mark.parametrize("name", sorted(cases()))
def test_every_model_keeps_what_is_said(name):
    config = small(name)
    sizes = sizes_of(config)
    cost = costs_of(config, sizes).of(ROWS)
    assert cost.activation_bytes == pytest.approx(saved_bytes(config, sizes, ROWS), rel=0.05)
    assert cost.flops > 0 and cost.forward_kernels > 0 and cost.backward_kernels > 0


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"window": 8, "attention_every": 2},
        pytest.param({"merge": "separate", "pffn": "gdpa"}, marks=pytest.mark.slow),
    ],
)
def test_the_peak_with_and_without_recomputing_is_what_a_pass_holds(changes):
    """Bytes of tensors that the dense part's forward and backward pass make and hold at most, counted at every operator."""
    peaks = {}
    for recompute in (False, True):
        config = load(CONFIGS / "synthetic.yaml", ["model.layers=4", "model.heads=2", "model.d=32"])
        sequence = config.model.sequence.model_copy(update={**changes, "recompute": recompute})
        config = config.model_copy(update={"model": config.model.model_copy(update={"sequence": sequence})})
        sizes = sizes_of(config)
        task = build_task(config.features, config.model, sizes.rows, device=torch.device("cpu")).train()
        data = batch_of(config, sizes, ROWS)
        embedded = task.embeddings(data)
        with Live() as live:
            loss, _ = task.loss(
                task.model(data.dense, embedded), data.labels, data.weights, data.loss_rows, data.groups
            )
            loss.backward()
        cost = costs_of(config, sizes).of(ROWS)
        print(changes, recompute, live.most / 2**20, cost.activation_bytes / 2**20)
        assert cost.activation_bytes == pytest.approx(live.most, rel=0.1)
        assert (cost.repeated > 0.3) is recompute
        peaks[recompute] = live.most
    assert peaks[True] < 0.75 * peaks[False]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if SHIPPED[name] else []) for name in sorted(SHIPPED)]
)
def test_shipped_configs_keep_what_is_said(name):
    config = shipped(name)
    sizes = sizes_of(config)
    assert costs_of(config, sizes).of(ROWS).activation_bytes == pytest.approx(
        saved_bytes(config, sizes, ROWS), rel=0.05
    )


def test_bf16_keeps_less_than_a_cpu_does():
    """On a CPU, torch composes rms_norm in bf16 of several operators, which keep more than CUDA's one kernel."""
    config = load(CONFIGS / "kuairand_pure.yaml", ["training.precision=bf16"])
    sizes = sizes_of(config)
    measured = saved_bytes(config, sizes, ROWS)
    counted = costs_of(config, sizes).of(ROWS).activation_bytes
    assert 0.75 * measured < counted < measured
    assert counted < costs_of(shipped("kuairand_pure"), sizes).of(ROWS).activation_bytes


@pytest.mark.parametrize("name", ["default", "paper", "flow sole", "flow s2n", "split", "kind bst", "kind dien"])
def test_flops_are_torchs_of_a_whole_task(name):
    config = small(name)
    sizes = sizes_of(config)
    task = build_task(config.features, config.model, sizes.rows, device=torch.device("cpu")).train()
    cost = costs_of(config, sizes).of(ROWS)
    measured = torchs_flops(task, batch_of(config, sizes, ROWS))
    assert sum(cost.forward_flops.values()) == pytest.approx(measured, rel=0.05)
    assert cost.flops == 3 * sum(cost.forward_flops.values())


def test_blocks_are_the_models_and_copies_count_as_one():
    config = small("two sets")
    cost = costs_of(config, sizes_of(config)).of(ROWS)
    assert {"preprocess", "cross_archs", "interaction_arch", "sequence_archs", "heads"} <= cost.activations.keys()
    assert {"preprocess", "cross_archs", "interaction_arch", "sequence_archs", "heads"} == cost.forward_flops.keys()


def test_few_rows_are_run_as_they_are_and_more_rows_cost_more():
    config = small("default")
    sizes = sizes_of(config)
    costs = costs_of(config, sizes)
    assert costs.of(5).activation_bytes < costs.of(128).activation_bytes < costs.of(129).activation_bytes
    assert costs.of(4 * ROWS).activation_bytes == pytest.approx(4 * costs.of(ROWS).activation_bytes, rel=0.05)
    longer = Sizes(sizes.rows, {name: Lengths.constant(lengths.max) for name, lengths in sizes.lengths.items()})
    assert costs_of(config, longer).of(ROWS).activation_bytes > costs.of(ROWS).activation_bytes


def test_the_random_state_of_the_caller_stays():
    torch.manual_seed(5)
    config = small("default")
    before = torch.get_rng_state()
    with torch.no_grad():
        DenseCosts(config, sizes_of(config)).of(20)
    assert torch.equal(torch.get_rng_state(), before)


def test_lists_shorter_than_one_id_are_not_empty():
    config = load(CONFIGS / "ml_100k.yaml", [])
    sizes = sizes_of(config)
    rare = Sizes(sizes.rows, sizes.lengths | {bag.name: Lengths(0.4, 0, 1, 1, 1, 0.6) for bag in config.features.bags})
    none = Sizes(sizes.rows, sizes.lengths | {bag.name: Lengths.constant(0) for bag in config.features.bags})
    assert costs_of(config, rare).of(ROWS).looked_up >= costs_of(config, none).of(ROWS).looked_up
