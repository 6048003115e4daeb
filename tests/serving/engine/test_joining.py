import numpy as np

from interformer_rec.serving.engine.joining import cut, join
from interformer_rec.serving.request import Bags, Histories, Inputs, Rows


def rows(rng: np.random.Generator, count: int, histories: int) -> Rows:
    bag, lengths = rng.integers(0, 3, count), [rng.integers(0, 4, count) for _ in range(histories)]
    return Rows(
        dense=rng.normal(size=(count, 2)).astype(np.float32),
        ids=rng.integers(0, 9, (count, 3)),
        bags=(Bags(rng.integers(0, 9, bag.sum()), bag),),
        histories=tuple(Histories(rng.integers(0, 9, (one.sum(), 2)), one) for one in lengths),
    )


def per_row(found: Rows) -> list[tuple[object, ...]]:
    """Each row's values as plain lists."""
    bags = [np.split(bag.rows, np.cumsum(bag.lengths)[:-1]) for bag in found.bags]
    histories = [np.split(one.rows, np.cumsum(one.lengths)[:-1]) for one in found.histories]
    return [
        (found.dense[i].tolist(), found.ids[i].tolist(), [part[i].tolist() for part in (*bags, *histories)])
        for i in range(found.count)
    ]


def test_joined_requests_keep_their_rows_and_owners() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        parts = []
        for _ in range(int(rng.integers(1, 5))):
            users, candidates = int(rng.integers(1, 4)), int(rng.integers(1, 6))
            parts.append(Inputs(rows(rng, users, 2), rows(rng, candidates, 0), rng.integers(0, users, candidates)))
        joined = join(parts)
        assert per_row(joined.users) == [row for part in parts for row in per_row(part.users)]
        assert per_row(joined.candidates) == [row for part in parts for row in per_row(part.candidates)]
        whose = [per_row(part.users)[owner] for part in parts for owner in part.owners]
        assert [per_row(joined.users)[owner] for owner in joined.owners] == whose
        back = cut(joined.candidates.dense, [part.candidates.count for part in parts])
        for part, mine in zip(parts, back, strict=True):
            np.testing.assert_array_equal(part.candidates.dense, mine)


def test_one_request_is_passed_on_as_it_is() -> None:
    rng = np.random.default_rng(1)
    one = Inputs(rows(rng, 1, 1), rows(rng, 3, 0), np.zeros(3, np.int64))
    assert join([one]).candidates is one.candidates
