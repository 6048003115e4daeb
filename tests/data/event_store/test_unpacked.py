"""A store is unpacked once a machine, by whoever comes first, and a folder that is damaged or cannot be is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.data.event_store.unpacked import FACTS, KEPT, opened, unpack
from interformer_rec.data.files.source import Source, open_source
from interformer_rec.errors import InputError
from tests.forked import CONTEXT


def store(path: Path, events: int = 6) -> Source:
    path.mkdir(exist_ok=True)
    users = np.arange(events) // 3
    table = pa.table(
        {
            "user": users,
            "at": np.arange(events) % 3,
            "item": pa.array([None, *range(1, events)]),
            "word": ["a", "b"] * (events // 2),
        }
    )
    pq.write_table(table, path / "e.parquet", row_group_size=4)
    return open_source(str(path))


def unpacked(source: Source, cache: Path) -> Path:
    return unpack(source, "user", "at", ("item", "word"), str(cache))


def test_what_is_unpacked(tmp_path: Path) -> None:
    found = opened(unpacked(store(tmp_path / "s"), tmp_path / "cache"))
    assert (found.users.tolist(), found.begins.tolist(), found.ends.tolist()) == ([0, 1], [0, 3], [3, 6])
    assert found.times.tolist() == [0, 1, 2, 0, 1, 2] and found.newest == 2
    assert found.values["item"][1:].tolist() == [1, 2, 3, 4, 5] and found.nulls["item"].tolist() == [True] + [False] * 5
    assert found.dictionaries["word"].take(pa.array(found.values["word"])).to_pylist() == ["a", "b"] * 3
    assert "word" not in found.nulls and isinstance(found.times, np.memmap)


def _unpack(path: str, cache: str) -> None:
    unpacked(open_source(path), Path(cache))


def test_processes_unpack_a_store_once(tmp_path: Path) -> None:
    store(tmp_path / "s", 3000)
    processes = [CONTEXT.Process(target=_unpack, args=(str(tmp_path / "s"), str(tmp_path / "cache"))) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    (made,) = [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]  # nothing half done is left
    assert (made / FACTS).exists()


def test_old_versions_of_a_store_go(tmp_path: Path) -> None:
    made = [unpacked(store(tmp_path / "s", events), tmp_path / "cache") for events in (6, 12, 18)]
    assert [path.exists() for path in made] == [False] + [True] * KEPT


def test_a_damaged_folder_is_named(tmp_path: Path) -> None:
    folder = unpacked(store(tmp_path / "s"), tmp_path / "cache")
    (folder / "times.npy").write_bytes((folder / "times.npy").read_bytes()[:-8])
    with pytest.raises(InputError, match="Delete that folder"):
        opened(folder)


def test_a_cache_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot make the folder .*data.events.cache"):
        unpacked(store(tmp_path / "s"), tmp_path / "file" / "cache")


def test_events_of_types_that_are_no_ids_are_refused(tmp_path: Path) -> None:
    table = pa.table({"user": [1], "at": [1], "item": [1.5], "word": ["a"]})
    pq.write_table(table, tmp_path / "e.parquet")
    with pytest.raises(InputError, match="column 'item' of the events is double"):
        unpacked(open_source(str(tmp_path / "e.parquet")), tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
