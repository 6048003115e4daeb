"""Do all ranks run the same? In: what this rank runs (config, releases, data); out: nothing, or an InputError on every rank.

Each rank reads the config and the files' footers by itself. Where they differ, ranks take other batches, skip a collective or wait for
each other; or nothing is noticed at all, and the gradients of two different runs are added up. So they compare before the first step: one
hash is exchanged, and only where it differs what is behind it.
"""

import functools
import hashlib
import itertools
import json
import os
import sys
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as dist

from interformer_rec import __version__
from interformer_rec.config.run import RunConfig
from interformer_rec.data.loader import Loader
from interformer_rec.distributed.environment import Environment
from interformer_rec.errors import InputError
from interformer_rec.install import stack

SHOWN = 5  # differences that the message names
LONGEST = 120  # characters of a value in it
LIBRARIES = ("numpy", "pyarrow")  # numpy shuffles, pyarrow decodes

Facts = dict[str, Any]  # key -> JSON value


def run_facts(config: RunConfig, resume: bool = False) -> Facts:
    """The resolved config, key by key, and the releases that run it."""
    releases = {name: value for name, value in asdict(stack.installed()).items() if name in _RELEASES}
    libraries = {name: stack.version_of(name) for name in LIBRARIES}
    python = ".".join(map(str, sys.version_info[:2]))
    versions = {"interformer_rec": __version__, "python": python, **releases, **libraries}
    return {
        **dict(_leaves(config.model_dump(mode="json"), "")),
        "--resume": resume,
        **{f"version of {name}": version for name, version in versions.items()},
        "checksum of the source of interformer_rec": _source(),
        **{name: value for name, value in os.environ.items() if name.startswith("INTERFORMER_")},
    }


@functools.cache
def _source() -> int:
    """Of the package's modules, read once: checkouts of one version need not be the same."""
    root = Path(__file__).parents[2]
    files = sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix())
    return zlib.crc32(b"\0".join(file.read_bytes() for file in files))


_RELEASES = ("torch", "torch_cuda", "torchrec", "fbgemm_cpu", "fbgemm_cuda")


def plan_facts(loaders: Mapping[str, Loader]) -> Facts:
    """Of each data set (by its key in the config) the files, their row groups and the steps: which rank reads which rows when."""
    facts: Facts = {}
    for name, loader in loaders.items():
        source = loader.source
        per_file = np.bincount(source.group_file, weights=source.group_rows, minlength=len(source.files))
        facts |= {
            f"{name}: rows of its files": {
                f"{number} {os.path.basename(file)}": int(rows)
                for number, (file, rows) in enumerate(zip(source.files, per_file, strict=True))
            },
            f"{name}: rows": loader.rows,
            f"{name}: row groups": len(source.group_rows),
            f"{name}: checksum of the row groups' sizes": zlib.crc32(source.group_rows.astype("<i8").tobytes()),
            f"{name}: checksum of the files' footers": source.checksum,
            f"{name}: steps": loader.steps,
        }
    return facts


def require_same(env: Environment, facts: Facts) -> None:
    """Compare over all ranks (collective). Raises InputError, on all of them, that names rank, key and both values."""
    texts = {key: json.dumps(value, sort_keys=True, ensure_ascii=False) for key, value in facts.items()}
    digest = hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()
    digests: list[Any] = [None] * env.world_size
    dist.all_gather_object(digests, digest)
    if len(set(digests)) == 1:
        return
    everyone: list[Any] = [None] * env.world_size
    dist.all_gather_object(everyone, texts)
    found = list(_differences(everyone))
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    raise InputError(
        f"the ranks of this job do not run the same: {'; '.join(found[:SHOWN])}{more}. Start every rank with the same config, options, "
        "environment variables, releases and files"
    )


def _differences(everyone: list[dict[str, str]]) -> Iterator[str]:
    """A sentence a key: rank 0's value and the first other one, with the ranks that have it."""
    for key in dict.fromkeys(itertools.chain.from_iterable(everyone)):
        values = [facts.get(key, "not there") for facts in everyone]
        others = [rank for rank, value in enumerate(values) if value != values[0]]
        if others:
            same = [rank for rank in others if values[rank] == values[others[0]]]
            more = f" and {len(same) - 1} more" if len(same) > 1 else ""
            mine, theirs = _apart(values[0], values[others[0]])
            yield f"{key} is {mine} on rank 0 and {theirs} on rank {others[0]}{more}"


def _apart(one: str, other: str) -> tuple[str, str]:
    """Two values as the message shows them; long ones from shortly before where they part."""
    if max(len(one), len(other)) <= LONGEST:
        return one, other
    alike = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
    start = max(0, alike - LONGEST // 4)
    shown = []
    for text in (one, other):
        piece = text[start : start + LONGEST]
        shown.append(("..." if start else "") + piece + ("..." if start + LONGEST < len(text) else ""))
    return shown[0], shown[1]


def _leaves(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict) and node:
        for name, value in node.items():
            yield from _leaves(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list) and any(isinstance(item, dict) for item in node):
        for number, item in enumerate(node):
            yield from _leaves(item, f"{key}.{number}")
    else:
        yield key, node
