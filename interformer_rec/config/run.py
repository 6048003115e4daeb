"""The run config: one YAML file, validated and frozen, describes a run. In: a path and overrides; out: a RunConfig. No torch.

The schema of the features is in features.py, the files and how they are read in data.py, options and presets of the models in model.py
and baselines.py, the optimizers' in optimizer.py, text and references in text.py; here are the rest and the cross-field checks. A run
saves its resolved config (`to_yaml`), and that file replays the run.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, model_validator

from interformer_rec import strict_yaml
from interformer_rec.config.baselines import AnyModelConfig
from interformer_rec.config.data import DataConfig
from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.model import ModelConfig
from interformer_rec.config.optimizer import OptimizerConfig
from interformer_rec.config.request import check_microbatches, check_monitor, check_pairs
from interformer_rec.config.strict import Count, CountOrNone, Location, Name, RunName, Seconds, Strict, Weight
from interformer_rec.config.table_width import check_widths
from interformer_rec.config.text import Place, Reference, resolve, validate, variables, written
from interformer_rec.config.windows import PublishConfig, refuse_beside_windows

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
        description="histories' tables: each distinct id is sent and looked up once per batch and rank; null: as the plan says, or as the "
        "planner chooses; with planner torchrec: with several ranks",
    )
    communication: Literal["auto", "fp32", "fp16", "bf16"] | None = Field(
        None,
        description="precision of looked-up vectors between ranks; gradients travel as bf16 unless fp32. null: as the plan says, "
        "else fp32; auto: the planner may choose 16 bits where a step is shorter with them",
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


# Metrics that training can monitor.
HIGHER_IS_BETTER = {"auc": True, "gauc": True, "gauc_request": True, "logloss": False, "ne": False}


class TrainingConfig(Strict):
    """How long, how precise, and what is watched."""

    out: Location = Field("runs/{name}", description="run folder, a path or URI; {name} is the run's name")
    epochs: Count = Field(
        1,
        description="passes over the training rows, with data.windows over each window; those of data.history_pretraining count too",
    )
    max_steps: Count | None = Field(None, description="stop after so many steps, if epochs do not end before")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="bf16: autocast of the dense part; weights stay fp32"
    )
    microbatches: Count = Field(
        1, description="parts of a batch that the dense part trains on in turn, for less memory; one lookup, one update"
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
    recalibrate: bool = Field(
        False,
        description="scale and shift each label's logits as fits data.valid best, at each evaluation: scores of its checkpoint are "
        "probabilities again, in evaluate, predict, export and serve; AUC stays",
    )
    log_every_steps: Count = Field(20, description="steps between two records of the log")
    checkpoint: CheckpointConfig = CheckpointConfig()
    start_seconds: Seconds = Field(600, description="a rank waits so long for the others at the start")
    hang_seconds: Seconds = Field(600, description="a rank without progress for so long ends the job")
    stop_seconds: Seconds = Field(20, description="SIGTERM: the ranks agree to stop and save within this time")
    follow: bool = Field(
        False, description="with data.windows: wait for the next window after the last, until a signal; as --follow"
    )
    poll_seconds: Seconds = Field(30, description="follow: seconds between two looks for new windows")
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
    publish: PublishConfig | None = Field(None, description="servers get what is trained while the run goes on")
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
        self.data.check(self.features, self.training.epochs, self.model.ensemble_members)
        check_microbatches(self.training.microbatches, self.training.pairwise_loss_weight, self.features.request)
        check_pairs(self.training.pairwise_loss_weight, self.features.group, self.data.balance)
        check_monitor(self.training.monitor, self.features)
        self._check_windows()
        self._check_validation()
        self._check_publish()
        return self

    def _check_windows(self) -> None:
        if self.data.windows is None:
            if self.training.follow:
                raise ValueError("training.follow waits for windows: set data.windows, the place where they appear")
            return
        training, schedule = self.training, f"optimizer.schedule.kind: {self.optimizer.schedule.kind}"
        beside = {
            "data.train": self.data.train is not None,
            "data.valid": self.data.valid is not None,
            "training.eval_every_steps": training.eval_every_steps is not None,
            "training.patience": training.patience is not None,
            schedule: schedule.endswith("plateau") or (schedule.endswith("cosine") and training.max_steps is None),
            "data.history_pretraining": self.data.history_pretraining is not None,
            "model.ensemble_members": self.model.ensemble_members > 1,
        }
        refuse_beside_windows(key for key, given in beside.items() if given)

    def _check_publish(self) -> None:
        if self.publish is None:
            return
        every, steps = self.publish.every, self.training.checkpoint.every_steps
        if every == "window" and self.data.windows is None:
            raise ValueError("publish.every: window needs data.windows; give a number of steps instead")
        if every != "window" and (steps is None or every % steps):
            raise ValueError(
                f"publish.every: {every} publishes checkpoints, and none is saved at these steps: training.checkpoint.every_steps is "
                f"{steps}; it must divide publish.every"
            )
        if self.training.recalibrate:
            raise ValueError("publish does not go with training.recalibrate: what is published was not evaluated yet")

    def _check_validation(self) -> None:
        if self.data.valid is not None:
            return
        training = self.training
        beside = [f"training.{key}" for key in ("patience", "eval_every_steps") if getattr(training, key) is not None]
        beside += ["training.recalibrate"] * training.recalibrate
        beside += ["optimizer.schedule.kind: plateau"] * (self.optimizer.schedule.kind == "plateau")
        for key in beside:
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
