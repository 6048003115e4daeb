from __future__ import annotations

from pathlib import Path

import pytest

from interformer_rec.errors import InputError
from interformer_rec.planning.answer import DoesNotFit, place, placed_of_plan, rank_loads
from interformer_rec.planning.cost.timing import step_time
from interformer_rec.planning.cost.traffic import traffic
from interformer_rec.planning.plan_file import read_plan, to_dict, write_plan
from tests.planning.cases import CONFIG, CPU, GPU, problem

GIB = 1 << 30


@pytest.mark.parametrize("kind, nodes", [(GPU, 1), (GPU, 4), (CPU, 1), (CPU, 2)])
def test_every_table_is_placed_whole_and_fits(tmp_path: Path, kind, nodes):
    placed = place(problem(tmp_path, kind, nodes))
    assert {option.name for option in placed.options} == set(placed.problem.tables)
    for option in placed.options:
        table = placed.problem.tables[option.name]
        copies = placed.problem.ranks if option.sharding_type == "data_parallel" else 1
        assert sum(s.size[0] * s.size[1] for s in option.shards) == copies * table.rows * table.dim
        assert all(0 <= s.rank < placed.problem.ranks for s in option.shards)
    assert placed.memory.peak.max() <= placed.problem.usable
    assert placed.bound <= placed.perf * (1 + 1e-9)
    assert placed.perf == pytest.approx(rank_loads(placed.options, placed.problem.ranks).max())


@pytest.mark.parametrize(
    "kind, nodes, sharding", [(GPU, 2, ""), (CPU, 1, ""), (GPU, 2, "column_wise"), (GPU, 2, "grid_shard")]
)
def test_a_given_plan_costs_what_it_cost_when_it_was_found(tmp_path: Path, kind, nodes, sharding):
    text = CONFIG.replace("900, embedding_dim: 16", "900, embedding_dim: 256")
    (tmp_path / "c.yaml").write_text(f"tables: {{user: {{sharding: [{sharding}]}}}}")
    placed = place(problem(tmp_path, kind, nodes, text, constraints=str(tmp_path / "c.yaml")))
    path = str(tmp_path / "p.json")
    write_plan(path, to_dict(placed))
    asked = placed.problem
    given = placed_of_plan(asked, read_plan(path).tables)
    assert given.perf == pytest.approx(placed.perf)
    assert rank_loads(given.options, asked.ranks) == pytest.approx(rank_loads(placed.options, asked.ranks))
    assert given.time.total == pytest.approx(placed.time.total)
    assert given.memory.peak == pytest.approx(placed.memory.peak)
    assert {o.name: [s.rank for s in o.shards] for o in given.options} == {
        o.name: [s.rank for s in o.shards] for o in placed.options
    }


def test_a_given_plan_that_cannot_be_estimated_is_refused(tmp_path: Path):
    asked = problem(tmp_path, CPU)
    path = str(tmp_path / "p.json")
    write_plan(path, to_dict(place(asked)))
    plan = dict(read_plan(path).tables)
    user = plan.pop("user")
    plan["user"] = user.model_copy(update={"shards": [(rank, 0, 0, 900, 16) for rank in (0, 1, 0)]})
    with pytest.raises(InputError, match=r"table .user.: the plan has 3 .* shards"):
        placed_of_plan(asked, plan)
    del plan["user"]
    with pytest.raises(InputError, match="the plan has no table 'user'"):
        placed_of_plan(asked, plan)


def test_ids_a_row_decide_what_a_table_costs(tmp_path: Path):
    """TorchRec's planner takes 1 for every feature unless given another."""
    whole = ["sharding.default=table_wise"]  # what sharding types cost beside their shards is no matter here
    every = {"set": [*whole, "sharding.deduplicate=false"]}
    short, long = (place(problem(tmp_path, lengths=[f"clicks={n}"], **every)) for n in (1, 12))
    assert long.perf > 1.5 * short.perf
    # 3,072 ids of a table of 402 rows
    once = place(problem(tmp_path, lengths=["clicks=12"], batch_size=256, set=whole))
    again = place(problem(tmp_path, lengths=["clicks=12"], batch_size=256, **every))
    assert once.perf < again.perf


def test_send_buffers_are_counted_where_they_are_the_peak(tmp_path: Path):
    """Bags so long that sorting their ids takes most memory: a device that holds only the dense stage gets no plan."""
    (tmp_path / "c.yaml").write_text("default: {sharding: [table_wise]}")
    options = {"batch_size": 4096, "constraints": str(tmp_path / "c.yaml"), "lengths": ["words=2000"]}
    dense, exchange = (moment.max() / 0.9 / GIB for moment in place(problem(tmp_path, **options)).memory.moments)
    assert exchange > 1.1 * dense
    with pytest.raises(DoesNotFit):
        place(problem(tmp_path, **options, hardware={"hbm_gib": 0.99 * exchange}))
    roomy = place(problem(tmp_path, **options, hardware={"hbm_gib": 2 * exchange}))
    assert roomy.memory.moment == "exchange"
    assert roomy.memory.peak.max() <= roomy.problem.usable


def test_no_plan_says_how_much_is_needed_and_there(tmp_path: Path):
    text = CONFIG.replace("num_embeddings: 900", "num_embeddings: 2000000000")
    with pytest.raises(
        DoesNotFit, match=r"5 tables \(119\.2 GiB of weights\) on 1 x two-gpus \(2 ranks with 12\.\d GiB"
    ):
        place(problem(tmp_path, text=text))
    with pytest.raises(DoesNotFit, match=r"no memory is left for tables on two-gpus.*a batch of 10000000 rows needs"):
        place(problem(tmp_path, batch_size=10_000_000))


def test_vectors_by_hand(tmp_path: Path):
    """One pooled table on one rank of 2 x 2: half of its vectors leave the node, a quarter stays on it, a quarter on the rank."""
    (tmp_path / "c.yaml").write_text("default: {sharding: [table_wise]}")
    placed = place(problem(tmp_path, nodes=2, constraints=str(tmp_path / "c.yaml")))
    (user,) = [option for option in placed.options if option.name == "user"]
    time, sent = step_time(placed.problem, [user]), traffic(placed.problem, [user]).owner
    vectors, rank = 4 * 16 * 16 * 4, user.shards[0].rank  # ranks x rows x floats x bytes
    assert sent["far"][rank] == vectors / 2 and sent["near"][rank] == vectors / 4
    assert time.forward[rank] == pytest.approx(max(vectors / 2 / 10, vectors / 4 / 100) / (0.8 * 1e6))
    assert time.backward[rank] == time.forward[rank] == time.forward.sum()
    assert time.lookup[rank] == pytest.approx(user.shards[0].perf.fwd_compute)


@pytest.mark.parametrize("kind, nodes", [(GPU, 1), (GPU, 4), (CPU, 1), (CPU, 2)])
def test_the_search_minimises_what_is_printed(tmp_path: Path, kind, nodes):
    """The slowest rank's shards are the part of the step that depends on where tables lie, and the bound is of the same."""
    placed = place(problem(tmp_path, kind, nodes))
    time = placed.time
    assert time.by_rank == pytest.approx(rank_loads(placed.options, placed.problem.ranks))
    rest = time.ids_left if time.ids_hidden else 0.0  # on a CPU they are among the tables' time
    assert time.total == pytest.approx(placed.perf + time.without_tables + rest)
    assert placed.step_bound <= time.total


def test_a_step_is_the_sum_of_its_items_and_hides_what_it_can(tmp_path: Path):
    placed = place(problem(tmp_path, nodes=2))
    time = placed.time
    assert time.total == pytest.approx(sum(time.items.values()))
    assert time.reduce_left == max(0.0, time.all_reduce.total - time.dense_backward)
    slow = place(problem(tmp_path, nodes=2, batch_size=4096, hardware={"inter_node_gb_per_s": 0.001}))
    assert slow.time.reduce_left > 0 and "inter-node" in slow.time.bottleneck
    assert slow.time.serial > slow.time.total
    assert placed.samples_per_second == pytest.approx(1000 * 16 * 4 / time.total)


def test_one_rank_sends_nothing(tmp_path: Path):
    time = place(problem(tmp_path, CPU, hardware={"devices_per_node": 1})).time
    assert time.forward.sum() == time.backward.sum() == time.all_reduce.total == time.ids.sum() == time.starts == 0


def test_faster_hardware_is_not_slower(tmp_path: Path):
    base = place(problem(tmp_path, nodes=2)).time.total
    for field, value in (
        ("hbm_gb_per_s", 4000),
        ("inter_node_gb_per_s", 90),
        ("fp32_tflops", 60),
        ("intra_node_gb_per_s", 900),
    ):
        # which sharding types are left out is not searched to the end
        assert place(problem(tmp_path, nodes=2, hardware={field: value})).time.total <= base * 1.01


def test_large_batches_are_compute_and_small_ones_wait_for_launches(tmp_path: Path):
    small, large = (place(problem(tmp_path, batch_size=b)).time for b in (16, 16384))
    assert large.total < 1024 * small.total / 10
    dense = problem(tmp_path, batch_size=16).dense
    assert small.dense_forward + small.dense_backward == pytest.approx(
        (dense.forward_kernels + dense.backward_kernels) * 6e-3
    )


def test_the_dense_part_of_somebody_else(tmp_path: Path):
    given, counted = (place(problem(tmp_path, dense_ms=ms)).time for ms in ("12.5,25", None))
    assert (given.dense_forward, given.dense_backward) == (12.5, 25)
    assert given.total > counted.total
    for wrong in ("12", "a,b", "-1,2", "1,2,3", "nan,1"):
        with pytest.raises(InputError, match="--dense-ms"):
            problem(tmp_path, dense_ms=wrong)
