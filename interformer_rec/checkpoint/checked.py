"""Bytes with a checksum for every piece of them. In: a Storage and what a manifest says of a file; out: the same bytes, or DamagedError.

Checkpoints and exported models are kept so. Needs no torch: an exported model is read where there is none.
"""

import zlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from interformer_rec.errors import DamagedError
from interformer_rec.files import LARGEST_JSON, StrictFile
from interformer_rec.storage import Sink, Storage

MANIFEST = "manifest.json"
PIECE = 16 << 20  # bytes


class FileEntry(StrictFile):
    """What a manifest says of a file."""

    bytes: Annotated[int, Field(ge=0, le=1 << 60)]
    crc32: list[Annotated[int, Field(ge=0, lt=1 << 32)]]


class Checked:
    """Passes bytes on to a file and takes a checksum of every `PIECE` of it."""

    def __init__(self, file: Sink, beat: Callable[[], None]) -> None:
        self.file, self.beat = file, beat
        self.bytes = 0
        self.checksums: list[int] = []

    def write(self, content: memoryview | bytes) -> None:
        """Append."""
        rest = memoryview(content)
        while rest:
            inside = self.bytes % PIECE
            if not inside:
                self.checksums.append(0)
            now, rest = rest[: PIECE - inside], rest[PIECE - inside :]
            self.file.write(now)
            self.checksums[-1] = zlib.crc32(now, self.checksums[-1])
            self.bytes += len(now)
            self.beat()

    def entry(self) -> dict[str, Any]:
        """For the manifest: size and checksums."""
        return {"bytes": self.bytes, "crc32": self.checksums}


class Verified:
    """Reads ranges of a file and compares every piece with its checksum; while one is used, the next is read."""

    def __init__(self, storage: Storage, name: str, entry: dict[str, Any]) -> None:
        self.storage, self.name, self.entry = storage, name, entry
        self._last: tuple[int, bytes] = (-1, b"")  # reading goes on where it stopped
        self._ahead: tuple[int, Future[bytes]] | None = None
        self._reader = ThreadPoolExecutor(1, "checkpoint-read")

    def read(self, start: int, stop: int) -> bytearray:
        """Bytes start .. stop-1. Raises DamagedError."""
        out = bytearray(stop - start)
        for number in range(start // PIECE, -(-stop // PIECE)):
            piece, base = self._piece(number), number * PIECE
            low, high = max(start, base), min(stop, base + PIECE)
            if len(piece) < high - base:
                raise DamagedError(f"{self._file} ends at byte {base + len(piece)}, its header lists more")
            out[low - start : high - start] = memoryview(piece)[low - base : high - base]
        return out

    @property
    def path(self) -> Path | None:
        """Of a file on this machine."""
        return self.storage.local / self.name if self.storage.local is not None else None

    def check(self) -> None:
        """Read all of it. Raises DamagedError."""
        for number in range(len(self.entry["crc32"])):
            self._piece(number)

    def _piece(self, number: int) -> bytes:
        if self._last[0] != number:
            if self._ahead is not None and self._ahead[0] == number:
                piece = self._ahead[1].result()
            else:
                piece = self._fetch(number)
            self._last = number, piece
            following = number + 1 < len(self.entry["crc32"])
            self._ahead = (number + 1, self._reader.submit(self._fetch, number + 1)) if following else None
        return self._last[1]

    def _fetch(self, number: int) -> bytes:
        try:
            piece = self.storage.read(self.name, number * PIECE, PIECE)
        except OSError as error:
            raise DamagedError(f"{self._file} cannot be read: {error}") from None
        sums = self.entry["crc32"]
        if number >= len(sums) or zlib.crc32(piece) != sums[number]:
            last = number * PIECE + len(piece)
            raise DamagedError(
                f"{self._file} is not what was written: the checksum of bytes {number * PIECE} to {last} differs"
            )
        return piece

    @property
    def _file(self) -> str:
        return self.storage.folder(self.name).location


def small_file(storage: Storage, name: str, missing: str) -> bytes:
    """A JSON file beside the manifest, or that itself. Raises DamagedError: `missing` says what it means that there is none."""
    where = storage.folder(name).location
    try:
        size = storage.size(name)
        if size is None:
            raise DamagedError(f"{where} is missing: {missing}")
        if size > LARGEST_JSON:
            raise DamagedError(f"{where} cannot be read: it has {size:,} bytes, more than {LARGEST_JSON:,}")
        return storage.get(name)
    except FileNotFoundError:
        raise DamagedError(f"{where} is missing: {missing}") from None
    except OSError as error:
        raise DamagedError(f"{where} cannot be read: {error}") from error
