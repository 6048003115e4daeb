"""Rank, world size, and errors that reach every rank."""

import logging

import pytest
import torch.distributed as dist

from interformer_rec.distributed.environment import process_group
from interformer_rec.errors import DamagedError, InputError
from tests.launch import on_one, on_ranks


def _place(env):
    return env.rank, env.world_size, dist.get_world_size(), env.is_main, env.on_main(lambda: env.rank + 10)


def _failing(env):
    def fail():
        raise InputError(f"bad input seen by rank {env.rank}")

    try:
        env.on_main(fail)
    except InputError as error:
        return str(error)
    return "no error"


def test_one_process_is_world_size_one_of_the_same_path():
    assert on_one(_place) == (0, 1, 1, True, 10)
    assert not dist.is_initialized()


def test_two_ranks_share_rank_zeros_result_and_error():
    assert on_ranks(2, _place) == [(0, 2, 2, True, 10), (1, 2, 2, False, 10)]
    assert on_ranks(2, _failing) == ["bad input seen by rank 0"] * 2


def _raising(env, error):
    def fail():
        raise error

    try:
        env.on_main(fail)
    except Exception as found:
        return type(found).__name__, str(found)
    return "no error"


@pytest.mark.parametrize("error", [OSError(28, "disk full", "a"), MemoryError("no room"), AssertionError("ours")])
def test_an_error_of_rank_0_that_is_not_the_user_s_ends_all_ranks(error):
    own, other = on_ranks(2, _raising, error)
    assert own == (type(error).__name__, str(error))
    assert other == ("OtherRankFailed", f"{type(error).__name__}: {error}")


def test_damage_stays_damage_on_every_rank():
    assert on_ranks(2, _raising, DamagedError("cut")) == [("DamagedError", "cut")] * 2


def test_half_an_environment_is_an_error(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    with (
        pytest.raises(InputError, match=r"RANK but not WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE"),
        process_group("cpu"),
    ):
        pass


def test_cuda_without_a_gpu_is_an_error(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match=r"training.device=cpu"), process_group("cuda"):
        pass


def test_chatter_is_dropped_and_the_rest_is_heard(caplog):
    def speak(env):
        logging.getLogger().warning("Sharding spec not found for embeddings.ebc.tab")
        logging.getLogger().warning("disk is slow")

    on_one(speak)
    assert [record.getMessage() for record in caplog.records] == ["disk is slow"]
