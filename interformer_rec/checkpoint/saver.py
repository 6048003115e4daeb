"""When state becomes a checkpoint. In: a run's state now and then; out: checkpoints, written while training goes on.

`save` copies this rank's part to host memory (all of it, or the rows touched since the last full checkpoint) and returns; a
thread writes it, over a process group of its own, and all ranks commit together. There is one write at a time: a store that
is slower than the saves makes the next save wait. Where the host has no room for the copy, or with asynchronous=false,
the same code writes straight from the live memory while training waits; then a few pieces of 16 MiB are all it holds.
"""

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from interformer_rec.checkpoint.checked import MANIFEST, PIECE
from interformer_rec.checkpoint.evaluated import Evaluated
from interformer_rec.checkpoint.manifest import Base, Manifest
from interformer_rec.checkpoint.retention import Checkpoints
from interformer_rec.checkpoint.tensor_file import Part
from interformer_rec.checkpoint.touched_rows import TouchedRows
from interformer_rec.checkpoint.write import Content, SaveError, collect, everywhere, write
from interformer_rec.config.run import CheckpointConfig
from interformer_rec.distributed.environment import Environment
from interformer_rec.distributed.parallelize import Parallel
from interformer_rec.errors import DamagedError
from interformer_rec.host import free_memory
from interformer_rec.storage import Storage

HEADROOM = 1 << 30  # bytes of host memory that a copy leaves free


class Saver:
    """Saves a run's checkpoints; methods are collective unless they say otherwise."""

    def __init__(
        self,
        checkpoints: Checkpoints,
        parallel: Parallel,
        env: Environment,
        options: CheckpointConfig,
        *,
        attachments: Callable[[], Mapping[str, Path]] = dict,
        beat: Callable[[], None] = lambda: None,
        done: Callable[[dict[str, Any]], None] = lambda record: None,
    ) -> None:
        """`attachments`: files that a checkpoint takes along, asked for on rank 0 (write.Content). `beat`: called in this thread once a
        piece; `done`: takes a record of every checkpoint that was written."""
        self.checkpoints, self.parallel, self.env = checkpoints, parallel, env
        self.options, self.attachments, self.beat, self.done = options, attachments, beat, done
        # Its own group: the thread's messages must not meet those of training.
        self.group = dist.new_group(backend="gloo")
        self.touched = TouchedRows(parallel.model) if options.full_every > 1 else None
        self._base: Base | None = None  # the last full checkpoint, once it is whole
        self._attached: dict[str, tuple[int, int, int]] = {}  # to the last full checkpoint -> _stamp
        self._since_full = 0
        self._memory: dict[str, Part] = {}
        self._thread: threading.Thread | None = None
        self._pieces = 0  # that the thread has written
        self._failure: BaseException | None = None
        self._record: dict[str, Any] | None = None

    def save(self, state: dict[str, Any]) -> None:
        """Save `state` and the model as they are now; `state["step"]` names the checkpoint.

        Raises SaveError, on all ranks, for this checkpoint or, where writing goes on in a thread, for the one before.
        """
        began = time.perf_counter()
        self.wait()
        base = self._base if self._since_full < self.options.full_every - 1 else None
        attachments = self._attachments(base) if self.env.is_main else {}
        content = collect(self.parallel, self.env, state, attachments, self.touched, base)
        if base is None:
            self._base, self._since_full = None, 0
        copied = self.options.asynchronous and self._room(content)
        record = {"step": state["step"], "incremental": base is not None, "asynchronous": copied}
        if copied:
            content = content.on_host(self._memory)
        record["host_bytes"] = (content.nbytes if copied else 0) + PIECE
        if copied:
            self._start(lambda: self._write(content, record, self._count))
        else:
            self._guarded(lambda: self._write(content, record, self.beat))
        if base is None and self.touched is not None:
            self.touched.clear()
        record["stall_seconds"] = time.perf_counter() - began
        if not copied:
            self.wait()

    def mark(self, rows: Mapping[str, np.ndarray]) -> None:
        """Rows of tables, ascending, were changed otherwise than by training: increments hold them. Not collective."""
        if self.touched is not None:
            for table, changed in rows.items():
                self.touched.mark(table, changed)

    def conclude(self, step: int, evaluated: Evaluated) -> None:
        """Add to the checkpoint of `step`, the last that was saved, what its evaluation says, once it is written.

        Raises SaveError on all ranks, for this or, where writing goes on in a thread, from `wait`.
        """
        writing = self._thread
        if writing is None:
            self._guarded(lambda: self._conclude(step, evaluated))
            self.wait()
            return

        def follow() -> None:
            writing.join()
            if self._failure is None:
                self._conclude(step, evaluated)

        self._start(follow)

    def wait(self) -> None:
        """Until everything is written. Raises SaveError on all ranks if it was not."""
        if self._thread is not None:
            written = self._pieces
            while self._thread.is_alive():
                self._thread.join(0.2)
                if self._pieces != written:  # a write that waits for a rank that is gone is no progress
                    written = self._pieces
                    self.beat()
            self._thread = None
        failure, self._failure = self._failure, None
        record, self._record = self._record, None
        if failure is not None:
            raise failure
        if record is not None:
            self.done(record)

    def poll(self) -> None:
        """Report a write that has ended by now. Not collective; a failure is left to `wait`."""
        if self._thread is not None and not self._thread.is_alive() and self._failure is None:
            self.wait()

    def finish(self, seconds: float) -> None:
        """At the end of a run that failed: let a write that has begun end, for so long."""
        if self._thread is not None:
            self.beat()
            self._thread.join(seconds)

    def _attachments(self, base: Base | None) -> Mapping[str, Path]:
        """Of a full checkpoint all, of an incremental one those that are not as its base has them."""
        found = self.attachments()
        stamps = {name: _stamp(path) for name, path in found.items()}
        if base is None:
            self._attached = stamps
            return found
        return {name: path for name, path in found.items() if self._attached.get(name) != stamps[name]}

    def _start(self, work: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=self._guarded, args=(work,), name="checkpoint", daemon=True)
        self._thread.start()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # raised again by wait, in the thread that trains
            self._failure = error

    def _write(self, content: Content, record: dict[str, Any], beat: Callable[[], None]) -> None:
        began = time.perf_counter()
        folder = self.checkpoints.folder(record["step"])
        written = write(folder, content, self.env, self.group, beat)
        record["bytes"] = written.nbytes
        _, errors = everywhere(self.env, lambda: self._tidy(folder.name), self.group)
        record["write_seconds"] = time.perf_counter() - began
        if content.base is None:
            self._base = Base(folder.name, written.sha256)
        else:
            self._since_full += 1
        self._record = record
        if errors:  # the checkpoint itself is whole, and `--resume` finds it
            raise SaveError(
                f"checkpoint {folder.location!r} was written, but older ones were not removed: {'; '.join(errors)}"
            )

    def _conclude(self, step: int, evaluated: Evaluated) -> None:
        folder = self.checkpoints.folder(step)
        _, errors = everywhere(self.env, lambda: self._add(folder, evaluated), self.group)
        if errors:  # `--resume` evaluates it once more
            raise SaveError(f"the evaluation of checkpoint {folder.location!r} was not noted: {'; '.join(errors)}")

    def _add(self, folder: Storage, evaluated: Evaluated) -> None:
        # without a manifest the checkpoint could not be written, and the run goes on all the same
        if self.env.is_main and folder.size(MANIFEST) is not None:
            try:
                evaluated.write(Manifest.read(folder))
            except DamagedError as error:
                raise OSError(str(error)) from error
            self.checkpoints.tidy(folder.name, self.options.keep)

    def _count(self) -> None:
        self._pieces += 1

    def _tidy(self, name: str) -> None:
        if self.env.is_main:
            self.checkpoints.tidy(name, self.options.keep)

    def _room(self, content: Content) -> bool:
        """Whether every host has memory for the copies of its ranks; the same on every rank."""
        held = sum(part.nbytes for part in self._memory.values())
        need = max(0, content.nbytes - held) * self.env.local_world_size
        fits = torch.tensor([float(need + HEADROOM <= free_memory())])
        dist.all_reduce(fits, dist.ReduceOp.MIN, group=self.group)
        return bool(fits)


def _stamp(path: Path) -> tuple[int, int, int]:
    """Differs once a file was written again; of one that is missing too, which writing the checkpoint says."""
    try:
        found = path.stat()
    except OSError:
        return (-1, -1, -1)
    return found.st_mtime_ns, found.st_size, found.st_ino
