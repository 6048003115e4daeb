"""Levers: what they say holds for the job with that setting, their counts for the model that does so, the choice for all choices."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch.utils.checkpoint import checkpoint

from interformer_rec.config.run import ShardingConfig
from interformer_rec.errors import InputError
from interformer_rec.model.sequence_arch import SequenceArch
from interformer_rec.planning.answer import SHARES, SLACK, best_cache, place, placed_of_plan, rank_loads
from interformer_rec.planning.choose.exchange import agreed
from interformer_rec.planning.choose.levers import (
    RECOMPUTED,
    in_pieces,
    recomputed,
    when_nothing_fits,
    when_tight,
)
from interformer_rec.planning.cost.dense_time import dense_time
from interformer_rec.planning.plan_file import read_plan, to_dict, write_plan
from interformer_rec.planning.table_plan import TablePlan
from tests.planning.cases import CONFIG, CPU, problem
from tests.planning.measure import saved_bytes

BIG = CONFIG.replace("num_embeddings: 900", "num_embeddings: 1500000000")  # 89 GiB of weights, 5.6 of state
DEEP = CONFIG.replace("layers: 1", "layers: 3").replace("d: 8, ", "d: 32, ")


def test_when_nothing_fits_every_lever_does_and_names_its_setting(tmp_path: Path):
    asked = problem(tmp_path, text=BIG, nodes=2)
    levers = {lever.what: lever for lever in when_nothing_fits(asked)}
    for lever in levers.values():
        assert lever.placed.memory.peak.max() <= lever.placed.problem.usable
    (host,) = [lever for what, lever in levers.items() if what.startswith("keep 1 table(s) in host memory")]
    assert {o.compute_kernel for o in host.placed.options if o.name == "user"} == {"fused_uvm_caching"}
    assert "sharding.plan" in host.setting and f"{host.placed.host_cache:.0%} of their rows" in host.what
    (half,) = [lever for what, lever in levers.items() if "half precision" in what]
    assert half.text(32).endswith("[not supported by train]")
    (nodes,) = [what for what in levers if "nodes" in what]
    assert nodes.endswith("instead of 2")


def test_constraints_in_the_way_are_found(tmp_path: Path):
    text = CONFIG.replace("num_embeddings: 900", "num_embeddings: 300000000")
    (tmp_path / "c.yaml").write_text("tables: {user: {sharding: [table_wise]}}")
    asked = problem(tmp_path, text=text, nodes=2, constraints=str(tmp_path / "c.yaml"))
    first = next(iter(when_nothing_fits(asked)))
    assert first.what.startswith("lift the constraints")
    assert {o.sharding_type for o in first.placed.options if o.name == "user"} != {"table_wise"}


def test_a_batch_too_large_has_levers_and_their_settings_make_it_fit(tmp_path: Path):
    asked = problem(tmp_path, CPU, batch_size=1_000_000)
    samples = 2 * 1_000_000
    levers = list(when_nothing_fits(asked))
    (batch,) = [lever for lever in levers if lever.setting.startswith("data.batch_size=")]
    again = place(problem(tmp_path, CPU, set=[batch.setting]))
    assert batch.ms(samples) == pytest.approx(again.time.total * samples / (2 * again.problem.batch_size))
    assert f"{batch.ms(samples):.3g} ms for 2,000,000 samples" in batch.text(samples)
    settings = [lever.setting for lever in levers if lever.what.startswith("microbatches")]
    assert all(setting.startswith("training.microbatches=") for setting in settings)


def test_the_share_of_the_cache_is_the_best_that_fits(tmp_path: Path):
    (tmp_path / "c.yaml").write_text("tables: {user: {kernels: [fused_uvm_caching]}}")
    options = {
        "text": BIG.replace("1500000000", "400000000"),
        "constraints": str(tmp_path / "c.yaml"),
        "batch_size": 4096,
    }
    asked = problem(tmp_path, **options)
    placed = place(asked.changed(cache_share=SHARES[-1]))
    plan = {option.name: TablePlan.of(option) for option in placed.options}
    found = {}
    for share in SHARES:  # a config of its own for each: nothing is shared with what is tested
        with_it = placed_of_plan(problem(tmp_path, set=[f"sharding.host_cache={share}"], **options), plan)
        if with_it.memory.peak.max() <= asked.usable:
            found[share] = with_it.time.total
    assert 1 < len(found) < len(SHARES)
    best = best_cache(placed)
    assert best.host_cache == min(found, key=found.get)
    assert best.time.total == pytest.approx(min(found.values()))
    assert best.time.total < placed.time.total
    assert place(asked).time.total <= best.time.total * (1 + SLACK)
    assert best.perf == pytest.approx(rank_loads(best.options, 2).max())
    path = str(tmp_path / "plan.json")
    write_plan(path, to_dict(best))
    planned = read_plan(path).sharding.model_dump()
    assert planned["host_cache"] == best.host_cache
    agreed(ShardingConfig(), planned, path)
    with pytest.raises(InputError, match=r"sharding.host_cache is 0.99, but sharding.plan .* was made for"):
        agreed(ShardingConfig(host_cache=0.99), planned, path)


def test_recomputing_keeps_what_a_checkpointed_model_keeps(tmp_path: Path, monkeypatch):
    asked = problem(tmp_path, CPU, text=DEEP, batch_size=64)
    again = recomputed(asked)
    whole = saved_bytes(asked.config, asked.sizes, 64)
    forward = SequenceArch.forward
    monkeypatch.setattr(SequenceArch, "forward", lambda *args: checkpoint(forward, *args, use_reentrant=False))
    less = saved_bytes(asked.config, asked.sizes, 64)
    alive = asked.dense.activations[RECOMPUTED] // 3  # one layer's, when its turn has come
    assert again.dense.activation_bytes - alive == pytest.approx(less, rel=0.15)
    assert less < 0.8 * whole
    (forward_ms, backward_ms), (same, more) = dense_time(asked.dense, asked.cluster, "fp32"), again.dense_ms
    assert same == forward_ms and 0 < more - backward_ms < forward_ms
    assert place(again).memory.peak.max() < place(asked).memory.peak.max()


def test_microbatches_keep_a_part_and_start_everything_again(tmp_path: Path):
    asked = problem(tmp_path, CPU, batch_size=64)
    quarter = in_pieces(asked, 4)
    small = problem(tmp_path, CPU, batch_size=16)
    assert quarter.dense.activations == small.dense.activations and quarter.dense.looked_up == asked.dense.looked_up
    assert quarter.dense_ms == pytest.approx([4 * ms for ms in dense_time(small.dense, asked.cluster, "fp32")])


def test_a_tight_plan_names_levers_with_their_price_and_a_roomy_one_none(tmp_path: Path):
    roomy = place(problem(tmp_path, batch_size=4096))
    assert when_tight(roomy) == []
    peak = roomy.memory.peak.max() / 2**30
    tight = place(problem(tmp_path, batch_size=4096, hardware={"hbm_gib": peak / 0.9 / 0.97}))
    levers = when_tight(tight)
    assert {lever.what.split(" of ")[0] for lever in levers} >= {"use a batch", "microbatches"}
    for lever in levers:
        assert lever.placed.memory.peak.max() < tight.memory.peak.max()
    (batch,) = [lever for lever in levers if lever.what.startswith("use a batch")]
    alone = placed_of_plan(
        tight.problem.changed(batch_size=2048), {o.name: TablePlan.of(o) for o in tight.options}
    )  # two steps of half the rows
    assert batch.ms(8192) == pytest.approx(2 * alone.time.total)
    assert f"({batch.ms(8192) - tight.time.total:+.3g})" in batch.text(8192, tight)
