"""Where the page and the JSON go. In: --out, or the run's folder; out: two files, each written whole."""

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from interformer_rec.config.found import run_folder_config
from interformer_rec.errors import InputError
from interformer_rec.explaining.page import render
from interformer_rec.storage import Storage

FOLDER = "explain"  # of a run folder
PAGE, JSON = "explain.html", "explain.json"


def open_output(path: str, out: str | None, trust: bool) -> Storage:
    """The folder, which is made. `path`: the run or checkpoint. Raises InputError where it cannot be."""
    if out is None:
        if run_folder_config(path, trust) is None:
            raise InputError(f"{path!r} is a checkpoint: name a folder for {PAGE} and {JSON} with --out")
        run = Storage.open(path)
        run.refuse_link_out(FOLDER, path)
        place = run.folder(FOLDER)
    else:
        place = Storage.open(out)
    try:
        if place.local is not None:
            place.local.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {place.location!r} cannot be a folder: {error.strerror or error}") from None
    return place


def write(place: Storage, content: Mapping[str, Any]) -> list[str]:
    """Both files; where they are. Raises InputError."""
    files = {JSON: json.dumps(content, indent=1) + "\n", PAGE: render(content)}
    try:
        for name, text in files.items():
            place.put(name, text.encode())
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"cannot write to {place.location!r}: {getattr(error, 'strerror', None) or error}") from None
    return [place.folder(name).location for name in files]
