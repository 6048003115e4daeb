"""The run config: one YAML file, validated and frozen, describes a run. In: a path and overrides; out: a RunConfig. No torch.

The schema of the features is in features.py, options and presets of the models in model.py and baselines.py, the optimizers' in
optimizer.py, text and references in text.py; here are the rest and the cross-field checks. A run saves its resolved
config (`to_yaml`), and that file replays the run.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, PrivateAttr, model_validator

from interformer_rec import strict_yaml
from interformer_rec.config.baselines import AnyModelConfig
from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.history_pretraining import HistoryPretrainingConfig
from interformer_rec.config.model import ModelConfig
from interformer_rec.config.optimizer import OptimizerConfig
from interformer_rec.config.strict import Count, CountOrNone, Location, Name, RunName, Seconds, Strict, Weight
from interformer_rec.config.table_width import check_widths
from interformer_rec.config.text import Place, Reference, resolve, validate, variables, written


def _bad_row_limit(value: Any) -> float | int:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not value >= 0
        or (isinstance(value, float) and value > 1)
    ):
        raise ValueError("it is a share of the rows, 0.0 to 1.0, or a number of rows (an integer of at least 0)")
    return value


class DataConfig(Strict):
    """Parquet files and how they become batches. Paths: file, glob, directory or URI (s3://, gs://, hdfs://, file://)."""

    train: Location | None = Field(None, description="fitted and trained on")
    valid: Location | None = Field(None, description="watched during training: early stopping, best checkpoint")
    test: Location | None = Field(None, description="scored once, at the end, with the best checkpoint")
    batch_size: Count = Field(1024, description="rows a rank and step")
    eval_batch_size: Count = Field(4096, description="rows a rank and step of an evaluation")
    shuffle_rows: CountOrNone = Field(65536, description="rows mixed in the shuffle buffer; 0 reads in file order")
    balance: Literal["none", "events", "groups"] = Field(
        "events",
        description="what the shuffle sees to. events: every training batch of every rank has about as many; groups: the rows of one "
        "features.group in the shuffle buffer come together, for training.pairwise_loss_weight",
    )
    workers: int = Field(1, ge=1, le=64, description="threads that decode Parquet on each rank")
    prefetch: int = Field(2, ge=1, le=1_000, description="decoded shuffle buffers kept ahead")
    on_bad_row: Literal["error", "skip"] = Field("error", description="skip: bad rows are left out and counted")
    max_decoded_bytes: int | None = Field(
        None,
        ge=1,
        le=2**63 - 1,
        description="row groups that decode to more at a time are refused; null: 16 GiB, or 2 GiB for a column of more than 1,000 times "
        "its stored size",
    )
    max_bad_rows: Annotated[float | int, PlainValidator(_bad_row_limit)] = Field(
        0.5,
        description="rows of each data set that `on_bad_row: skip` may leave out before that is an error: a share, 0.0 to 1.0, or a number "
        "(an integer); that no row is left is always one",
    )
    history_pretraining: HistoryPretrainingConfig | None = Field(
        None,
        description="history pre-training: the first epochs train on past events of the histories; null: rows only",
    )

    @property
    def pretraining_epochs(self) -> int:
        """How many of the first epochs are of events."""
        return self.history_pretraining.epochs if self.history_pretraining else 0


ShardingType = Literal[
    "auto",
    "data_parallel",
    "table_wise",
    "row_wise",
    "column_wise",
    "table_row_wise",
    "table_column_wise",
    "grid_shard",
]


class ShardingConfig(Strict):
    """How tables are divided over the ranks: a planner decides at the start, within these constraints."""

    planner: Literal["interformer", "torchrec"] = Field(
        "interformer",
        description="interformer: the search of `interformer plan`; torchrec: TorchRec's EmbeddingShardingPlanner, for comparison",
    )
    default: ShardingType = Field("auto", description="of every table that may have it; auto: the planner chooses")
    tables: dict[Name, ShardingType] = Field(default_factory=dict, description="per table, over `default`")
    plan: Location | None = Field(
        None, description="a plan file (`plan --out`, or plan.json of a run), instead of planning at the start"
    )
    deduplicate: bool | None = Field(
        None,
        description="histories' tables: each distinct id is sent and looked up once per batch and rank; null: with several ranks",
    )
    communication: Literal["fp32", "fp16", "bf16"] = Field(
        "fp32", description="precision of looked-up vectors between ranks; gradients travel as bf16 unless fp32"
    )
    host_cache: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="tables live in host memory and this share of their rows in a cache on the GPU; the rows of the next batch are "
        "fetched while this one is computed. Never run yet; on a CPU it changes nothing",
    )


class CheckpointConfig(Strict):
    """When and where a run's state is saved; an evaluation and the end of an epoch always save."""

    path: Location | None = Field(
        None,
        description="folder or fsspec URI (s3://, gs://, ...); a relative path is in the run folder; default: checkpoints/ there",
    )
    every_steps: Count | None = Field(None, description="also save every N steps")
    keep: Count = Field(2, description="newest ones that stay, beside the best")
    asynchronous: bool = Field(True, description="training waits for the copy to host memory only, not for the files")
    full_every: Count = Field(1, description="of N checkpoints one is full, the others hold the rows touched since")
    on_error: Literal["stop", "continue"] = Field("stop", description="when a checkpoint cannot be written")


HIGHER_IS_BETTER = {"auc": True, "gauc": True, "logloss": False, "ne": False}  # metrics that training can monitor


class TrainingConfig(Strict):
    """How long, how precise, and what is watched."""

    out: Location = Field("runs/{name}", description="run folder, a path or URI; {name} is the run's name")
    epochs: Count = Field(1, description="passes over the training rows; those of data.history_pretraining count too")
    max_steps: Count | None = Field(None, description="stop after so many steps, if epochs do not end before")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="bf16: autocast of the dense part; weights stay fp32"
    )
    eval_every_steps: Count | None = Field(None, description="also evaluate every N steps; always at an epoch's end")
    monitor: str = Field(
        "auc",
        description=f"metric of the validation set (of the first label): {', '.join(HIGHER_IS_BETTER)}; logloss where rows define no other",
    )
    pairwise_loss_weight: Weight = Field(
        0.0,
        description="weight of the pairwise loss beside the BCE: in a batch, a row of label 1 should score above those of label 0 of its "
        "features.group. It orders one user's rows, which gauc measures and auc hardly sees; needs data.balance: groups",
    )
    patience: CountOrNone | None = Field(
        None, description="stop when more evaluations in a row than this bring no better `monitor`"
    )
    log_every_steps: Count = Field(20, description="steps between two records of the log")
    checkpoint: CheckpointConfig = CheckpointConfig()
    start_seconds: Seconds = Field(600, description="a rank waits so long for the others at the start")
    hang_seconds: Seconds = Field(600, description="a rank without progress for so long ends the job")
    stop_seconds: Seconds = Field(20, description="SIGTERM: the ranks agree to stop and save within this time")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: cuda where torch sees a GPU")

    @model_validator(mode="after")
    def _check(self) -> TrainingConfig:
        if self.monitor not in HIGHER_IS_BETTER:
            raise ValueError(f"monitor {self.monitor!r} is not one of {', '.join(HIGHER_IS_BETTER)}")
        return self


class RunConfig(Strict):
    """A run, whole."""

    name: RunName = Field(description="name of the run and of its folder")
    seed: int = Field(0, ge=0, lt=2**63, description="of new weights, the shuffle and every random choice")
    data: DataConfig
    features: FeatureSchema
    model: AnyModelConfig = ModelConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    sharding: ShardingConfig = ShardingConfig()
    training: TrainingConfig = TrainingConfig()
    _references: dict[Place, Reference] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> RunConfig:
        if self.model.needs_sequences and not self.features.sequences:
            raise ValueError(
                f"model.kind {self.model.kind} needs at least one group under features.sequences; there is none"
            )
        if isinstance(self.model, ModelConfig):
            self.model.check_features(self.features)
        dim = self.model.embedding_dim
        dims = {name: self.features.tables[name].embedding_dim or dim for name in sorted(self.features.sequence_tables)}
        if len(set(dims.values())) > 1:
            raise ValueError(
                f"tables read by histories share one EmbeddingCollection, so one embedding_dim; they have {dims}"
            )
        for name in self.sharding.tables:
            if name not in self.features.tables:
                raise ValueError(f"sharding.tables names {name!r}, which is not under features.tables")
        own = {name: table.embedding_dim for name, table in self.features.tables.items()}
        check_widths(dim, self.model.ensemble_members, own)
        self._check_ensemble()
        if self.data.history_pretraining:
            self.data.history_pretraining.check(self.features, self.training.epochs, self.model.ensemble_members)
        if self.training.pairwise_loss_weight and (self.features.group is None or self.data.balance != "groups"):
            raise ValueError(
                "training.pairwise_loss_weight compares rows of one group within a batch: name features.group (the column of the user's "
                "id) and set data.balance: groups"
            )
        if self.training.monitor == "gauc" and self.features.group is None:
            raise ValueError("training.monitor is gauc, which needs features.group (the column of the user's id)")
        self._check_validation()
        return self

    def _check_validation(self) -> None:
        if self.data.valid is not None:
            return
        plateau = "optimizer.schedule.kind: plateau" if self.optimizer.schedule.kind == "plateau" else None
        patience = "training.patience" if self.training.patience is not None else None
        every = "training.eval_every_steps" if self.training.eval_every_steps is not None else None
        for key in filter(None, (patience, plateau, every)):
            raise ValueError(
                f"{key} needs data.valid, the files to watch training.monitor on: name them, or leave {key} out"
            )

    def _check_ensemble(self) -> None:
        members, kind = self.model.ensemble_members, self.optimizer.embedding.kind
        if members == 1:
            return
        if self.training.epochs % members:
            raise ValueError(
                f"model.ensemble_members: {members} trains one member an epoch, so training.epochs must be a multiple of it, not "
                f"{self.training.epochs}"
            )
        if kind not in ("adagrad", "sgd"):
            raise ValueError(
                f"model.ensemble_members with optimizer.embedding.kind {kind}: a step would change the floats of members whose epoch it is "
                "not, or their later steps. Use adagrad, which counts for each float, or sgd"
            )

    @property
    def run_dir(self) -> Path:
        """Where the run's files go."""
        return Path(self.training.out.replace("{name}", self.name))

    def written(self, place: Place) -> Any:
        """A value as the config has it, references to the environment and all: what may be printed and saved."""
        value: Any = self.model_dump(mode="json")
        for part in place:
            value = value[part]
        return written(value, self._references, place)

    def unfilled(self, place: Place) -> list[str]:
        """The environment variables that a value still needs (`parse_found`), [] if none."""
        found = self._references.get(place)
        return variables(found.written) if found is not None and found.value == found.written else []


def load(path: str | os.PathLike[str], overrides: list[str] | tuple[str, ...] = ()) -> RunConfig:
    """Read the config file that the user names, override (`a.b=c`, c is YAML) and validate. References to the environment (`${NAME}`,
    `${NAME:-default}`) are filled in.

    Raises InputError that names the file, the key and what to do.
    """
    return _from_tree(strict_yaml.read(path, "config"), str(path), overrides)


def parse_yaml(text: str | bytes, source: str, overrides: list[str] | tuple[str, ...] = ()) -> RunConfig:
    """The content of a config of the user's own -> RunConfig; `source` names it in errors."""
    return _from_tree(strict_yaml.parse(text, f"config {source!r}"), source, overrides)


def parse_found(text: str | bytes, source: str, like: RunConfig | None = None) -> RunConfig:
    """The content of a config that lies in a run folder or a checkpoint, which anybody may have written: nothing of the environment gets
    into it. Paths keep their references (`unfilled`). A reference anywhere else is taken for what `like`, a config of the user's own, has
    there. Raises InputError where it has nothing.
    """
    known = like.model_dump(mode="json") if like is not None else {}
    return _validated(*resolve(strict_yaml.parse(text, f"config {source!r}"), source, (), None, known), source)


def parse(tree: dict[str, Any], source: str) -> RunConfig:
    """A mapping without references -> RunConfig; `source` names it in errors."""
    return _validated(tree, {}, source)


def to_yaml(config: RunConfig) -> str:
    """The resolved config, every default written out, references to the environment as they were; loading it gives an equal config."""
    return strict_yaml.dump(config.written(()))


def _from_tree(tree: Any, source: str, overrides: list[str] | tuple[str, ...]) -> RunConfig:
    return _validated(*resolve(tree, source, overrides, os.environ), source)


def _validated(tree: Any, references: dict[Place, Reference], source: str) -> RunConfig:
    config, found = validate(RunConfig, tree, references, source)
    config._references = found
    return config
