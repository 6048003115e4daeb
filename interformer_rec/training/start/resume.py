"""Whether a run may go on with a config. In: the config and the run's checkpoints; out: the config to go on with, or an InputError.

A weight means what the features, tables and model of its run made of it. So the config is compared with the one that is kept in the newest
checkpoint, key by key (resume_keys.py), before anything is built or written. The features that were fitted are the ones to compare with:
a config.yaml can be edited in its folder.
"""

from dataclasses import dataclass
from typing import Any

from interformer_rec.checkpoint.manifest import Manifest
from interformer_rec.checkpoint.read import read_state
from interformer_rec.config.difference import ABSENT, Difference, differences, reordered
from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.found import is_local, read_config
from interformer_rec.config.run import RunConfig
from interformer_rec.data.meaning import Meaning
from interformer_rec.errors import DamagedError, InputError
from interformer_rec.files import json_object
from interformer_rec.storage import Storage
from interformer_rec.training.folder.run_folder import ATTACHED, COMPLETE, RunFolder, attached_config
from interformer_rec.training.start.resume_keys import DECISIONS, NEW_RUN
from interformer_rec.training.start.saved_state import checked_state
from interformer_rec.training.stopping import Progress
from interformer_rec.training.timeline import is_over


@dataclass(frozen=True)
class Resumed:
    """How a run goes on."""

    config: RunConfig  # the user's, its features in the order of the run
    notes: tuple[str, ...] = ()  # for the log
    complete: int | None = None  # nothing is left to do: the step of the end


def resumed(config: RunConfig, folder: RunFolder) -> Resumed:
    """Compare a config with the run in `folder`; on one rank. Raises InputError that names every key that may not change.

    A run without a readable checkpoint goes on with any config: it begins again, or its start says what is damaged.
    """
    _require_found(config, folder)
    for name in folder.checkpoints.newest_first():
        checkpoint = folder.checkpoints.storage.folder(name)
        try:
            before = _saved_config(checkpoint, config)
            state = checked_state(read_state(checkpoint), checkpoint.location)
        except DamagedError:
            continue
        _require_same_meaning(before, config, folder)
        orders = reordered(before.features, config.features, "features")
        notes = [
            f"{key} lists the same names in another order than the run began with; the run's order stays"
            + (f", and training.monitor watches {before.features.labels[0].name!r}" if key == "features.labels" else "")
            for key in orders
        ]
        config = config.model_copy(update={"features": _features(before.features, config.features)})
        return Resumed(config, tuple(notes), _complete(config, folder, state))
    return Resumed(config)


def _require_found(config: RunConfig, folder: RunFolder) -> None:
    """Raises InputError if this config finds no checkpoint, but the one in the run folder might: the run would begin again.

    A store that only the run folder names is not opened.
    """
    if folder.checkpoints.newest_first() or not folder.config.exists():
        return
    try:
        before = read_config(folder.config.read_bytes(), str(folder.config), like=config)
    except (InputError, OSError):  # a start that was cut short: nothing is known
        return
    path, now = (one.training.checkpoint.path or str(folder.path / "checkpoints") for one in (before, config))
    if path != now and (not is_local(path) or RunFolder(before, folder.storage.location).checkpoints.newest_first()):
        raise InputError(
            f"run {folder.shown()!r} has its checkpoints in {path!r}, and there are none in {now!r}, where training.checkpoint.path "
            "looks for them now: restore that key, copy the checkpoints there, or start a new run with --set training.out=DIR"
        )


def _saved_config(checkpoint: Storage, config: RunConfig) -> RunConfig:
    """The config that a checkpoint's weights were trained with, and of its features what was fitted.

    References to the environment in it are taken for what `config` has there. Raises DamagedError, InputError.
    """
    name = f"{ATTACHED}features/fitted.json"
    where = checkpoint.folder(name).location
    fitted = json_object(Manifest.read(checkpoint).content(name), where)
    try:
        features = Meaning.from_dict(fitted["meaning"]).features
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"{where} cannot be read: {error}") from None
    return attached_config(checkpoint, like=config).model_copy(update={"features": features})


def _require_same_meaning(before: RunConfig, config: RunConfig, folder: RunFolder) -> None:
    pair = (before, config)
    if before.model.embedding_dim == config.model.embedding_dim:  # else one word about it is enough
        pair = (_explicit(before), _explicit(config))
    found = [c for c in differences(*pair) if DECISIONS.get(c.pattern, NEW_RUN) == NEW_RUN]
    if not found:
        return
    cannot = "; a checkpoint has no weights for what is new" if any(c.before == ABSENT for c in found) else ""
    raise InputError(
        f"run {folder.shown()!r} cannot go on with this config, because its weights were trained with another one: "
        f"{'; '.join(map(str, found))}{cannot}. Restore {_count(found)}, or start a new run with --set training.out=DIR. "
        "docs/guides/resume.md lists what may change on --resume"
    )


def _count(found: list[Difference]) -> str:
    return "that key" if len(found) == 1 else f"these {len(found)} keys"


def _explicit(config: RunConfig) -> RunConfig:
    """With the width of every table written out: a table may say what the model says anyway."""
    dim = config.model.embedding_dim
    tables = {
        n: t.model_copy(update={"embedding_dim": t.embedding_dim or dim}) for n, t in config.features.tables.items()
    }
    return config.model_copy(update={"features": config.features.model_copy(update={"tables": tables})})


def _features(before: FeatureSchema, now: FeatureSchema) -> FeatureSchema:
    """Those of the run, in the run's order, with the weights that labels have now."""
    weights = {label.name: label.weight for label in now.labels}
    labels = [label.model_copy(update={"weight": weights[label.name]}) for label in before.labels]
    values = {name: getattr(before, name) for name in FeatureSchema.model_fields}
    return FeatureSchema.model_validate({**values, "labels": labels})  # anew: a copy would keep what was derived


def _complete(config: RunConfig, folder: RunFolder, state: dict[str, Any]) -> int | None:
    """The last step, if training is over and tested and the report of it is written; None without config.yaml: a start writes it."""
    if not folder.config.exists() or config.data.windows is not None:  # there may be new windows
        return None
    options, step = config.training, state["step"]
    progress = Progress(options.monitor, options.patience)
    progress.load_state_dict(state["progress"])
    over = is_over(options.epochs, options.max_steps, state["epoch"], step) or progress.exhausted
    return step if over and not state["evaluate"] and folder.read_json(COMPLETE) == {"step": step} else None
