"""Graphs of a version that are taken over from another one: only weights differ. In: what a graph is made of; out: its files.

Compiling takes minutes. A compiled graph takes other weights when it is loaded (runtimes.py), an ONNX graph when it is written.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from interformer_rec import __version__
from interformer_rec.config.run import RunConfig
from interformer_rec.serving import artefact
from interformer_rec.serving.contents import SUFFIX, Runtime
from interformer_rec.serving.making.how import How
from interformer_rec.serving.runtimes import PLAIN, dense_weights, write_renewed_onnx
from interformer_rec.serving.write import timed

PACKAGE = Path(__file__).parents[2]
SOURCES = ("model", "ops", "serving")  # folders whose code graphs are traced from


def recipe(config: RunConfig, members: int) -> str:
    """SHA-256 of all that graphs are made of but the weights: model, features, releases, and the code itself."""
    facts = {
        "features": config.features.model_dump(mode="json"),
        "model": config.model.model_dump(mode="json"),
        "members": members,
        "releases": [__version__, torch.__version__],
    }
    found = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for folder in SOURCES:
        for path in sorted((PACKAGE / folder).rglob("*.py")):
            found.update(path.read_bytes())
    return found.hexdigest()


def may_take_over(version: artefact.Version | None, recipe: str, how: How) -> bool:
    """Whether the graphs of a version are made by this recipe and in this way."""
    if version is None or not how.runtimes:
        return False
    contents = version.contents
    same = contents.graphs == recipe and set(how.runtimes) <= set(contents.runtimes)
    return same and ("aoti" not in how.runtimes or contents.isa == how.isa)


def take_over(folder: Path, version: artefact.Version, runtimes: Sequence[Runtime]) -> None:
    """Write the graphs of `version` into `folder`, whose dense weights are there already."""
    (folder / "graphs").mkdir(parents=True, exist_ok=True)
    for name in artefact.graph_names(version.contents.split):
        for runtime in runtimes:
            suffix = PLAIN if runtime == "onnx" else SUFFIX[runtime]
            shutil.copyfile(version.folder / "graphs" / f"{name}{suffix}", folder / "graphs" / f"{name}{suffix}")
    if "onnx" in runtimes:
        renew_onnx(folder, version, folder)


def renew_onnx(folder: Path, version: artefact.Version, weights: Path) -> None:
    """Write the ONNX graphs of `version` into `folder`, with the dense weights that lie in `weights`."""
    (folder / "graphs").mkdir(parents=True, exist_ok=True)
    dense = dense_weights(weights)
    for name in artefact.graph_names(version.contents.split):
        path = folder / "graphs" / f"{name}{SUFFIX['onnx']}"
        with timed(f"graph {name}: ONNX with new weights"):
            write_renewed_onnx(version.folder / "graphs" / f"{name}{PLAIN}", dense, path)
