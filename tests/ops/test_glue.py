"""The union of jagged groups against loops over samples, with its edges."""

from __future__ import annotations

import pytest
import torch

from interformer_rec.ops.glue import union


def by_loops(groups: list[list[list[int]]]) -> tuple[list[list[int]], list[list[list[bool]]]]:
    """Ids and marks of every sample's union; groups[g][i] are the ids of sample i."""
    ids, marks = [], []
    for sample in zip(*groups, strict=True):
        events: list[int] = []
        for g, group in enumerate(sample):
            events = [e for e in group if not any(e in earlier for earlier in sample[:g])] + events
        ids.append(events)
        marks.append([[e in group for group in sample] for e in events])
    return ids, marks


def jagged(group: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor([e for part in group for e in part], dtype=torch.int64), torch.tensor([len(p) for p in group])


@pytest.mark.parametrize("seed", range(20))
def test_union_agrees_with_loops(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def draw(high: int) -> int:
        return int(torch.randint(0, high, (1,), generator=generator))

    groups = [[[draw(8) for _ in range(draw(7))] for _ in range(5)] for _ in range(1 + seed % 4)]
    found = union([jagged(group) for group in groups])
    ids, marks = by_loops(groups)
    every = torch.cat([jagged(group)[0] for group in groups])
    assert every[found.rows_E].tolist() == [e for part in ids for e in part]
    assert found.lengths_B.tolist() == [len(part) for part in ids]
    assert found.marks_EG.tolist() == [row for part in marks for row in part]


def test_union_of_empty_histories_is_empty() -> None:
    none = torch.zeros(0, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)
    found = union([none, none])
    assert found.rows_E.tolist() == [] and found.lengths_B.tolist() == [0, 0, 0] and found.marks_EG.shape == (0, 2)


def test_large_ids_do_not_meet_those_of_another_sample() -> None:
    big = 2**40
    found = union([(torch.tensor([big, 0]), torch.tensor([1, 1])), (torch.tensor([0, big]), torch.tensor([1, 1]))])
    assert found.marks_EG.tolist() == [[False, True], [True, False], [False, True], [True, False]]
