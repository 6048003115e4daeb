"""The run config: one YAML file, validated and frozen, describes a run. In: a path and overrides; out: a RunConfig. No torch.

The schema of the features is in schema.py, options and presets of the models in model_config.py and model_kinds.py, the optimizers'
in optimizer_config.py; here are the rest and the cross-field checks. A run saves its resolved config (`to_yaml`), and that file
replays the run.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from interformer_rec.config_errors import explain
from interformer_rec.errors import InputError
from interformer_rec.model_config import ModelConfig
from interformer_rec.model_kinds import AnyModelConfig
from interformer_rec.optimizer_config import OptimizerConfig
from interformer_rec.schema import FeatureSchema, Strict
from interformer_rec.unroll_config import UnrollConfig


class DataConfig(Strict):
    """Parquet files and how they become batches. Paths: file, glob, directory or URI (s3://, gs://, hdfs://, file://)."""

    train: str | None = Field(None, description="fitted and trained on")
    valid: str | None = Field(None, description="watched during training: early stopping, best checkpoint")
    test: str | None = Field(None, description="scored once, at the end, with the best checkpoint")
    batch_size: int = Field(1024, ge=1, description="rows a rank and step")
    eval_batch_size: int = Field(4096, ge=1, description="rows a rank and step of an evaluation")
    shuffle_rows: int = Field(65536, ge=0, description="rows mixed in the shuffle buffer; 0 reads in file order")
    balance: Literal["none", "events", "groups"] = Field(
        "events",
        description="what the shuffle sees to. events: every training batch of every rank has about as many; groups: the rows of one "
        "features.group in the shuffle buffer come together, for training.pairwise",
    )
    workers: int = Field(1, ge=1, le=64, description="threads that decode Parquet on each rank")
    prefetch: int = Field(2, ge=1, description="decoded shuffle buffers kept ahead")
    on_bad_row: Literal["error", "skip"] = "error"
    unroll: UnrollConfig | None = Field(None, description="first teach the events of the histories; null: rows only")

    @property
    def unrolled_epochs(self) -> int:
        """How many of the first epochs are of events."""
        return self.unroll.epochs if self.unroll else 0


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
    """How tables are divided over the ranks: TorchRec's planner decides, within these constraints."""

    default: ShardingType = "auto"
    tables: dict[str, ShardingType] = Field(default_factory=dict, description="per table, over `default`")
    plan: str | None = Field(None, description="a file of `interformer plan --out`, instead of planning at the start")
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

    path: str | None = Field(
        None, description="folder or fsspec URI (s3://, gs://, ...); default: checkpoints/ in the run folder"
    )
    every_steps: int | None = Field(None, ge=1, description="also save every N steps")
    keep: int = Field(2, ge=1, description="newest ones that stay, beside the best")
    asynchronous: bool = Field(True, description="training waits for the copy to host memory only, not for the files")
    full_every: int = Field(1, ge=1, description="of N checkpoints one is full, the others hold the rows touched since")
    on_error: Literal["stop", "continue"] = Field("stop", description="when a checkpoint cannot be written")


class TrainingConfig(Strict):
    """How long, how precise, and what is watched."""

    out: str = Field("runs/{name}", description="run folder; {name} is the run's name")
    epochs: int = Field(1, ge=1)
    max_steps: int | None = Field(None, ge=1)
    precision: Literal["fp32", "bf16"] = "fp32"
    eval_every_steps: int | None = Field(
        None, ge=1, description="also evaluate every N steps; always at an epoch's end"
    )
    monitor: str = Field("auc", description="metric of the validation set (of the first label): auc, gauc, logloss, ne")
    pairwise: float = Field(
        0.0,
        ge=0,
        description="weight of the pairwise loss beside the BCE: in a batch, a row of label 1 should score above those of label 0 of its "
        "features.group. It orders one user's rows, which gauc measures and auc hardly sees; needs data.balance: groups",
    )
    patience: int | None = Field(
        None, ge=0, description="stop when more evaluations in a row than this bring no better `monitor`"
    )
    log_every_steps: int = Field(20, ge=1)
    checkpoint: CheckpointConfig = CheckpointConfig()
    hang_seconds: float = Field(600, gt=0, description="a rank without progress for so long ends the job")
    stop_seconds: float = Field(20, gt=0, description="SIGTERM: the ranks agree to stop and save within this time")
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @model_validator(mode="after")
    def _check(self) -> TrainingConfig:
        if self.monitor not in ("auc", "gauc", "logloss", "ne"):
            raise ValueError(f"monitor {self.monitor!r} is not one of auc, gauc, logloss, ne")
        return self


class RunConfig(Strict):
    """A run, whole."""

    name: str
    seed: int = Field(0, ge=0)
    data: DataConfig
    features: FeatureSchema
    model: AnyModelConfig = ModelConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    sharding: ShardingConfig = ShardingConfig()
    training: TrainingConfig = TrainingConfig()

    @model_validator(mode="after")
    def _check(self) -> RunConfig:
        if self.model.needs_sequences and not self.features.sequences:
            raise ValueError(
                f"model.kind {self.model.kind} needs at least one group under features.sequences; there is none"
            )
        if isinstance(self.model, ModelConfig) and self.model.split:
            self.features.check_split()
        if isinstance(self.model, ModelConfig) and self.model.sequence.merge == "union":
            self.features.check_union()
        dim = self.model.embedding_dim
        dims = {name: self.features.tables[name].embedding_dim or dim for name in sorted(self.features.sequence_tables)}
        if len(set(dims.values())) > 1:
            raise ValueError(
                f"tables read by histories share one EmbeddingCollection, so one embedding_dim; they have {dims}"
            )
        for name in self.sharding.tables:
            if name not in self.features.tables:
                raise ValueError(f"sharding.tables names {name!r}, which is not under features.tables")
        self._check_embedding_sets()
        if self.data.unroll:
            self.data.unroll.check(self.features, self.training.epochs, self.model.embedding_sets)
        if self.training.pairwise and (self.features.group is None or self.data.balance != "groups"):
            raise ValueError(
                "training.pairwise compares rows of one group within a batch: name features.group (the column of the user's id) and set "
                "data.balance: groups"
            )
        if self.training.monitor == "gauc" and self.features.group is None:
            raise ValueError("training.monitor is gauc, which needs features.group (the column of the user's id)")
        return self

    def _check_embedding_sets(self) -> None:
        sets, kind = self.model.embedding_sets, self.optimizer.embedding.kind
        if sets == 1:
            return
        if self.training.epochs % sets:
            raise ValueError(
                f"model.embedding_sets: {sets} teaches one set an epoch, so training.epochs must be a multiple of it, not "
                f"{self.training.epochs}"
            )
        if kind not in ("adagrad", "sgd"):
            raise ValueError(
                f"model.embedding_sets with optimizer.embedding.kind {kind}: a step would change the floats of sets whose epoch it is "
                "not, or their later steps. Use adagrad, which counts for each float, or sgd"
            )

    @property
    def run_dir(self) -> Path:
        """Where the run's files go."""
        return Path(self.training.out.replace("{name}", self.name))


def load(path: str | os.PathLike[str], overrides: list[str] | tuple[str, ...] = ()) -> RunConfig:
    """Read, override (`a.b=c`, c is YAML) and validate. Environment variables (`${NAME}`, `${NAME:-default}`) are filled in.

    Raises InputError that names the file, the key and what to do.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read config {str(path)!r}: {error.strerror or error}") from None
    return parse_yaml(text, str(path), overrides)


def parse_yaml(text: str, source: str, overrides: list[str] | tuple[str, ...] = ()) -> RunConfig:
    """The content of a config file -> RunConfig; `source` names it in errors."""
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"config {source!r} is not valid YAML: {error}") from None
    if not isinstance(tree, dict):
        raise InputError(
            f"config {source!r} must be a mapping of keys (name, data, features, ...), not {type(tree).__name__}"
        )
    for override in overrides:
        _override(tree, override)
    return parse(_expand(tree, source), source)


def parse(tree: dict[str, Any], source: str) -> RunConfig:
    """A mapping -> RunConfig; `source` names it in errors."""
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        raise InputError(f"config {source!r} is not valid:\n{explain(error, RunConfig)}") from None


def to_yaml(config: RunConfig) -> str:
    """The resolved config, every default written out; loading it gives an equal config."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)


def _override(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise InputError(f"--set {override!r}: write it as key.subkey=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"--set {override!r}: the value is not valid YAML: {error}") from None
    node: Any = tree
    parts = key.strip().split(".")
    for part, following in zip(parts, [*parts[1:], None], strict=True):
        place: Any = part
        if isinstance(node, list):
            if not part.isdigit() or int(part) >= len(node):
                raise InputError(f"--set {override!r}: {part!r} is not an index of a list of {len(node)}")
            place = int(part)
        elif not isinstance(node, dict):
            raise InputError(f"--set {override!r}: {part!r} is below a value that is not a mapping")
        if following is None:
            node[place] = value
        elif isinstance(node, list):
            node = node[place]
        else:
            if node.get(place) is None:
                node[place] = {}
            node = node[place]


def _expand(node: Any, source: str) -> Any:
    """Fill ${NAME} and ${NAME:-default} in strings from the environment."""
    if isinstance(node, dict):
        return {key: _expand(value, source) for key, value in node.items()}
    if isinstance(node, list):
        return [_expand(value, source) for value in node]
    if not isinstance(node, str) or "${" not in node:
        return node
    out, rest = "", node
    while "${" in rest:
        before, _, rest = rest.partition("${")
        name, closed, rest = rest.partition("}")
        variable, has_default, default = name.partition(":-")
        value = os.environ.get(variable, default if has_default else None)
        if not closed or value is None:
            raise InputError(
                f"config {source!r}: {node!r} needs the environment variable {variable!r}, which is not set"
            )
        out += before + value
    return out + rest
