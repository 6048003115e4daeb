"""`--set` of evaluate and predict: how rows are read and scored here. In: a checkpoint's config, key=value pairs; out: another config.

The rest of a config says what the model is, and that is in the checkpoint: a change there would score with another model.
"""

from collections.abc import Sequence

from pydantic import ValidationError

from interformer_rec import strict_yaml
from interformer_rec.config.errors import explain
from interformer_rec.config.found import with_stores
from interformer_rec.config.run import RunConfig
from interformer_rec.errors import InputError
from interformer_rec.training.folder.located import Located
from interformer_rec.training.folder.run_folder import attached_config

SETTINGS = (
    "data.on_bad_row",
    "data.max_bad_rows",
    "data.max_decoded_bytes",
    "data.eval_batch_size",
    "data.workers",
    "data.prefetch",
    "data.events",
    "training.device",
    "training.precision",
)


def with_settings(config: RunConfig, pairs: Sequence[str], command: str) -> RunConfig:
    """`config` with `a.b=c` of SETTINGS. Raises InputError that names what may be set."""
    for pair in pairs:
        key, equals, text = pair.partition("=")
        section, _, name = key.strip().partition(".")
        if not equals or key.strip() not in SETTINGS:
            what = f"{key.strip()!r} belongs to the model or its training" if equals else "write it as key=value"
            raise InputError(f"{command} --set {pair!r}: {what}; {command} takes {', '.join(SETTINGS)}")
        value = strict_yaml.parse(text, f"{command} --set {key.strip()}: the value")
        part = getattr(config, section)
        try:
            changed = type(part).model_validate({**part.model_dump(), name: value})
        except ValidationError as error:
            raise InputError(f"{command} --set {pair!r} is not valid:\n{explain(error, type(part))}") from None
        config = config.model_copy(update={section: changed})
    if config.data.events is not None:
        try:
            config.data.events.check(config.features)
        except ValueError as error:
            raise InputError(f"{command} --set data.events is not valid: {error}") from None
    return config


def read_config(located: Located, path: str, pairs: Sequence[str], command: str, trust: bool) -> RunConfig:
    """The config of the run that the user names with `path`, with `pairs`. Raises InputError where it names stores of histories that are
    not to be opened, and the user has not named others."""
    found = located.read(lambda checkpoint: attached_config(checkpoint, trust))
    named = any(pair.partition("=")[0].strip() == "data.events" for pair in pairs)
    return with_settings(found if named else with_stores(path, found, trust), pairs, command)
