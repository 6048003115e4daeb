"""Blocks of candidates: each of one user, in places that give the candidates back in their order."""

import numpy as np
import pytest

from interformer_rec.ops.padding.candidate_blocks import CandidateBlocks


@pytest.mark.parametrize("seed", range(30))
def test_blocks_hold_one_users_candidates_and_give_them_back(seed):
    rng = np.random.default_rng(seed)
    users = int(rng.integers(1, 8))
    owners = rng.integers(0, users, rng.choice([1, 2, 9, 60]))
    if seed % 2:
        owners.sort()
    blocks = CandidateBlocks.of(owners, users)
    whose = blocks.cut(owners)
    assert whose.shape == (len(blocks.owners), blocks.size)
    values = np.arange(2 * len(owners)).reshape(-1, 2)
    cut = blocks.cut(values)
    np.testing.assert_array_equal(blocks.joined(cut), values)
    # a place whose candidate is another user's is one that is left over
    mine = whose == blocks.owners[:, None]
    assert set(cut[mine][:, 0]) == set(values[:, 0])


@pytest.mark.parametrize(
    "counts, shape",
    [([500], (1, 500)), ([1] * 16, (16, 1)), ([50, 0, 50], (2, 50)), ([500, 1], (17, 32)), ([1, 1, 1, 40], (13, 4))],
)
def test_blocks_are_as_large_as_costs_least(counts, shape):
    owners = np.arange(len(counts)).repeat(counts)
    blocks = CandidateBlocks.of(owners, len(counts))
    assert (len(blocks.owners), blocks.size) == shape
    assert (blocks.taken is None) == (shape[0] * shape[1] == len(owners))


def test_no_candidate_is_no_block():
    blocks = CandidateBlocks.of(np.zeros(0, np.int64), 3)
    assert blocks.cut(np.zeros((0, 4))).shape == (0, 1, 4)
