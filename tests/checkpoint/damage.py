"""What is wrong with the files of a checkpoint, read in full."""

from interformer_rec.checkpoint.checked import Verified
from interformer_rec.checkpoint.manifest import Manifest
from interformer_rec.errors import DamagedError
from interformer_rec.storage import Storage


def damage(storage: Storage) -> list[str]:
    """Read every byte of a checkpoint (and its base): what is wrong, a sentence a file; empty if it is whole."""
    try:
        manifest = Manifest.read(storage)
        manifest.require_sizes()
    except DamagedError as error:
        return [str(error)]
    found = []
    for name, entry in sorted(manifest.files.items()):
        try:
            Verified(storage, name, entry).check()
        except DamagedError as error:
            found.append(str(error))
    return found + (damage(storage.folder("..").folder(manifest.base.name)) if manifest.base else [])
