"""The exchange that a plan gets is the best of all that are allowed: held against every plan of a small job, with every exchange."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from interformer_rec.config.run import ShardingConfig, load
from interformer_rec.data.fit import Fitted
from interformer_rec.distributed.environment import Environment
from interformer_rec.distributed.lookup.communication import Exchange
from interformer_rec.errors import InputError
from interformer_rec.planning.answer import SLACK, least_step_ms, place
from interformer_rec.planning.choose.exchange import agreed, allowed_exchanges
from interformer_rec.planning.cost.sizes import find_sizes
from interformer_rec.planning.cost.timing import step_time
from interformer_rec.planning.plan_file import read_plan, to_dict, write_plan
from interformer_rec.planning.question import Problem
from interformer_rec.training.build import build_parallel
from tests.launch import on_ranks
from tests.planning.cases import CONFIG, CPU, GPU, problem

EXACT = Exchange(deduplicate=True, communication="fp32")
EVERY = replace(EXACT, deduplicate=False)
HALF = replace(EXACT, communication="fp16")


def counted(folder: Path, kind: dict[str, object], share: float, **options: object) -> Problem:
    """CONFIG with larger histories' tables and counted ids, of which such a share are distinct in any batch."""
    large = CONFIG.replace("num_embeddings: 400", "num_embeddings: 4000000").replace(": 30}", ": 3000000}")
    rows = problem(folder, kind, text=large).sizes.rows
    points = [[float(n), max(1.0, share * n)] for n in (2, 1000, 100_000)]
    known = {"tables": {name: {"rows": count, "distinct": points} for name, count in rows.items()}}
    (folder / "statistics.json").write_text(json.dumps(known))
    return problem(folder, kind, text=large, statistics=str(folder / "statistics.json"), **options)


def plans(asked: Problem) -> Iterator[list]:
    """Every way to place every table."""
    of_table: dict[str, list] = {}
    for option in asked.space():
        numbers = range(asked.ranks)
        free = option.partition_by != "uniform"
        places = itertools.product(numbers, repeat=len(option.shards)) if free else [tuple(numbers)]
        for ranks in places:
            placed = copy.copy(option)
            placed.shards = list(option.shards)
            for shard, rank in zip(placed.shards, ranks, strict=True):
                shard.rank = rank
            of_table.setdefault(option.name, []).append(placed)
    yield from (list(plan) for plan in itertools.product(*of_table.values()))


@pytest.mark.parametrize("share, batch, precision", [
    (0.02, 512, "null"), (1.0, 512, "null"), (0.02, 512, "auto"),
])  # fmt: skip
def test_the_exchange_is_the_best_of_all(tmp_path: Path, share: float, batch: int, precision: str):
    (tmp_path / "c.yaml").write_text("tables: {city: {sharding: [data_parallel]}, words: {sharding: [table_wise]}}")
    settings = {"set": [f"sharding.communication={precision}"], "constraints": str(tmp_path / "c.yaml")}
    asked = counted(tmp_path, CPU, share, batch_size=batch, hardware={"intra_node_gb_per_s": 0.2}, **settings)
    placed = place(asked)
    best = {}
    for deduplicate, communication in itertools.product((False, True), ("fp32", "fp16", "bf16")):
        if precision == "null" and communication != "fp32":
            continue
        with_it = asked.changed(exchange=Exchange(deduplicate, communication))
        best[with_it.exchange] = min(step_time(with_it, plan).total for plan in plans(with_it))
        assert least_step_ms(with_it) <= best[with_it.exchange]
    spent = 1 + SLACK  # for ranks that are less full
    assert min(best.values()) <= placed.time.total * (1 + 1e-9) <= min(best.values()) * spent
    assert best[placed.exchange] <= min(best.values()) * spent
    for one in placed.choice.tried:
        if one.how == "planned":
            assert best[one.exchange] <= one.step_ms * (1 + 1e-9) <= best[one.exchange] * spent
        elif one.how == "at least":
            assert placed.time.total <= one.step_ms <= best[one.exchange]
    assert placed.exchange.deduplicate == (share < 1)  # each id once: there is nothing to save
    assert (placed.exchange.communication == "fp32") == (precision == "null")


def test_what_rounds_is_named_and_not_taken(tmp_path: Path):
    every = ["sharding.deduplicate=false"]
    slow = {"nodes": 4, "batch_size": 4096, "hardware": {"inter_node_gb_per_s": 0.1}}
    placed = place(counted(tmp_path, GPU, 0.5, set=every, **slow))
    assert placed.exchange.communication == "fp32"
    (sentence,) = [text for text in placed.choice.reasons(placed.exchange, placed.time.total) if "fp16" in text]
    (tried,) = [one for one in placed.choice.tried if one.how == "the same plan"]
    assert tried.exchange == replace(placed.exchange, communication="fp16")
    assert f"would save {1 - tried.step_ms / placed.time.total:.0%} of a step" in sentence
    assert "sharding.communication=auto" in sentence
    taken = place(counted(tmp_path, GPU, 0.5, set=[*every, "sharding.communication=auto"], **slow))
    assert taken.exchange.communication == "fp16" and taken.time.total <= tried.step_ms * 1.01


def test_where_nobody_counted_ids_they_are_sent_once(tmp_path: Path):
    placed = place(problem(tmp_path, nodes=2))
    assert placed.exchange == EXACT and not [one for one in placed.choice.tried if one.how != "the same plan"]
    assert "nobody counted the ids of item, tag" in placed.choice.why[0]


def trained_with(env: Environment, config_path: str, plan_path: str) -> Exchange:
    """What a job does that is given the plan and asks for nothing itself."""
    config = load(config_path, [f"sharding.plan={plan_path}"])
    parallel = build_parallel(config, env, Fitted(find_sizes(config).rows))
    return parallel.exchange


def exchanges(config: dict[str, object], ranks: int = 4, **wishes: object) -> tuple[Exchange, ...]:
    given = {"deduplicate": None, "communication": (), "histories": True, "uncounted": [], **wishes}
    return allowed_exchanges(ShardingConfig.model_validate(config), ranks, **given).exchanges


def test_what_is_allowed():
    assert exchanges({}) == (EXACT, EVERY)
    assert exchanges({}, histories=False) == (EXACT,)
    assert exchanges({}, ranks=1) == (EVERY,)
    assert exchanges({"deduplicate": False}) == (EVERY,)
    assert exchanges({}, deduplicate=True) == (EXACT,)
    assert exchanges({"deduplicate": True, "communication": "auto"}) == (EXACT, HALF)
    assert exchanges({"deduplicate": True}, communication=("bf16",)) == (replace(EXACT, communication="bf16"),)
    assert exchanges({"deduplicate": True}, communication=("bf16", "fp32", "fp16")) == (EXACT, HALF)
    assert exchanges({"deduplicate": True, "communication": "fp16"}, communication=("fp32", "fp16")) == (HALF,)


def test_constraints_and_config_that_differ_are_an_error():
    with pytest.raises(InputError, match=r"sharding.deduplicate of the config is false, but constraints say .*: true"):
        exchanges({"deduplicate": False}, deduplicate=True)
    with pytest.raises(
        InputError, match=r"communication of the config is fp32, but constraints say .*: \[fp16, bf16\]"
    ):
        exchanges({"communication": "fp32"}, communication=("fp16", "bf16"))


def test_a_plan_file_keeps_what_was_chosen_and_a_config_that_differs_is_an_error(tmp_path: Path):
    (tmp_path / "c.yaml").write_text("deduplicate: false\ncommunication: [bf16]\n")
    placed = place(problem(tmp_path, CPU, constraints=str(tmp_path / "c.yaml")))
    path = str(tmp_path / "plan.json")
    write_plan(path, to_dict(placed))
    planned, section = read_plan(path).exchange, read_plan(path).sharding.model_dump()
    assert planned == placed.exchange == Exchange(deduplicate=False, communication="bf16")
    assert on_ranks(2, trained_with, str(tmp_path / "small.yaml"), path) == [planned] * 2
    for same in ({}, {"communication": "bf16"}, {"communication": "auto"}, {"deduplicate": False}):
        agreed(ShardingConfig.model_validate(same), section, path)
    for other, words in (
        (
            {"communication": "fp32"},
            r"sharding.communication is fp32, but sharding.plan '.*plan.json' was made for bf16",
        ),
        ({"deduplicate": True}, r"sharding.deduplicate is true, but sharding.plan '.*plan.json' was made for false"),
    ):
        with pytest.raises(InputError, match=words):
            agreed(ShardingConfig.model_validate(other), section, path)
