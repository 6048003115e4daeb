"""`train --from`: a new run begins with the weights of another. In: a run or checkpoint, the new run's config and model; out: the model
filled, and what was kept, started and dropped.

Read once, at the start: `--resume` of the new run needs its own checkpoints alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from interformer_rec.checkpoint.manifest import Manifest
from interformer_rec.checkpoint.read import last_epoch, on_all_ranks, state_of
from interformer_rec.checkpoint.warm import fill_dense, fill_tables
from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.model import ModelConfig
from interformer_rec.config.run import RunConfig
from interformer_rec.data.fit import Fitted
from interformer_rec.data.growth.vocabulary import GrowingVocabulary
from interformer_rec.distributed.environment import Environment
from interformer_rec.distributed.parallelize import Parallel
from interformer_rec.distributed.state import dense_parameters
from interformer_rec.errors import InputError
from interformer_rec.model.embedding.embedded import table_dims
from interformer_rec.model.slices import dense_label, slices
from interformer_rec.storage import Storage
from interformer_rec.training.folder.run_folder import RunFolder, attached_config, locate
from interformer_rec.training.scoring.trained import fitted_of
from interformer_rec.training.start.warm.match import match_tables, match_weights, not_silent
from interformer_rec.training.start.warm.report import Report

WARM_START = "warm_start.json"  # in the run folder: what the run began with
MODEL = "model."  # what the task's weights are called behind, in a checkpoint


@dataclass(frozen=True)
class StartFrom:
    """What the user asked for. `partial`: tables and layers of another shape start fresh, instead of an error."""

    path: str
    partial: bool = False
    trust: bool = False


@dataclass(frozen=True)
class WarmSource:
    """The trained run: its checkpoint, config, and what was fitted for it."""

    checkpoint: Storage
    config: RunConfig
    fitted: Fitted
    state: dict[str, Any]
    partial: bool

    @classmethod
    def open(cls, asked: StartFrom, config: RunConfig, env: Environment) -> WarmSource:
        """Of a run its best checkpoint that is whole (collective). Raises InputError."""
        located = locate(asked.path, asked.trust)

        def all_of(checkpoint: Storage) -> tuple[RunConfig, Fitted, dict[str, Any]]:
            fitted = fitted_of(checkpoint)
            before = attached_config(checkpoint, asked.trust, like=config)
            if fitted.meaning is not None:
                before = before.model_copy(update={"features": fitted.meaning.features})
            manifest = Manifest.read(checkpoint)
            manifest.require_sizes()
            state = state_of(manifest)
            manifest.require_ranks(state["world_size"])
            return before, fitted, state

        before, fitted, state = env.on_main(lambda: located.read(all_of))
        located.agree(env)
        located.warn(env)
        there, here = (one.model.ensemble_members for one in (before, config))
        if there != here:
            raise InputError(
                f"--from {asked.path}: model.ensemble_members is {there} there and {here} here. A row of a table holds a vector for each "
                "member: set the same number, or train anew"
            )
        return cls(located.checkpoint, before, fitted, state, asked.partial)

    def growing(self, features: FeatureSchema) -> dict[str, GrowingVocabulary]:
        """What the tables with `grow` begin with: the ids there, which leave as others do when they are not seen any more, and those that
        wait to be seen often enough."""
        begin = {}
        for name, table in features.tables.items():
            if table.grow is None or name not in self.fitted.vocabularies:
                continue
            ids, before = self.fitted.vocabularies[name], self.fitted.growing.get(name)
            ages = np.ones(len(ids), np.int64) if before is None else before.windows - before.seen
            waiting = None if before is None else before.waiting.counted_back(before.windows)
            begin[name] = GrowingVocabulary.begun(table.grow.rows, ids, self.fitted.counts[name], ages, waiting)
        return begin

    def with_moments(self, fitted: Fitted) -> Fitted:
        """What was fitted here, with the means and deviations there of dense features that are the same: their weights read those."""
        known = {dense_label(feature) for feature in self.config.features.dense}
        assert fitted.meaning is not None
        kept = {
            feature.name: self.fitted.moments[feature.name]
            for feature in fitted.meaning.features.dense
            if dense_label(feature) in known and feature.name in self.fitted.moments
        }
        return replace(fitted, moments={**fitted.moments, **kept})

    def fill(self, config: RunConfig, fitted: Fitted, parallel: Parallel, env: Environment) -> Report:
        """Copy what means the same (collective). Raises InputError for a table or layer of another shape, unless `partial`."""
        states = self.config.optimizer.embedding.kind == config.optimizer.embedding.kind
        dims = table_dims(config.features, config.model.embedding_dim, config.model.ensemble_members)
        tables = match_tables(self.fitted, fitted, self.state["tables"], dims, states)
        manifest = Manifest.read(self.checkpoint)
        file = manifest.tensor_file("dense.safetensors")
        there = {
            key.removeprefix(f"weight|{MODEL}"): tuple(file.shape(key))
            for key in file.keys()  # noqa: SIM118 - not a mapping
            if key.startswith(f"weight|{MODEL}")
        }
        before, now = (slices(one.features, one.model) for one in (self.config, config))
        here = {name.removeprefix(MODEL): tuple(weight.shape) for name, weight in dense_parameters(parallel)}
        if set(before) != set(there) or set(now) != set(here):
            raise InputError(f"checkpoint {self.checkpoint.location!r} has other weights than its config says")
        weights = match_weights(before, now, there, here)
        report = Report(
            self.checkpoint.location,
            self.state["optimizer_steps"],
            tables,
            weights,
            states,
            not_silent(
                self.config.features,
                config.features,
                config.model.sequence.merge if isinstance(config.model, ModelConfig) else "separate",
            ),
        )
        report.require(self.partial)
        rows = {match.name: match.rows for match in tables if match.rows is not None}
        parts = {
            MODEL + match.name: replace(match.part, name=MODEL + match.part.name)
            for match in weights
            if match.part is not None
        }

        def copy() -> None:
            fill_tables(manifest, parallel, rows)
            fill_dense(manifest, parallel, parts)

        on_all_ranks(env, copy)
        trained = max(self.state["members_before"], last_epoch(self.state) + 1) if "epoch" in self.state else 0
        parallel.members_before = min(config.model.ensemble_members, trained)
        if parallel.optimizer.average is not None:
            parallel.optimizer.average.steps = self.state["averaged_steps"]
        return report


def require_source(folder: RunFolder, saved: list[str], source: StartFrom | None) -> None:
    """Raises InputError if a run that began with another one's weights would begin again without them: it has no checkpoint yet."""
    if saved or source is not None or not (begun := folder.read_json(WARM_START)):
        return
    raise InputError(
        f"run {folder.shown()!r} began with the weights of {begun.get('from')} and has no checkpoint of its own: repeat --from, or start "
        "a new run with --set training.out=DIR"
    )
