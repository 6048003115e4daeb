"""What a resumed run takes back from its checkpoints. In: their names, newest first; out: vocabularies, weights and state of whole ones.

A file that is not what was written is passed over, with a message, for the same file of the next older checkpoint.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from interformer_rec.checkpoint.checked import Verified
from interformer_rec.checkpoint.manifest import Manifest
from interformer_rec.checkpoint.read import load, read_state
from interformer_rec.data.fit import Fitted
from interformer_rec.distributed.parallelize import Parallel
from interformer_rec.errors import DamagedError, InputError
from interformer_rec.storage import Storage
from interformer_rec.training.folder.run_folder import FEATURES, RunFolder, unpack_features
from interformer_rec.training.loop import Run
from interformer_rec.training.start.saved_state import checked_state


def kept_features(folder: RunFolder, saved: list[str]) -> tuple[Fitted, str | None]:
    """The vocabularies that a run started with; the checkpoint to copy them from where the run folder's are not whole.

    Raises InputError where there are none any more.
    """
    problems = []
    for name in saved:
        checkpoint = folder.checkpoints.storage.folder(name)
        try:
            if _are_there(checkpoint, folder.features):
                return Fitted.load(folder.features), None
            with tempfile.TemporaryDirectory() as temporary:  # another machine, or a file that was cut short
                unpack_features(checkpoint, Path(temporary))
                return Fitted.load(temporary), name
        except DamagedError as error:
            problems.append(str(error))
    if (folder.features / "fitted.json").exists():  # whether a checkpoint can be continued is said later
        return Fitted.load(folder.features), None
    raise InputError(f"run {folder.shown()!r} has no checkpoint that is whole: {'; '.join(problems)}")


def _are_there(checkpoint: Storage, features: Path) -> bool:
    """Whether the folder has the same files as the checkpoint, byte by byte. Raises DamagedError for the checkpoint's."""
    here = Storage.open(features)
    for name, entry in Manifest.read(checkpoint).entries(FEATURES).items():
        file = name.removeprefix(FEATURES)
        try:
            if here.size(file) != entry["bytes"]:
                return False
            Verified(here, file, entry).check()
        except (OSError, DamagedError):
            return False
    return True


def continue_from_newest(
    saved: list[str], run: Run, parallel: Parallel, restore: Callable[[dict[str, Any], Storage], None]
) -> str | None:
    """Load the newest of the checkpoints that is whole, its state by `restore`, and name the others; its name, None if there are none.

    Raises InputError if there are checkpoints and all of them are damaged.
    """
    env, folder = run.env, run.folder
    damaged = []
    for name in saved:
        checkpoint = folder.checkpoints.storage.folder(name)
        try:
            # Of one rank for all: no rank may go on alone from a file that another could not read.
            state = env.on_main(lambda: checked_state(read_state(checkpoint), checkpoint.location))  # noqa: B023
            load(checkpoint, parallel, env)
            restore(state, checkpoint)
        except DamagedError as error:
            run.log.message(f"damaged checkpoint passed over: {error}")
            damaged.append(str(error))
            continue
        folder.checkpoints.continue_from(name)
        run.log.message(f"continuing from {checkpoint.location} at step {run.position.step}")
        return name
    if damaged:
        raise InputError(f"run {folder.shown()!r} has no checkpoint that is whole: {'; '.join(damaged)}")
    return None
