"""Why a rank ended, in the job's store. In: its error; out: what the other ranks need to end with the same message and exit code."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass

import torch.distributed as dist

from interformer_rec.distributed.job.rank_lost import RankLost, connection_was_lost
from interformer_rec.errors import InputError

KEY = "failure"
MOST_TEXT = 20_000  # characters


@dataclass(frozen=True)
class Failure:
    """The first error of a job."""

    rank: int
    host: str
    pid: int
    code: int  # the exit code
    text: str

    @classmethod
    def of(cls, error: BaseException, rank: int) -> Failure | None:
        """None if the error only follows another rank's, or is the user's Ctrl-C."""
        if isinstance(error, OtherRankFailed | KeyboardInterrupt | SystemExit | GeneratorExit):
            return None
        if isinstance(error, InputError) and error.rank not in (None, rank):
            return None
        if isinstance(error, RankLost) or (isinstance(error, RuntimeError) and connection_was_lost(error)):
            return None
        return cls.whatever(error, rank)

    @classmethod
    def whatever(cls, error: BaseException, rank: int) -> Failure:
        """Of any error, also of one that follows another rank's."""
        code = 2 if isinstance(error, InputError) else 1
        text = str(error) if code == 2 else f"{type(error).__name__}: {error}"
        return cls(rank, socket.gethostname(), os.getpid(), code, text[:MOST_TEXT])

    @property
    def is_own(self) -> bool:
        """Whether this process left it."""
        return (self.host, self.pid) == (socket.gethostname(), os.getpid())

    def post(self, store: dist.Store) -> None:
        """Leave it for the others, unless one is there already."""
        store.compare_set(KEY, "", json.dumps(asdict(self)))

    @classmethod
    def read(cls, store: dist.Store) -> Failure | None:
        """What a rank has left; None while none has."""
        return cls(**json.loads(store.get(KEY))) if store.check([KEY]) else None


class OtherRankFailed(RuntimeError):
    """Another rank of the job failed, and prints why; this rank ends because of it."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure
