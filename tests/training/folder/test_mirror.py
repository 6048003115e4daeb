"""A run folder in a store: what has changed is sent, what is needed is brought back."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from interformer_rec.errors import DamagedError
from interformer_rec.storage import Storage
from interformer_rec.training.folder.mirror import Mirror


@pytest.fixture
def store() -> Iterator[Storage]:
    name = f"mirror-test-{uuid.uuid4().hex}"
    yield Storage.open(f"memory://{name}/run")
    memory = fsspec.filesystem("memory")
    if memory.exists(f"/{name}"):
        memory.rm(f"/{name}", recursive=True)


def write(mirror: Mirror, **files: str) -> None:
    for name, content in files.items():
        path = mirror.path / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def test_what_changed_is_sent_once(store: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = Mirror(store)
    write(mirror, config="a", features__fitted="b", metrics="1\n")
    mirror.send()
    assert [store.get(name) for name in ("config", "features/fitted", "metrics")] == [b"a", b"b", b"1\n"]
    sent: list[str] = []
    monkeypatch.setattr(Mirror, "_send", lambda self, name: sent.append(name))
    write(mirror, metrics="1\n2\n", **{"complete.json": "{}", "x.part": ""})
    mirror.send()
    mirror.send()
    assert sent == ["metrics", "complete.json"], "what says that all is there comes last"
    mirror.close()
    assert not mirror.path.exists()


def test_the_next_start_gets_the_files_back_without_sending_them_again(
    store: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("config.yaml", "features/fitted.json", "metrics.jsonl", "checkpoints/step-1/manifest.json",
                 "tensorboard/events", "report.html", "lock-a.json"):  # fmt: skip
        store.put(name, name.encode())
    mirror = Mirror(store)
    mirror.fetch()
    found = {str(path.relative_to(mirror.path)) for path in mirror.path.rglob("*") if path.is_file()}
    assert found == {"config.yaml", "features/fitted.json", "metrics.jsonl"}
    assert (mirror.path / "features/fitted.json").read_bytes() == b"features/fitted.json"
    assert mirror.path.stat().st_mode & 0o077 == 0, "nobody else's eyes"
    monkeypatch.setattr(Mirror, "_send", lambda self, name: pytest.fail(name))
    mirror.send()
    mirror.close()


def test_a_name_that_is_no_name_is_not_written(store: Storage) -> None:
    store.put("a\\b", b"")
    mirror = Mirror(store)
    with pytest.raises(DamagedError, match="refused"):
        mirror.fetch()
    mirror.close()


def test_an_empty_mirror_sends_nothing(store: Storage, tmp_path: Path) -> None:
    mirror = Mirror(store)
    mirror.send()
    mirror.fetch()
    mirror.close()
    assert store.names() == []
