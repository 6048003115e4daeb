"""Where the workers of a study meet. In: --storage and --out; out: Optuna's storage, safe for several processes.

A journal is a file that is only appended to, under a lock file beside it: it works on shared file systems. SQLite works on one machine's
disk. Databases (PostgreSQL, MySQL) take the most workers.
"""

import os
import time
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError

from interformer_rec.errors import InputError
from interformer_rec.redaction import without_credentials

JOURNAL = "study.journal"  # in --out
BUSY_SECONDS = 60  # for which a process waits while others write an SQLite file
ATTEMPTS, PAUSE = 20, 0.2  # of processes that make the same tables at the same time
BLOCK = 1 << 16  # bytes


def open_store(uri: str | None, out: Path) -> tuple[BaseStorage, str]:
    """The storage, and what it is called in messages. Raises InputError that says what is wrong with the URI."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if uri is not None and "://" in uri:
        return _database(uri), without_credentials(uri)
    path = Path(uri).expanduser() if uri is not None else out / JOURNAL
    if uri is not None and not path.parent.is_dir():
        raise InputError(
            f"--storage {uri!r}: there is no folder {str(path.parent)!r}. Correct the path, or make the folder"
        )
    if path.is_dir():
        raise InputError(f"--storage {uri!r} is a folder; name a file in it, for the journal of the study")
    try:
        return _journal(path), repr(str(path))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{str(path)!r} cannot be read as the journal of a study: {error}") from None


def _journal(path: Path) -> BaseStorage:
    path = path.resolve()  # its lock is a link to it, which has to lead there
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = JournalFileSymlinkLock(str(path))
    lock.acquire()
    try:
        _cut_torn_line(path)
    finally:
        lock.release()
    return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))


def _cut_torn_line(path: Path) -> None:
    """A process that was killed while it appended leaves half a line, to which the next one would append its own."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            begin = max(0, end - BLOCK)
            file.seek(begin)
            newline = file.read(end - begin).rfind(b"\n")
            if newline >= 0:
                end = begin + newline + 1
                break
            end = begin
        file.truncate(end)


def _database(uri: str) -> BaseStorage:
    options: dict[str, Any] = {"pool_pre_ping": True}
    try:
        kind = sqlalchemy.engine.make_url(uri).get_backend_name()
        if kind == "sqlite":
            options["connect_args"] = {"timeout": BUSY_SECONDS}
        for attempt in range(1, ATTEMPTS + 1):
            try:
                storage = RDBStorage(uri, engine_kwargs=options)
                break
            except (OperationalError, IntegrityError):
                if attempt == ATTEMPTS:
                    raise
                time.sleep(PAUSE)
    except (SQLAlchemyError, ImportError, ValueError, RuntimeError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"--storage {without_credentials(uri)!r} cannot be opened: {without_credentials(said)}. It takes a journal file, "
            "sqlite:///FILE, or the URL of a database whose driver is installed, such as postgresql://USER:PASSWORD@HOST/NAME"
        ) from None
    if kind == "sqlite":
        _one_writer_at_a_time(storage.engine)
    return storage


def _one_writer_at_a_time(engine: sqlalchemy.Engine) -> None:
    """SQLite takes its lock at the first write; two that had read before would then both take one trial. So it is taken at once."""

    @sqlalchemy.event.listens_for(engine, "connect")
    def _(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # else the driver begins transactions itself, at the first write

    @sqlalchemy.event.listens_for(engine, "begin")
    def _(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()  # connections from before
