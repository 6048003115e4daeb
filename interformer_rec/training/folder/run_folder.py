"""A run's folder: what is where, what of it goes into a checkpoint and comes back out of one. In and out: files.

runs/NAME/config.yaml  features/  checkpoints/step-*  metrics.jsonl  tensorboard/
          data.json  plan.json  environment.json  measured.json  evaluation.json  report.html  complete.json
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from interformer_rec.checkpoint.checked import MANIFEST
from interformer_rec.checkpoint.manifest import Manifest
from interformer_rec.checkpoint.retention import Checkpoints
from interformer_rec.checkpoint.write import SaveError
from interformer_rec.config.found import read_config, require_open, run_folder_config
from interformer_rec.config.run import RunConfig
from interformer_rec.distributed.environment import Environment
from interformer_rec.errors import DamagedError, InputError
from interformer_rec.files import finite, json_object, refuse_link_out, write_whole
from interformer_rec.redaction import redact
from interformer_rec.storage import Storage
from interformer_rec.training.folder.located import Located, require_one
from interformer_rec.training.folder.lock import RunLock, RunLost
from interformer_rec.training.folder.lock_file import ERRORS
from interformer_rec.training.folder.mirror import Mirror
from interformer_rec.training.folder.writing import writing

T = TypeVar("T")
ATTACHED = "run/"  # where a checkpoint keeps files of the run folder
FEATURES = f"{ATTACHED}features/"
COMPLETE = "complete.json"  # {"step": N}, written last: training has ended there, and all of the above belongs to it


class RunFolder:
    """Paths and checkpoints of one run."""

    def __init__(self, config: RunConfig, path: str | os.PathLike[str] | None = None) -> None:
        """`path`: where the folder is now, if not where the config says. Raises InputError for a bad checkpoint.path."""
        place = str(path) if path is not None else config.training.out.replace("{name}", config.name)
        self.storage = Storage.open(place)
        self._mirror = Mirror(self.storage) if self.storage.local is None else None
        if self._mirror is not None:
            self.path = self._mirror.path
        else:
            self.path = Path(self.storage.root if "://" in place else place).expanduser()
        self.config = self.path / "config.yaml"
        self.features = self.path / "features"
        self.checkpoints = Checkpoints(_checkpoints_place(self.storage, self.path, config.training.checkpoint.path))
        self._keep_on = config.training.checkpoint.on_error == "continue"
        self._hang_seconds = config.training.hang_seconds
        self._lock: RunLock | None = None
        self._unsent = ""  # what could not be sent to a store, in a sentence, where that ends the run

    def claim(self, resume: bool) -> None:
        """Lock the folder and the checkpoints' place for this job; refuse to write over another run.

        Nothing but the lock is written. Raises InputError; then nothing is locked.
        """
        self._require_new(resume)
        self._refuse_links_out()
        places = [self.storage, self.checkpoints.storage]
        self._lock = RunLock(places, self._hang_seconds, _say)  # known before it is taken: a signal may come in between
        try:
            self._lock.take()
        except Exception:
            self._lock = None
            raise
        self.checkpoints.lost = self._lock.lost
        try:
            self._require_new(resume)  # another one may have begun and ended before it was ours
            if self._mirror is not None and resume:
                self._reach(self._mirror.fetch)
        except InputError:
            self.release()
            raise

    @property
    def locked(self) -> bool:
        """Whether this process may hold the lock."""
        return self._lock is not None

    def release(self) -> None:
        """Unlock what `claim` locked; folders that were made for it go too, as far as they are empty. Never raises.

        Of a run in a store, what is not there yet is sent before, an error's files too.
        """
        if self._mirror is not None:
            try:
                if not self.lost():
                    self._mirror.send()
                self._mirror.close()
            except ERRORS as error:
                _say(self._not_sent(error))
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def send(self) -> None:
        """Of a run in a store: copy there what has changed (on rank 0). A failure ends the run in `require`, as rank 0 alone must not, or
        is said where checkpoint.on_error is continue."""
        if self._mirror is None or self._lock is None:
            return
        try:
            self._mirror.send()
        except ERRORS as error:
            if self._keep_on:
                _say(f"{self._not_sent(error)}; training goes on")
            else:
                self._unsent = self._not_sent(error)

    def saved(self, note: Callable[[dict[str, Any]], None], record: dict[str, Any]) -> None:
        """After a checkpoint: note it, and bring the folder in a store up to date."""
        note(record)
        self.send()

    def shown(self, name: str = "") -> str:
        """Where a file of the folder, or the folder, is in the user's eyes."""
        if self._mirror is None:
            return redact(str(self.path / name))
        return redact(self.storage.folder(name).location if name else self.storage.location)

    def _not_sent(self, error: Exception) -> str:
        return f"files of the run could not be written to {self.shown()!r} ({error}); they are in {str(self.path)!r}"

    def _reach(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except ERRORS as error:
            raise InputError(f"cannot reach the run folder {self.shown()!r}: {error}") from None

    def lost(self) -> str:
        """Why this job may write no more, in a sentence; "" while it may, and on the ranks that did not claim the folder."""
        return self._lock.lost() if self._lock is not None else ""

    def require(self, env: Environment) -> None:
        """Raise RunLost on all ranks if the folder is no longer this job's, SaveError if it could not be sent to its store (collective)."""
        lost, unsent = env.on_main(lambda: (self.lost(), self._unsent))
        if lost:
            raise RunLost(lost)
        if unsent:
            raise SaveError(unsent)

    def _require_new(self, resume: bool) -> None:
        if not resume and self._reach(lambda: self.storage.size("config.yaml")) is not None:
            raise InputError(
                f"run folder {self.shown()!r} already holds a run: continue it with --resume, "
                f"or choose another with --set training.out=DIR"
            )
        if not resume and self.checkpoints.newest_first():
            raise InputError(
                f"{self.checkpoints.storage.location!r} already holds checkpoints of a run: continue it with --resume, "
                f"choose another place with --set training.checkpoint.path=PATH, or delete them"
            )

    def _refuse_links_out(self) -> None:
        """A folder of someone else must not lead what is written elsewhere; checkpoints/ may well lie on another disk."""
        for path in self.path.iterdir() if self.path.is_dir() else ():
            if path.is_symlink() and path != self.path / "checkpoints":
                try:
                    refuse_link_out(self.path, path.name, str(self.path))
                except DamagedError:
                    raise InputError(
                        f"{str(path)!r} is a link to {os.readlink(path)!r}, outside the run folder, and training would write there: "
                        f"put the file itself in its place"
                    ) from None

    def write_json(self, name: str, content: Any) -> None:
        """Write NAME into the folder, whole or not at all; numbers that are not finite become null. Raises CannotWrite."""
        with writing(self.path / name):
            write_whole(self.path / name, json.dumps(finite(content), indent=1))

    def read_json(self, name: str) -> dict[str, Any] | None:
        """What `write_json` wrote; None if it is not there or not whole."""
        try:
            return json_object((self.path / name).read_bytes(), name)
        except (OSError, DamagedError):
            return None

    def attachments(self) -> dict[str, Path]:
        """Name in a checkpoint -> file: what another machine needs to go on, or to serve, from the checkpoint alone."""
        names = ["fitted.json", *sorted(path.name for path in self.features.glob("*.parquet"))]
        return {f"{ATTACHED}config.yaml": self.config, **{f"{FEATURES}{name}": self.features / name for name in names}}

    def parquet_files(self, config: RunConfig) -> list[tuple[str, Storage, list[str]]]:
        """What the run may write as Parquet, its vocabularies: the config's key of a place, the place, names of files below it."""
        tables = [f"{table}.parquet" for table in [*config.features.tables, "any"]]
        step = self.checkpoints.folder(1).name
        return [
            ("training.out", self.storage, [f"features/{table}" for table in tables]),
            ("training.checkpoint.path", self.checkpoints.storage, [f"{step}/{FEATURES}{table}" for table in tables]),
        ]


def _say(line: str) -> None:
    print(redact(line), file=sys.stderr, flush=True)


def _checkpoints_place(run: Storage, path: Path, place: str | None) -> str | Path:
    """training.checkpoint.path; a relative one is in the run folder, wherever that is now and whatever the working folder is."""
    place = place or "checkpoints"
    if "://" in place:
        return place
    expanded = Path(place).expanduser()
    return (
        run.folder(place).location if run.local is None and not expanded.is_absolute() else path.absolute() / expanded
    )


def attached_config(checkpoint: Storage, trust: bool = False, like: RunConfig | None = None) -> RunConfig:
    """The config of the run that wrote a checkpoint; `trust` and `like` as in `read_config`. Raises InputError."""
    name = f"{ATTACHED}config.yaml"
    return read_config(Manifest.read(checkpoint).content(name), checkpoint.folder(name).location, trust, like)


def unpack_features(checkpoint: Storage, folder: Path) -> None:
    """Write the vocabularies of a checkpoint into a folder, as `Fitted.load` wants them. Raises InputError."""
    manifest = Manifest.read(checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    # fitted.json last: a folder with it is whole.
    for name in sorted(manifest.entries(FEATURES), key=lambda name: (name.endswith(".json"), name)):
        write_whole(folder / name.removeprefix(FEATURES), manifest.content(name))


def locate(path: str, trust: bool = False) -> Located:
    """A run folder or one of its checkpoints, as named by the user -> the checkpoint to use (of a run, its best that is whole).

    `trust`: open whatever the run's config names. Raises InputError.
    """
    config = run_folder_config(path, trust)
    if config is not None:
        if not trust:
            require_open(config, ("training", "checkpoint", "path"), path, "Name the checkpoint in the run's place")
        return require_one(Located.among(RunFolder(config, path).checkpoints), path)
    given = Storage.open(path)
    if given.size(MANIFEST) is None:
        raise InputError(f"{path!r} is neither a run folder (with config.yaml) nor a checkpoint (with {MANIFEST})")
    return Located([given])
