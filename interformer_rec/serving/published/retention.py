"""Which versions and deltas stay. In: a folder or URI, how many versions; out: the others removed.

A reader that has just read current.json may still open what it named a moment ago, so the versions before the current one stay for a while:
as long as it takes until `keep` newer ones were published.
"""

from interformer_rec.checkpoint.checked import MANIFEST, small_file
from interformer_rec.errors import DamagedError
from interformer_rec.files import json_object
from interformer_rec.serving.published.delta import FILE
from interformer_rec.serving.published.manifest import WRITE_ERRORS
from interformer_rec.serving.published.pointer import DELTAS, VERSIONS, current
from interformer_rec.storage import Storage


def tidy(path: str, keep: int) -> list[str]:
    """Remove all versions but the `keep` newest and the current one, and the deltas of those that go; what was removed.

    Folders that were never finished go too, where they are older than the current version: their names begin with a time. What cannot be
    removed stays, and is tried again the next time.
    """
    place, now = Storage.open(path), current(path).version
    versions, deltas = place.folder(VERSIONS), place.folder(DELTAS)
    whole = [name for name in versions.names() if versions.size(f"{name}/{MANIFEST}") is not None]
    stay = {*sorted(whole)[-keep:], now}
    gone = [f"{VERSIONS}/{name}" for name in versions.names() if name not in stay and name < now]
    for name in deltas.names():
        of = _version_of(deltas.folder(name))
        if (of is None and name < now) or (of is not None and of not in stay and of < now):
            gone.append(f"{DELTAS}/{name}")
    removed = []
    for name in gone:
        try:
            place.remove(f"{name}/{MANIFEST}")  # first: what is half removed is not whole
            place.remove(name)
            removed.append(name)
        except WRITE_ERRORS:
            continue
    return removed


def _version_of(delta: Storage) -> str | None:
    """None: it was never finished, or cannot be read."""
    if delta.size(MANIFEST) is None:
        return None
    try:
        before = json_object(small_file(delta, FILE, "damaged"), FILE).get("before")
    except DamagedError:
        return None
    version = before.get("version") if isinstance(before, dict) else None
    return version if isinstance(version, str) else None
