"""Ranks that would run different things are stopped before the first step."""

from __future__ import annotations

import os
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from interformer_rec.config.run import RunConfig
from interformer_rec.data.fit import fit
from interformer_rec.distributed.environment import Environment
from interformer_rec.errors import InputError
from interformer_rec.training import run
from interformer_rec.training.build import train_loader
from interformer_rec.training.start import same_run
from interformer_rec.training.start.same_run import plan_facts, require_same, run_facts
from tests.launch import on_one, on_ranks
from tests.training.runs import TWO_RANKS, save_config


def said_by(env: Environment, facts: list[dict]) -> list[str]:
    """What `require_same` says of some pairs of facts, one for each rank."""
    found = []
    for pair in facts:
        try:
            require_same(env, pair[env.rank])
            found.append("")
        except InputError as error:
            found.append(str(error))
    return found


def plans(env: Environment, config: RunConfig, cases: list[list[str]]) -> list[str]:
    """What is said of data plans of two ranks that have these files."""
    fitted, found = fit(config.features, cases[0][0]), []
    for paths in cases:
        mine = config.model_copy(update={"data": config.data.model_copy(update={"train": paths[env.rank]})})
        found += said_by(env, [[plan_facts({"data.train": train_loader(mine, env, fitted)})] * 2])
    return found


def test_a_difference_names_rank_key_and_both_values(small):
    one = small()
    keys = {
        "seed=7": "seed is 0 on rank 0 and 7 on rank 1",
        "data.batch_size=64": "data.batch_size is 128 on rank 0 and 64 on rank 1",
        "data.balance=none": 'data.balance is "events" on rank 0 and "none" on rank 1',
        "data.train=elsewhere": '/train" on rank 0 and "elsewhere" on rank 1',
        "features.dense.0.log1p=false": "features.dense.0.log1p is true on rank 0 and false on rank 1",
        "features.tables.tags.min_count=3": "features.tables.tags.min_count is 1 on rank 0 and 3 on rank 1",
        "training.epochs=9": "training.epochs is 2 on rank 0 and 9 on rank 1",
    }
    pairs = [(run_facts(one), run_facts(small(override))) for override in keys]
    pairs += [(run_facts(one), run_facts(one, resume=True)), (run_facts(one), run_facts(one))]
    pairs += [(run_facts(one), {**run_facts(one), "version of torch": "0.1", "INTERFORMER_OPS": "torch"})]
    said = on_ranks(2, said_by, pairs)
    assert said[0] == said[1]  # nobody waits for a rank that has ended
    for text, expected in zip(said[0], keys.values(), strict=False):
        assert expected in text and "the ranks of this job do not run the same" in text
    resume, same, version = said[0][len(keys) :]
    assert "--resume is false on rank 0 and true on rank 1" in resume and same == ""
    assert 'and "0.1" on rank 1' in version and "version of torch is" in version
    assert 'INTERFORMER_OPS is not there on rank 0 and "torch" on rank 1' in version


def test_facts_hold_the_whole_config_and_the_releases(small):
    facts = run_facts(small())
    assert facts["data.shuffle_rows"] == 500 and facts["features.sequences.0.columns.1.table"] == "category"
    assert facts["model.head"] == [16] and facts["data.history_pretraining"] is None
    assert (
        facts["checksum of the source of interformer_rec"]
        == run_facts(small())["checksum of the source of interformer_rec"]
    )
    assert {f"version of {name}" for name in ("interformer_rec", "torch", "torchrec", "fbgemm_cpu", "numpy")} <= set(
        facts
    )


def test_other_files_on_one_rank_are_named(small, synthetic, tmp_path):
    """The same number of rows in other files, and the same files with other row groups."""
    config = small("data.workers=1")
    table = pq.read_table(synthetic / "train")
    for name, sizes in (("groups", [300]), ("files", [700, 801])):
        (tmp_path / name).mkdir()
        start = 0
        for number, rows in enumerate(sizes if name == "files" else [501, 500, 500]):
            piece = table.slice(start, rows)
            size = 10**6 if name == "files" else 100
            pq.write_table(piece, tmp_path / name / f"part-{number:05d}.parquet", row_group_size=size)
            start += rows
    whole, groups, files = str(synthetic / "train"), str(tmp_path / "groups"), str(tmp_path / "files")
    said = on_ranks(2, plans, config, [[whole, groups], [whole, files], [whole, whole]])
    assert said[0] == said[1] and said[0][2] == ""
    assert "data.train: row groups is" in said[0][0]
    assert "data.train: rows of its files is" in said[0][1] and "700" in said[0][1] and "on rank 1" in said[0][1]


def test_long_values_are_shown_where_they_part():
    one, other = (str(list(range(200))), str([*range(199), 7]))
    mine, theirs = same_run._apart(one, other)
    assert mine != theirs and mine.startswith("...") and len(mine) <= same_run.LONGEST + 6


def test_train_compares_before_it_does_anything(small, tmp_path, monkeypatch):
    """In the place of a second rank: a comparison that always fails."""

    def differ(env: Environment, facts: dict) -> None:
        raise InputError(f"{env.rank} has {facts['seed']}")

    monkeypatch.setattr(run, "require_same", differ)
    with pytest.raises(InputError, match="0 has 5"):
        run.train(small("seed=5"))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_job_whose_ranks_have_other_seeds_ends_with_the_sentence(small, tmp_path):
    """The whole way: torchrun, two ranks, the command line."""
    path = save_config(small, tmp_path)
    command = f"{sys.executable} -m interformer_rec.cli train {path} --set seed=$RANK"
    launch = [*TWO_RANKS[: TWO_RANKS.index("2") + 1], "--no-python", "bash", "-c", command]
    ended = subprocess.run(
        launch, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert ended.returncode != 0
    assert "the ranks of this job do not run the same: seed is 0 on rank 0 and 1 on rank 1" in ended.stderr
    assert not (tmp_path / "run").exists()


def test_one_rank_is_the_same_as_itself(small):
    on_one(require_same, run_facts(small()))
