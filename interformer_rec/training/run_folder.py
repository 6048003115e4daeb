"""A run's folder: what is where, and which checkpoint is last and which is best. In and out: files.

runs/NAME/config.yaml  features/  checkpoints/{step-*, index.json}  metrics.jsonl  tensorboard/
          data.json  plan.json  environment.json  evaluation.json  report.html
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from interformer_rec.distributed import checkpoint
from interformer_rec.distributed.environment import Environment
from interformer_rec.distributed.parallelize import Parallel
from interformer_rec.errors import InputError
from interformer_rec.strict_json import finite


class RunFolder:
    """Paths and checkpoints of one run."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.features = self.path / "features"
        self.checkpoints = self.path / "checkpoints"

    def claim(self, resume: bool) -> None:
        """Refuse to write over another run; nothing is written yet, so a start that fails can simply be repeated."""
        if self.config.exists() and not resume:
            raise InputError(
                f"run folder {str(self.path)!r} already holds a run: continue it with --resume, "
                f"choose another with --set training.out=DIR, or delete it"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot make the run folder {str(self.path)!r}: {error.strerror}") from None

    def write_json(self, name: str, content: Any) -> None:
        """Write NAME into the folder, whole or not at all; numbers that are not finite become null."""
        part = self.path / f".{name}.part"
        part.write_text(json.dumps(finite(content), indent=1), encoding="utf-8")
        part.replace(self.path / name)

    def save_checkpoint(
        self, parallel: Parallel, env: Environment, state: dict[str, Any], best: bool, keep: int
    ) -> Path:
        """Save (collective), note `last` (and `best`), and drop all but the newest `keep` and the best."""
        folder = self.checkpoints / f"step-{state['step']:08d}"
        checkpoint.save(folder, parallel, env, state)
        _, errors = checkpoint.everywhere(env, lambda: self._note(folder, best, keep) if env.is_main else {})
        if errors:  # a disk that is full by now, say; the checkpoint itself is whole, and `--resume` finds it
            raise checkpoint.SaveError(f"checkpoint {str(folder)!r} was not noted in index.json: {'; '.join(errors)}")
        return folder

    def _note(self, folder: Path, best: bool, keep: int) -> dict[str, Any]:
        """Update index.json, then drop what neither it nor `keep` holds."""
        index = {**self._index(), "last": folder.name, **({"best": folder.name} if best else {})}
        part = self.checkpoints / ".index.json.part"
        part.write_text(json.dumps(index))
        part.replace(self.checkpoints / "index.json")
        for other in self._newest_first()[keep:]:
            if other.name not in index.values():
                shutil.rmtree(other)
        return {}

    def best_checkpoint(self) -> Path | None:
        """The best by the monitored metric, else the last; None before the first."""
        index = self._index()
        name = index.get("best", index.get("last"))
        return self.checkpoints / name if name else None

    def newest_good_checkpoint(self, env: Environment) -> tuple[Path | None, list[str]]:
        """The newest checkpoint that is whole, and what is wrong with newer ones (collective). None if there is none at all.

        Raises InputError if there are checkpoints and all of them are damaged.
        """
        complaints: list[str] = []
        for folder in env.on_main(self._newest_first):
            found = checkpoint.damage(folder, env)
            if not found:
                return folder, complaints
            complaints += found
        if complaints:
            raise InputError(f"run {str(self.path)!r} has no checkpoint that is whole: {'; '.join(complaints)}")
        return None, []

    def _newest_first(self) -> list[Path]:
        return sorted(self.checkpoints.glob("step-*"), reverse=True)

    def _index(self) -> dict[str, str]:
        try:
            return json.loads((self.checkpoints / "index.json").read_text())
        except (FileNotFoundError, NotADirectoryError):
            return {}


def locate(path: str) -> tuple[RunFolder, Path]:
    """A run folder or one of its checkpoints, as named by the user -> (run folder, checkpoint to use)."""
    given = Path(path)
    if (given / "config.yaml").exists():
        folder = RunFolder(given)
        found = folder.best_checkpoint()
        if found is None:
            raise InputError(f"run {path!r} has no checkpoint yet: train it first")
        return folder, found
    if (given / "state.json").exists() and (given.resolve().parent.parent / "config.yaml").exists():
        return RunFolder(given.resolve().parent.parent), given
    raise InputError(f"{path!r} is neither a run folder (with config.yaml) nor a checkpoint inside one")
