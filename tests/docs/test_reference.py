"""The reference pages are what their script writes, and the script leaves out no key and no metric."""

import json

import pytest
import torch
import torch.distributed as dist

from docs.reference import make
from docs.reference.plan_json import paths
from docs.reference.run_folder import METRICS, split_of
from interformer_rec.distributed.sharding_types import HOST_KERNELS, KERNELS, SHARDING_TYPES, not_possible
from interformer_rec.errors import InputError
from interformer_rec.metrics.evaluation import EvalMetrics, IntervalMetrics
from interformer_rec.planning.answer import place
from interformer_rec.planning.constraints import Constraints, TableConstraints, TableKind, allowed
from interformer_rec.planning.plan_file import to_dict
from interformer_rec.training.log_interval import LogInterval
from tests.planning.cases import problem


@pytest.mark.parametrize("name", make.PAGES)
def test_page_is_what_the_code_says(name):
    page = (make.FOLDER / name).read_text(encoding="utf-8")
    assert page == make.PAGES[name](), "the code has changed: run python -m docs.reference.make"


def test_every_key_has_a_meaning():
    assert make.missing() == [], "give each of these keys a description in its pydantic field"


def test_every_section_and_kind_is_there():
    page = make.config_page()
    for text in (
        "| `name` |",
        "`data.batch_size`",
        "`features.tables.NAME.min_count`",
        "`features.sequences[].columns[].table`",
    ):
        assert text in page
    for text in (
        "`optimizer.embedding.lr`",
        "`sharding.tables`",
        "`training.checkpoint.every_steps`",
        "`data.history_pretraining.labels`",
    ):
        assert text in page
    assert page.count("### kind: ") == 15
    assert "integer, 1 to 64 | `1`" in page  # data.workers: bounds and default


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_sharding_page_says_what_a_plan_allows(pooled, device):
    kind, shown = TableKind("t", pooled, 256), {}
    for row in make.sharding_page().split("## ")[1 if pooled else 2].splitlines()[4:]:
        if row:
            _, name, on_cpu, on_cuda, _, _ = (cell.strip() for cell in row.split("|"))
            shown[name.strip("`")] = on_cpu if device == "cpu" else on_cuda
    assert shown.keys() == set(SHARDING_TYPES)
    for sharding, cell in shown.items():
        constraints = Constraints(default=TableConstraints(sharding=(sharding,), kernels=(*KERNELS, *HOST_KERNELS)))
        if cell.startswith("no: "):
            assert cell == f"no: {not_possible(pooled, sharding, device)}"
            with pytest.raises(InputError, match="no option"):
                allowed(kind, constraints, device, 8)
        else:
            assert allowed(kind, constraints, device, 8) == {sharding: cell.replace("`", "").split(", ")}


def test_sharding_page_says_when_the_planner_chooses_a_type():
    page = make.sharding_page()
    assert "`column_wise` | `fused` | `fused`, `fused_uvm`, `fused_uvm_caching` | from rows of 128 floats:" in page
    assert (
        "from 2 ranks: one rank has nobody to replicate for" in page
        and "only if asked for, as in TorchRec's planner" in page
    )


def test_plan_page_names_every_key_of_a_plan(tmp_path):
    """Of one with a calibrated cluster, host memory and rejected options; and every key that the page names is there."""
    counted = {"rows": 402, "distinct": [[100, 60]], "head": [[1, 0.1]]}
    (tmp_path / "s.json").write_text(json.dumps({"tables": {"item": counted}}))
    efficiency = {"fixed_ms": 1.0, "stage_ms": {"lookup": 1.0}}
    placed = place(problem(tmp_path, statistics=str(tmp_path / "s.json"), hardware={"efficiency": efficiency}))
    content = to_dict(placed)
    assert set(paths(content)) == set(make.plan_keys())
    assert set(make.OF_A_RUN) <= set(make.plan_keys())


def test_run_folder_names_every_metric():
    evaluation, interval = (
        EvalMetrics(["LABEL"], group=True, request=True),
        IntervalMetrics(["LABEL"], torch.device("cpu")),
    )
    found = {*evaluation.compute(), *interval.compute()}
    assert {"loss", "LABEL/gauc", "LABEL/gauc_request", "LABEL/base_rate", "rows_without_group"} <= found
    assert found <= set(METRICS)


def test_run_folder_names_every_field_of_an_interval(tmp_path):
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    try:
        record = LogInterval(["LABEL"], torch.device("cpu")).exchange()
    finally:
        dist.destroy_process_group()
    assert {"seconds", "samples_per_second", "data_wait_share"} <= set(record) <= set(METRICS)
    assert all("train" in split_of(name) for name in record)
