"""Clusters of several kinds of nodes: no faster than the slowest of them, at the price of all."""

from __future__ import annotations

from pathlib import Path

import pytest

from interformer_rec.errors import InputError
from interformer_rec.planning.answer import place
from interformer_rec.planning.choose.mixed import clusters_named, its_nodes, nodes_of
from tests.planning.cases import problem

OLD, NEW = "dgx-a100-80", "dgx-h100"
BOTH = f"{OLD}*2+{NEW}*1"


def test_a_step_is_no_shorter_than_on_the_slowest_alone(tmp_path: Path):
    found = clusters_named([OLD, NEW, BOTH], {OLD: 30.0, NEW: 90.0})
    asked = problem(tmp_path, batch_size=4096)
    steps = {name: place(asked.changed(cluster=found[name], nodes=3)).time.total for name in found}
    assert steps[BOTH] >= max(steps[OLD], steps[NEW]) * (1 - 1e-9)
    assert steps[BOTH] == pytest.approx(steps[OLD], rel=0.01)  # an A100 is slower in nearly everything
    assert found[BOTH].price_per_node_hour == pytest.approx((2 * 30 + 90) / 3)
    assert found[BOTH].hbm_gib == min(found[OLD].hbm_gib, found[NEW].hbm_gib)
    assert clusters_named([BOTH], {OLD: 30.0})[BOTH].price_per_node_hour is None  # of one kind unknown: of all unknown


def test_its_number_of_nodes_is_in_the_name():
    assert its_nodes(BOTH) == 3 and its_nodes(NEW) is None and its_nodes("a+b.yaml") is None
    assert nodes_of(BOTH, None) == nodes_of(BOTH, 3) == 3 and nodes_of(NEW, None) == 1 and nodes_of(NEW, 5) == 5
    with pytest.raises(InputError, match="has 3 nodes, and 4 are asked for"):
        nodes_of(BOTH, 4)


@pytest.mark.parametrize("name, part", [
    (f"{NEW}*1+cpu*1", "cannot be planned: device"),
    (f"{NEW}*0+{OLD}*1", "one node at least"), (f"{NEW}*1+dgx-x*1", "'dgx-x' is neither known"),
])  # fmt: skip
def test_kinds_that_do_not_go_together(name: str, part: str):
    with pytest.raises(InputError, match=part):
        clusters_named([name], {})
