"""What a system costs. In: its run config and a trained run's vocabularies; out: parameters, FLOPs a sample, rows/s of training.

FLOPs are those of the dense part's matrix products for one forward pass, counted as for a plan on real validation
rows (padding that a system computes counts; look-ups and element-wise work do not). A training step takes about three times
as many. Samples/s are of whole training steps (tables, backward, optimizers; no reading), all systems in turns in one process.
"""

import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness.interleaved import measure
from interformer_rec.batch import Batch
from interformer_rec.config import run as run_config
from interformer_rec.config.run import RunConfig
from interformer_rec.data.fit import Fitted, fit
from interformer_rec.distributed.environment import Environment, process_group
from interformer_rec.model.embedding.embedded import table_dims
from interformer_rec.model.task import build_task
from interformer_rec.planning.cost.counter import forward_flops
from interformer_rec.training.build import build_parallel, eval_loader, train_loader
from interformer_rec.training.pipeline import Pipeline

CPU = torch.device("cpu")
ALONE = Environment(0, 1, 0, 1, CPU)
ROUNDS, WARM_UP = 7, 2
COST = "cost.json"


def cost(text: str) -> dict[str, float]:
    """In a worker: `dense_parameters`, `table_parameters` and `flops` (a sample, forward) of the run of this YAML; cost.json."""
    config = run_config.parse_yaml(text, "the study's run config")
    fitted = Fitted.load(config.run_dir / "features")
    task = build_task(config.features, config.model, fitted.table_rows, device=CPU).eval()
    dims = table_dims(config.features, config.model.embedding_dim, config.model.ensemble_members)
    assert config.data.valid is not None
    batch, _ = next(iter(eval_loader(config, config.data.valid, ALONE, fitted).batches()))
    found = {
        "dense_parameters": sum(parameter.numel() for parameter in task.model.parameters()),
        "table_parameters": sum(rows * dims[name] for name, rows in fitted.table_rows.items()),
        "flops": model_flops(task, batch) / batch.rows,
    }
    (config.run_dir / COST).write_text(json.dumps(found), encoding="utf-8")
    return found


def counted(config: RunConfig) -> dict[str, float] | None:
    """What `cost` has found for a run before."""
    path = config.run_dir / COST
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def model_flops(task: torch.nn.Module, batch: Batch) -> int:
    """Of the dense part on this batch."""
    with torch.no_grad():
        embedded = task.embeddings(batch)
    return forward_flops(lambda: task.model(batch.dense, embedded))


def speed(texts: Mapping[str, str], threads: int) -> dict[str, float]:
    """In a worker: training rows/s of each run, medians of interleaved steps on the same rows.

    Rows of the data set over the time that training takes for them, all epochs included, and no samples/s: a step counts for less
    where a row is trained on in several epochs: one for each ensemble member, and those of history pre-training (whose histories are
    shorter: this counts them as whole ones).
    """
    torch.set_num_threads(threads)
    steps: dict[str, Callable[[], object]] = {}
    rows: dict[str, float] = {}
    with process_group("cpu") as env:
        for name, text in texts.items():
            config = run_config.parse_yaml(text, "the study's run config")
            steps[name] = _steps(config, env)
            rounds = (config.training.epochs - config.data.pretraining_epochs) // config.model.ensemble_members
            rows[name] = config.data.batch_size * rounds / config.training.epochs
        times = measure(steps, ROUNDS, WARM_UP)
    return {name: rows[name] / taken.median for name, taken in times.items()}


def _steps(config: RunConfig, env: Environment) -> Callable[[], Any]:
    """A function that trains one step of real rows, a few batches in turns."""
    saved = Path(config.run_dir) / "features"
    assert isinstance(config.data.train, str)
    fitted = Fitted.load(saved) if saved.exists() else fit(config.features, config.data.train)
    pipeline = Pipeline(build_parallel(config, env, fitted), env, config.training.precision, config.seed)
    stream = train_loader(config, env, fitted).batches(config.data.pretraining_epochs)
    batches = itertools.cycle(list(itertools.islice(stream, 3)))
    return lambda: list(pipeline.run(iter([next(batches)]), train=True))
