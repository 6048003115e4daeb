"""Where a command may not write. In: a place that the user names; out: nothing, or an InputError that says what is there already.

Files of two kinds in one folder would be told apart by their names alone: cleaning up one would delete the other, and a file that is called
as one of the other kind would be read as such.
"""

import pyarrow as pa

from interformer_rec.checkpoint.checked import MANIFEST
from interformer_rec.config.found import CONFIG
from interformer_rec.data.files.locate import SUFFIXES
from interformer_rec.errors import InputError
from interformer_rec.storage import Storage

ABOVE = 4  # folders above the place that are looked at: DIR/versions/ID/graphs, runs/NAME/checkpoints/step-9/x
OWN = ("checkpoints", "features", "tensorboard")  # folders of a run folder


def refuse_occupied(key: str, place: Storage) -> None:
    """Raises InputError if `place`, which the user has named with `key`, is a run folder or holds Parquet files, or lies in a run's own
    folders, in a checkpoint or in a version of an exported model."""
    if place.local is not None:  # as links lead, and with a name for what "." and ".." are
        place = Storage.open(place.local.resolve())
    try:
        found = _found(place)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"cannot reach {key} {place.location!r}: {error}") from None
    if found is not None:
        raise InputError(f"{key} {place.location!r} {found}: name a folder of its own")


def _found(place: Storage) -> str | None:
    names = place.names()
    rows = [name for name in names if name.endswith(SUFFIXES)]
    if rows:  # before the next: a data set may have a config with it
        return f"holds data: {rows[0]!r}" + (f" and {len(rows) - 1} more" if len(rows) > 1 else "")
    if CONFIG in names:
        return f"is the folder of a run, or of a version: it holds {CONFIG}"
    for _ in range(ABOVE):
        name = place.name
        if place.size(MANIFEST) is not None:
            return f"lies in a checkpoint or a version: {place.location!r} holds {MANIFEST}"
        above = place.folder("..")
        if above.root == place.root or not name:
            break
        if name in OWN and above.size(CONFIG) is not None:
            return f"lies in a run's own folder {name!r}: {above.location!r} holds {CONFIG}"
        place = above
    return None
