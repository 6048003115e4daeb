"""A config becomes things that run. In: RunConfig, Environment, fitted features; out: the parallel model and the loaders."""

from collections.abc import Callable

import torch

from interformer_rec.config.run import HIGHER_IS_BETTER, RunConfig
from interformer_rec.data.files.source import Source
from interformer_rec.data.fit import Fitted
from interformer_rec.data.loader import Loader
from interformer_rec.distributed.environment import Environment
from interformer_rec.distributed.lookup.tables import FirstWeights
from interformer_rec.distributed.optimizer import LearningRate
from interformer_rec.distributed.parallelize import Parallel, parallelize
from interformer_rec.errors import InputError
from interformer_rec.model.embedding.embedded import row_init_scale, table_dims
from interformer_rec.model.task import build_task
from interformer_rec.planning.running_job import plan_of_job


def build_parallel(
    config: RunConfig,
    env: Environment,
    fitted: Fitted,
    total_steps: Callable[[], int] = lambda: 1,
    source: Source | None = None,
) -> Parallel:
    """Model, plan, optimizers, with first weights that depend on the seed alone (collective).

    `total_steps`: see LearningRate. `source`: the training data, whose list lengths a plan is made for.
    """
    torch.manual_seed(config.seed)
    task = build_task(
        config.features,
        config.model,
        fitted.table_rows,
        l2=config.optimizer.embedding.l2,
        pairwise_weight=config.training.pairwise_loss_weight,
        microbatches=config.training.microbatches,
        device=torch.device("meta"),
    )
    plan = plan_of_job(config, task, fitted.table_rows, env, source)
    parallel = parallelize(
        task,
        env,
        plan=plan.tables,
        sharding=plan.section(config.sharding),
        optimizer=config.optimizer,
        rate=LearningRate(config.optimizer.schedule, total_steps, HIGHER_IS_BETTER[config.training.monitor]),
        first_weights=FirstWeights(config.seed, table_std(config)),
    )
    parallel.notes = list(plan.notes)
    return parallel


def table_std(config: RunConfig) -> dict[str, float]:
    """Deviation of a row's first weights, by table."""
    dims = table_dims(config.features, config.model.embedding_dim)  # of one set: how far a vector reaches
    return {name: config.model.embedding_std or row_init_scale(dim) for name, dim in dims.items()}


def train_loader(config: RunConfig, env: Environment, fitted: Fitted) -> Loader:
    """Shuffled rows of data.train."""
    path = config.data.train
    if path is None:
        raise InputError("data.train is not set: name the training files in the config, or with --set data.train=PATH")
    return loader_of(config, path, env, fitted)


def loader_of(config: RunConfig, path: str | Source, env: Environment, fitted: Fitted) -> Loader:
    """Shuffled rows to train on."""
    return Loader(path, config.features, fitted, config.data, config.seed, (env.rank, env.world_size))


def eval_loader(config: RunConfig, path: str | Source, env: Environment, fitted: Fitted, labels: bool = True) -> Loader:
    """Rows in file order, in evaluation batches; without labels for prediction."""
    reading = {
        "batch_size": config.data.eval_batch_size,
        "shuffle_rows": 0,
        "history_pretraining": None,
        "id_dropout": 0.0,
    }
    data = config.data.model_copy(update=reading)
    return Loader(path, config.features, fitted, data, config.seed, (env.rank, env.world_size), labels)
