"""A checkpoint with random damage: a load gives exactly what was saved, or says what is damaged. Bounded, seeded, slow."""

from __future__ import annotations

import json
import random
import shutil
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from interformer_rec.checkpoint.manifest import Manifest
from interformer_rec.checkpoint.read import load, read_state
from interformer_rec.config import run as config
from interformer_rec.data.epoch_plan import Cursor
from interformer_rec.data.fit import Fitted
from interformer_rec.errors import InputError
from interformer_rec.storage import Storage
from interformer_rec.training.build import build_parallel
from interformer_rec.training.folder.run_folder import attached_config, unpack_features
from interformer_rec.training.start.saved_state import checked_state
from tests.distributed.tiny import whole_state
from tests.hostile.checkpoint_files import change_manifest, replace_file
from tests.launch import on_one

ROUNDS = 150
FILES = (
    "manifest.json",
    "evaluated.json",
    "state.json",
    "rank-00000.safetensors",
    "dense.safetensors",
    "run/features/fitted.json",
    "run/config.yaml",
)
FULL, INCREMENT = "step-00000004", "step-00000008"
CASES = [
    *((FULL, name) for name in FILES),
    *((INCREMENT, name) for name in ("manifest.json", "state.json", "rank-00000.safetensors")),
]
VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1.5,
    2**31,
    2**63,
    10**30,
    1e300,
    "",
    "x",
    "../x",
    [],
    {},
    [[]],
    [0] * 1000,
)


def flipped(content: bytes, chance: random.Random) -> bytes:
    """One to three bits are others."""
    found = bytearray(content)
    for _ in range(chance.randint(1, 3)):
        found[chance.randrange(len(found))] ^= 1 << chance.randrange(8)
    return bytes(found)


def cut(content: bytes, chance: random.Random) -> bytes:
    """The end is missing, or there is more of it."""
    return content[: chance.randrange(len(content))] if chance.random() < 0.8 else content + content[-9:]


def places(tree: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every value."""
    if isinstance(tree, dict):
        items: list[tuple[Any, Any]] = list(tree.items())
    elif isinstance(tree, list):
        items = list(enumerate(tree))
    else:
        return []
    return [(tree, key) for key, _ in items] + [place for _, value in items for place in places(value)]


def exchanged(tree: Any, chance: random.Random) -> None:
    """One value is of another type, elsewhere, or gone."""
    container, key = chance.choice(places(tree))
    other, there = chance.choice(places(tree))
    if chance.random() < 0.6:
        container[key] = chance.choice(VALUES)
    elif chance.random() < 0.5:
        container[key], other[there] = json.loads(json.dumps(other[there])), json.loads(json.dumps(container[key]))
    elif isinstance(container, dict):
        del container[key]


def damaged(checkpoint: Path, name: str, chance: random.Random) -> None:
    """Change one file; half of the changes of values have checksums that fit."""
    path = checkpoint / name
    content = path.read_bytes()
    way = chance.choice(("flip", "cut", "value", "value"))
    if way != "value" or name.endswith(".yaml"):
        path.write_bytes((flipped if way != "cut" else cut)(content, chance))
    elif name == "manifest.json":

        def change(tree: dict[str, Any]) -> None:
            del tree["crc32"]
            exchanged(tree, chance)
            tree["crc32"] = 0

        change_manifest(checkpoint, change)
    elif name.endswith(".json"):
        tree = json.loads(content)
        exchanged(tree, chance)
        changed = json.dumps(tree).encode()
        path.write_bytes(changed) if name == "evaluated.json" else replace_file(checkpoint, name, changed)
    else:
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
        exchanged(header, chance)
        text = json.dumps(header).encode()
        replace_file(checkpoint, name, struct.pack("<Q", len(text)) + text + content[8 + length :])


@pytest.mark.slow
@pytest.mark.parametrize("step, name", CASES)
def test_a_load_is_right_or_an_error(trained_run, tmp_path, step, name):
    chance = random.Random(f"{step} {name} 18")
    source = trained_run / "checkpoints"
    assert (Manifest.read(Storage.open(source / step)).base is None) == (step == FULL)
    run_config = config.load(trained_run / "config.yaml")
    fitted = Fitted.load(trained_run / "features")

    def read(env, parallel, checkpoint: Path) -> tuple[dict[str, np.ndarray], Any]:
        storage = Storage.open(checkpoint)
        state = checked_state(read_state(storage), "state.json")
        if state["cursor"] is not None:
            Cursor.from_dict(state["cursor"])
        unpack_features(storage, tmp_path / "features")
        again = Fitted.load(tmp_path / "features")
        attached = attached_config(storage)
        load(storage, parallel, env)
        assert again.table_rows == fitted.table_rows and attached.features == run_config.features
        return whole_state(env, parallel), parallel.optimizer.step_count

    def rounds(env):
        parallel = build_parallel(run_config, env, fitted, lambda: 10)
        expected, steps = read(env, parallel, source / step)
        loaded = 0
        shutil.copytree(source / FULL, tmp_path / "fuzz" / FULL)
        memory = psutil.Process().memory_info().rss
        for number in range(ROUNDS):
            checkpoint = tmp_path / "fuzz" / step
            shutil.rmtree(checkpoint, ignore_errors=True)
            shutil.copytree(source / step, checkpoint)
            damaged(checkpoint, name, chance)
            began = time.process_time()
            try:
                found, count = read(env, parallel, checkpoint)
            except InputError:
                continue
            finally:
                assert time.process_time() - began < 20, number
            loaded += 1
            if name in ("manifest.json", "evaluated.json", "run/features/fitted.json"):
                assert count == steps, number
                for key, array in expected.items():
                    np.testing.assert_array_equal(found[key], array, err_msg=f"{number} {key}")
        assert psutil.Process().memory_info().rss - memory < 512 << 20
        return loaded

    loaded = on_one(rounds)
    if name == "evaluated.json":  # without it a checkpoint is whole, and not evaluated yet
        assert loaded == ROUNDS
    else:
        assert loaded < ROUNDS // 2
