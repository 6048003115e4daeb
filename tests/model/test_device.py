"""Everything a step's forward pass makes is where its batch is, for every kind: on a pretended GPU, with the numbers of the CPU."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from pydantic import TypeAdapter

from interformer_rec.config.baselines import AnyModelConfig
from interformer_rec.data.fit import fit
from interformer_rec.metrics.evaluation import EvalMetrics, IntervalMetrics
from interformer_rec.model.task import build_task
from interformer_rec.ops.backend import using
from tests.data.request_samples import impressions, of_impressions, of_requests, requests
from tests.data.samples import loader_of
from tests.model.golden_cases import SMALL, cases
from tests.pretended_gpu import GPU, OnGPU, pretended_gpu

ROWS = {"impressions": of_impressions, "requests": of_requests}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def batches(tmp_path_factory):
    """What was fitted, and two batches twice, of each form of rows: TorchRec keeps what it makes of a batch, wherever that is copied."""
    folder = tmp_path_factory.mktemp("rows")
    table = requests(np.random.default_rng(3), 30)
    pq.write_table(table, folder / "requests.parquet")
    pq.write_table(impressions(table, of_requests()), folder / "impressions.parquet")
    found = {}
    for name, features in ROWS.items():
        fitted = fit(features(), str(folder / f"{name}.parquet"))
        loader = loader_of(str(folder / f"{name}.parquet"), features(), fitted, batch_size=23)
        found[name] = (fitted, *([batch for batch, _ in loader.batches()][:2] for _ in range(2)))
    return found


def task_on(device, features, fitted, options):
    """The same weights whatever the device; as in training, where torch has no kernel for a whole encoder layer."""
    small = SMALL if options.get("kind", "interformer") == "interformer" else {"embedding_dim": 8}
    model = TypeAdapter(AnyModelConfig).validate_python({**small, **options})
    torch.manual_seed(5)
    task = build_task(features, model, fitted.table_rows, l2=0.1, pairwise_weight=0.5, device=CPU)
    return task.to(device)


# What rows that are requests add is the same for all models whose user's side sees the candidate.
OF_REQUESTS = {"default", "two sets", "split", "split n2s", "split paper", "window, split", "kind din"}


@pytest.mark.parametrize(
    "name, rows",
    [(name, rows) for name in cases() for rows in ROWS if rows == "impressions" or name in OF_REQUESTS],
)
def test_a_forward_pass_stays_on_its_device(batches, name, rows):
    features, (fitted, read, again), options = ROWS[rows](), batches[rows], cases()[name]
    if options.get("sequence", {}).get("merge") == "union":
        pytest.skip("its histories have unequal columns")
    if options.get("kind") == "dien":
        pytest.skip("torch chooses the kernel of its GRU by the device")
    on_cpu = task_on(CPU, features, fitted, options)
    expected = [on_cpu(batch) for batch in read]
    with pretended_gpu(), using("torch"), torch.no_grad():  # kernels are tested in tests/ops
        task = task_on(GPU, features, fitted, options)
        found = [task(batch.to(GPU)) for batch in again]
    for (loss, logits), (other_loss, other_logits) in zip(found, expected, strict=True):
        assert isinstance(loss, OnGPU) and isinstance(logits, OnGPU)
        # not bit for bit: on a CPU some operators run in a form of their own
        torch.testing.assert_close(logits.held, other_logits, rtol=1e-4, atol=1e-5)
        assert loss.item() == pytest.approx(other_loss.item(), rel=1e-5)


def test_metrics_take_scores_from_a_gpu(batches):
    _, read, again = batches["impressions"]

    def measured(several):
        exact, interval = EvalMetrics(["click"], group=True), IntervalMetrics(["click"], several[0].labels.device)
        for batch in several:
            labels = batch.labels[:, :1]
            logits = labels * 0.5 - batch.weights[:, None] * 0.1
            exact.update(logits, labels, batch.weights, batch.groups)
            interval.update(logits.sum(), logits, labels, batch.weights, batch.rows)
        return exact.compute(), interval.compute()

    expected = measured(read)
    with pretended_gpu():
        assert measured([batch.to(GPU) for batch in again]) == expected


def test_a_pretended_gpu_refuses_what_a_gpu_refuses():
    with pretended_gpu():
        there, here = torch.ones(3, device=GPU), torch.ones(3)
        with pytest.raises(RuntimeError, match="on cuda:0 and on the CPU"):
            there + here
        with pytest.raises(RuntimeError, match="numpy"):
            there.numpy()
        assert (there + torch.tensor(1.0)).tolist() == [2.0] * 3 and there.device == GPU
