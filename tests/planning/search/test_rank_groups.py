"""Tables that have to stay on some hosts or ranks: from the constraints file to the plan, its bound and its errors."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from interformer_rec.errors import InputError
from interformer_rec.planning.answer import DoesNotFit, place
from interformer_rec.planning.choose.levers import when_nothing_fits
from interformer_rec.planning.explain import explain
from interformer_rec.planning.search.bound import lower_bound, threshold_bound
from interformer_rec.planning.search.errors import NoPlan
from interformer_rec.planning.search.rank_groups import RankGroup, group_of_hosts, group_of_ranks
from interformer_rec.planning.search.search import search
from interformer_rec.planning.search.select import ProgramColumns
from interformer_rec.planning.search.space import build_problem
from interformer_rec.planning.what_if import sweep
from tests.planning.cases import CONFIG, cluster, problem
from tests.planning.problems import GIB, option
from tests.planning.problems import cluster as topology_of


def test_numbers_ranges_and_names():
    assert group_of_hosts((0, "2-3"), {}, hosts=4, local=2) == RankGroup("hosts 0, 2-3", (0, 1, 4, 5, 6, 7))
    assert group_of_hosts("front", {"front": (1, "0")}, hosts=4, local=2) == RankGroup("hosts 0-1", (0, 1, 2, 3))
    assert group_of_ranks(3, {}, ranks=4) == RankGroup("rank 3", (3,))
    both = RankGroup("hosts 0-1", (0, 1, 2, 3)) & RankGroup("ranks 2-9", (2, 3, 4))
    assert both == RankGroup("hosts 0-1 and ranks 2-9", (2, 3))


@pytest.mark.parametrize(
    "text, part",
    [
        ("tables: {user: {hosts: [1, 2]}}", "of table 'user': there is no host 2: this job has hosts 0-1"),
        ("tables: {user: {ranks: [7]}}", "of table 'user': there is no rank 7: this job has ranks 0-3"),
        ("tables: {user: {hosts: back}}\nhost_groups: {front: [0]}", "'back' is neither a number.*(front)"),
        ("tables: {user: {hosts: 1-0}}", "'1-0' is neither a number"),
        ("tables: {user: {hosts: [0], ranks: [1]}}", "hosts and ranks are both given"),
        ("tables: {user: {hosts: [0], sharding: [row_wise]}}", "'user' no option.*row_wise.*on host 0 of cuda; it may have"),
        ("tables: {user: {hosts: [0]}, city: {hosts: [1]}}\ntogether: [[user, city]]", "on host 0 and host 1: no rank"),
    ],
)  # fmt: skip
def test_impossible_places(tmp_path: Path, text: str, part: str):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(InputError, match=part):
        place(problem(tmp_path, nodes=2, constraints=str(tmp_path / "c.yaml")))


def test_tables_stay_where_they_may_lie(tmp_path: Path):
    (tmp_path / "c.yaml").write_text(
        "default: {hosts: back}\nhost_groups: {back: [1, 2]}\ntogether: [[user, words]]\n"
        "tables: {user: {ranks: [3, 5, 6]}, item: {hosts: 0-3}, words: {hosts: back}}\n"
    )
    placed = place(problem(tmp_path, nodes=4, constraints=str(tmp_path / "c.yaml"), hardware={"max_nodes": 4}))
    ranks = {option.name: {shard.rank for shard in option.shards} for option in placed.options}
    assert ranks["city"] <= {2, 3, 4, 5} and ranks["tag"] <= {2, 3, 4, 5}
    assert ranks["user"] == ranks["words"] and ranks["user"] <= {3, 5}
    reports = {report.name: report for report in explain(placed)}
    assert reports["city"].kept_on == "hosts 1-2" and reports["item"].kept_on == ""
    reasons = {rejected.sharding: rejected.reason for rejected in reports["city"].rejected}
    assert reasons["row_wise"].startswith("constraints allow hosts 1-2 only, and row_wise is on all 8 ranks (without")
    assert placed.bound <= placed.perf * (1 + 1e-9)


def test_a_group_too_small_says_how_much_it_lacks(tmp_path: Path):
    text = CONFIG.replace("num_embeddings: 900", "num_embeddings: 600000000")  # 35.8 GiB; a host has 2 x 14.4
    (tmp_path / "c.yaml").write_text("tables: {user: {hosts: [0]}}")
    asked = problem(tmp_path, nodes=4, text=text, constraints=str(tmp_path / "c.yaml"))
    with pytest.raises(DoesNotFit, match=r"'user'.* fits in none.* of host 0, as constraints want"):
        place(asked)
    first = next(when_nothing_fits(asked))
    assert first.what == "lift the constraints on hosts and ranks"
    small, enough = sweep(asked, [cluster()], [1, 4], [16])
    assert small.step_ms is None and enough.step_ms is None
    space = [option(f"t{i}", "table_wise", (1.0, 3 * GIB)) for i in range(5)]
    groups = dict.fromkeys(["t0", "t1", "t2"], RankGroup("host 1", (2, 3)))
    with pytest.raises(NoPlan, match=r"keep t0, t1, t2 on host 1; that does not fit by 1.00 GiB on host 1") as caught:
        search(space, topology_of(4, 2, hbm=4 * GIB), groups=groups)
    assert caught.value.proven


def test_a_sweep_goes_on_where_a_job_lacks_the_hosts(tmp_path: Path):
    (tmp_path / "c.yaml").write_text("tables: {user: {hosts: [1]}}")
    one, two = sweep(problem(tmp_path, nodes=2, constraints=str(tmp_path / "c.yaml")), [cluster()], [1, 2], [16])
    assert one.step_ms is None and "there is no host 1: this job has host 0 only" in one.why
    assert two.step_ms is not None


def best_in_groups(tables: list[list[float]], groups: dict[str, RankGroup], ranks: int) -> float:
    """The least slowest rank by trying everything: table i is whole, or in two pieces."""
    totals = [np.zeros(ranks)]
    for number, pieces in enumerate(tables):
        open_ranks = groups[f"t{number}"].ranks if f"t{number}" in groups else range(ranks)
        found = []
        for total in totals:
            for first in open_ranks:
                whole = total.copy()
                whole[first] += pieces[0]
                found.append(whole)
                for second in open_ranks:
                    cut = total.copy()
                    cut[first] += pieces[1]
                    cut[second] += pieces[1]
                    found.append(cut)
        totals = found
    return min(float(total.max()) for total in totals)


@pytest.mark.parametrize("seed", range(6))
def test_groups_are_solved_and_bounded(seed: int):
    """Four tables on four ranks, some confined: the best of all placements, its bound never above it."""
    draw = random.Random(seed)
    tables = [[ms := draw.uniform(1, 10), 0.6 * ms] for _ in range(4)]
    some = [RankGroup("host 0", (0, 1)), RankGroup("ranks 1-2", (1, 2)), RankGroup("rank 3", (3,))]
    groups = {f"t{i}": draw.choice(some) for i in range(4) if draw.random() < 0.7}
    space = []
    for i, (whole, cut) in enumerate(tables):
        space += [option(f"t{i}", "table_wise", (whole, 1)), option(f"t{i}", "column_wise", (cut, 1), (cut, 1))]
        space.append(option(f"t{i}", "row_wise", *[(whole / 20, 1)] * 4))  # would win, if it were allowed
    confined = [o for o in space if o.name in groups or o.sharding_type != "row_wise"]
    best = best_in_groups(tables, groups, 4)
    found = search(confined, topology_of(4, 2, ddr=0), groups=groups)
    assert found.perf == pytest.approx(best, rel=1e-5)
    columns = ProgramColumns(build_problem(confined, topology_of(4, 2, ddr=0), groups))
    assert lower_bound(columns, threshold_bound(columns), best) <= best * (1 + 1e-9)
    for o in found.options:
        assert o.name not in groups or {s.rank for s in o.shards} <= set(groups[o.name].ranks)


def test_the_bound_counts_what_a_group_has_to_hold():
    """Eight tables of 1 ms on two of eight ranks: 4 ms, though all ranks together would need 1."""
    space = [option(f"t{i}", "table_wise", (1.0, 1)) for i in range(8)]
    groups = dict.fromkeys([f"t{i}" for i in range(8)], RankGroup("ranks 0-1", (0, 1)))
    found = search(space, topology_of(8, ddr=0), groups=groups)
    assert found.perf == 4.0 and found.gap == pytest.approx(0.0, abs=1e-3)


def test_many_tables_in_two_groups_are_balanced():
    draw = random.Random(1)
    space = [option(f"t{i}", "table_wise", (draw.uniform(1, 2), 1)) for i in range(120)]
    groups = {f"t{i}": RankGroup("host 0", (0, 1, 2, 3)) for i in range(40)}
    groups |= {f"t{i}": RankGroup("hosts 1-3", tuple(range(4, 16))) for i in range(40, 60)}
    found = search(space, topology_of(16, 4, ddr=0), groups=groups)
    assert found.gap < 0.02
    for o in found.options:
        assert o.name not in groups or o.shards[0].rank in groups[o.name].ranks
