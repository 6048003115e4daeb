"""What the config of a run may make a command open. In: a run folder or checkpoint that the user names; out: its config, and paths to open.

Anybody may have written what lies in a run folder or a checkpoint, so its config gets nothing of the environment, and what it names is
opened only where that sends nothing to another host: a path on this machine, in the config.yaml of a run folder. A URI, a path that
needs the environment and the data of a checkpoint wait for --trust-run ("this run is mine"), or for the user's own --data.
"""

import pyarrow as pa

from interformer_rec.config.run import RunConfig, parse_found, parse_yaml
from interformer_rec.config.text import STORES, Place
from interformer_rec.errors import InputError
from interformer_rec.redaction import without_credentials
from interformer_rec.storage import Storage
from interformer_rec.strict_yaml import MAX_BYTES

CONFIG = "config.yaml"
TRUST = "--trust-run"
_INSTEAD = "Name them with --set data.events=..., where the command has --set"
_MINE = f"If the run is yours, add {TRUST}"


def run_folder_config(path: str, trust: bool) -> RunConfig | None:
    """The config of a run folder, on this machine or in a store that the user names; None if `path` is none. Raises InputError."""
    folder = Storage.open(path)
    where = folder.folder(CONFIG).location
    try:
        size = folder.size(CONFIG)
        content = folder.get(CONFIG) if size is not None and size <= MAX_BYTES else None
    except (OSError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read config {without_credentials(where)!r}: {reason}") from None
    if size is not None and content is None:
        raise InputError(f"config {where!r} has {size:,} bytes; {MAX_BYTES >> 20} MiB are the most that is read")
    return None if content is None else read_config(content, where, trust)


def read_config(content: bytes, source: str, trust: bool = False, like: RunConfig | None = None) -> RunConfig:
    """A config of a run. `trust` fills it in from the environment, `like` from another config. Raises InputError."""
    return parse_yaml(content, source) if trust else parse_found(content, source, like)


def require_open(config: RunConfig, place: Place, run: str, instead: str) -> None:
    """Raise InputError if the path at `place` of a run folder's config is not to be opened; `instead`: what else the user can do."""
    value = config.written(place)
    if value is None:
        return
    key, shown = ".".join(map(str, place)), without_credentials(str(value))
    if needed := config.unfilled(place):
        raise InputError(
            f"{key} of run {run!r} is {shown!r}: a config found in a run is not filled in from the environment. {instead}. {_MINE}, with "
            f"{' and '.join(needed)} set as in training"
        )
    if not is_local(str(value)):
        raise InputError(
            f"{key} of run {run!r} is {shown!r}: a place beyond this machine that only the run names is not opened. {instead}. {_MINE}"
        )


def is_local(path: str) -> bool:
    """On this machine's file system."""
    return "://" not in path.removeprefix("file://") and "::" not in path


def data_to_evaluate(path: str, config: RunConfig, trust: bool) -> str:
    """Files with labels that the run of `path` names (test, else valid); `config`: what its checkpoint says. Raises InputError."""
    found = config if trust else run_folder_config(path, trust=False)
    named = found or config
    split = next((split for split in ("test", "valid") if getattr(named.data, split) is not None), None)
    if split is None:
        raise InputError("the run has neither data.test nor data.valid: name the files with --data PATH")
    if not trust and (found is None or not is_local(path)):
        shown = without_credentials(str(named.written(("data", split))))
        raise InputError(
            f"{path!r} names data.{split} {shown!r}: files that only a checkpoint or a run in a store names are not opened. Name the files "
            f"with --data PATH. {_MINE}"
        )
    if not trust:
        require_open(named, ("data", split), path, "Name the files with --data PATH")
    return str(getattr(named.data, split))


def with_stores(path: str, config: RunConfig, trust: bool) -> RunConfig:
    """`config`, which the checkpoint that the user names with `path` holds, if its stores (data.events) may be opened. Raises InputError.

    They are unpacked where this machine does so, not where the run says.
    """
    events = config.data.events
    if trust or events is None:
        return config
    if run_folder_config(path, trust=False) is None or not is_local(path):
        raise InputError(
            f"rows have their histories in stores (data.events), and stores that only the checkpoint or a run in a store names are not "
            f"opened ({path!r}). {_INSTEAD}. {_MINE}"
        )
    for name in events.stores:
        require_open(config, (*STORES, name), path, _INSTEAD)
    data = config.data.model_copy(update={"events": events.model_copy(update={"cache": None})})
    return config.model_copy(update={"data": data})


def at_home(config: RunConfig, folder: str) -> RunConfig:
    """The config of a run that lies in `folder`, without the paths that are not to be opened."""
    closed = {
        split: None
        for split in ("train", "valid", "test")
        if config.unfilled(("data", split)) or not is_local(getattr(config.data, split) or "")
    }
    stores = config.data.events.stores if config.data.events is not None else {}
    if any(config.unfilled((*STORES, name)) or not is_local(store) for name, store in stores.items()):
        closed |= {"events": None, "train": None}  # rows without their histories tell nothing
    training = config.training.model_copy(update={"out": folder})
    return config.model_copy(update={"data": config.data.model_copy(update=closed), "training": training})
