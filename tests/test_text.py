"""How numbers are written."""

from interformer_rec.text import ranges, ranks, runs


def test_runs_of_numbers():
    assert runs([5, 0, 1, 2]) == [(0, 2), (5, 5)] and runs([]) == []
    assert ranges([0, 1, 2, 5, 7, 8]) == "0-2, 5, 7-8"
    assert ranges((0, 1, 2, 3, 8, 10, 11), most=6) == "0-3, 8, 10-11"
    assert ranges(tuple(range(0, 40, 2)), most=6) == "0, 2, 4, 6, 8, 10, ... (20)"
    assert ranks([5, 0, 1, 2]) == "0–2, 5" and ranks("all") == "all"
