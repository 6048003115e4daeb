"""What an evaluation adds to a checkpoint that was saved before it. In: the state that it changed, and whether it is the best; out: a file.

The evaluation itself may fail, on a bad row, say: so the checkpoint is whole first, and this file comes after it, whole or not at all. A
checkpoint without one, or with one that is damaged, was not evaluated yet: `--resume` evaluates it again.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import Any

from interformer_rec.storage import Storage

FILE = "evaluated.json"


@dataclass(frozen=True)
class Evaluated:
    """`best`: no checkpoint before it has a better value of training.monitor; `state`: keys of state.json with their new values."""

    best: bool
    state: dict[str, Any]

    def write(self, folder: Storage) -> None:
        """Beside the files of the checkpoint. Raises OSError."""
        content = json.dumps({"best": self.best, "state": self.state})
        folder.put(FILE, json.dumps({"crc32": zlib.crc32(content.encode()), "content": content}).encode())

    @classmethod
    def read(cls, folder: Storage) -> Evaluated | None:
        """None if there is none, or one that cannot be relied on. Raises OSError where the store fails."""
        try:
            outer = json.loads(folder.get(FILE))
            if outer["crc32"] != zlib.crc32(outer["content"].encode()):
                return None
            inner = json.loads(outer["content"])
            return cls(bool(inner["best"]), dict(inner["state"]))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
