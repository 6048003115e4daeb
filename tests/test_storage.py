"""Folders on disks and in stores; what is tried again and what is not."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pytest

from interformer_rec import storage
from interformer_rec.errors import InputError
from interformer_rec.storage import Storage, patiently, write_file
from tests.s3 import s3_server


@pytest.fixture(params=["local", "memory", "s3"])
def place(request, tmp_path):
    if request.param == "local":
        yield Storage.open(tmp_path / "run")
    elif request.param == "memory":
        yield Storage.open("memory://storage-test/run")
        fsspec.filesystem("memory").rm("/storage-test", recursive=True)
    else:
        with s3_server() as server:
            yield Storage.open(server.uri("some/run"))


def test_files_and_folders(place):
    assert place.names() == [] and place.size("a/b") is None
    place.put("a/b", b"first")
    place.put("a/b", b"second")
    with place.create("a/c") as file:
        file.write(b"0123")
        file.write(memoryview(b"456789"))
    assert place.get("a/b") == b"second" and place.size("a/b") == 6
    assert place.read("a/c", 3, 4) == b"3456" and place.read("a/c", 8, 99) == b"89"
    inside = place.folder("a")
    assert inside.names() == ["b", "c"] and inside.name == "a" and "run/a" in inside.location
    assert inside.folder("..").names() == ["a"] and inside.folder("..").location == place.location
    place.remove("a/b")
    assert inside.names() == ["c"]
    place.remove("a")
    place.remove("a")
    assert place.size("a/c") is None
    with pytest.raises(FileNotFoundError):
        place.get("a/c")


def test_a_large_file_is_there_whole_or_not_at_all(place):
    with place.stream("a/b") as file:
        file.write(b"0123")
        file.write(memoryview(b"456789"))
        assert place.size("a/b") is None
    assert place.get("a/b") == b"0123456789" and place.folder("a").names() == ["b"]
    with pytest.raises(ZeroDivisionError), place.stream("a/c") as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert place.folder("a").names() == ["b"]


def test_a_uri_keeps_its_query_in_messages():
    inside = (
        Storage.open("s3://bucket/run?endpoint_override=127.0.0.1:1&scheme=http&region=x").folder("step").folder("f")
    )
    assert inside.location == "s3://bucket/run/step/f?endpoint_override=127.0.0.1:1&scheme=http&region=x"
    assert inside.folder("..").location == "s3://bucket/run/step?endpoint_override=127.0.0.1:1&scheme=http&region=x"


@pytest.mark.parametrize(
    ("path", "above"),
    [
        ("scored.parquet", "."),
        ("./scored.parquet", "."),
        ("scores/a.parquet", "scores"),
        ("/a.parquet", "/"),
        ("/b/a.parquet", "/b"),
    ],
)
def test_the_folder_above_and_back_is_the_same_path_in_messages(path, above):
    folder = Storage.open(path).folder("..")
    assert folder.location == above
    assert folder.folder(os.path.basename(path)).location == path.removeprefix("./")


def test_unknown_schemes_are_named():
    with pytest.raises(InputError, match="nosuch://bucket"):
        Storage.open("nosuch://bucket/key")


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (TimeoutError("no answer"), 3),
        (OSError("AWS Error SLOW_DOWN during PutObject"), 3),
        (ConnectionResetError(errno.ECONNRESET, "reset"), 3),
        (OSError(errno.EIO, "input/output error"), 3),
        (OSError(errno.ENOSPC, "no space left"), 1),
        (PermissionError(errno.EACCES, "permission denied"), 1),
        (FileNotFoundError(errno.ENOENT, "missing"), 1),
    ],
)
def test_what_passes_is_tried_again(monkeypatch, error, attempts):
    monkeypatch.setattr(storage, "PAUSES", (0.0, 0.0, 0.0))
    calls = []

    def work():
        calls.append(1)
        if len(calls) < 3:
            raise error
        return "done"

    if attempts == 1:
        with pytest.raises(type(error)):
            patiently(work)
    else:
        assert patiently(work) == "done"
    assert len(calls) == attempts
    with pytest.raises(OSError, match="always"):
        patiently(lambda: (_ for _ in ()).throw(OSError("always")))


def test_a_file_that_is_not_there_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(storage.time, "sleep", lambda seconds: pytest.fail("waits"))
    for place in ("memory://storage-test/none", "/nowhere"):
        with pytest.raises(FileNotFoundError):
            Storage.open(place).get("index.json")


def test_an_output_is_whole_or_not_there(tmp_path, monkeypatch):
    kept = tmp_path / "draft.yaml"
    kept.write_text("first")
    monkeypatch.setattr(
        storage.os, "fsync", lambda descriptor: raise_(OSError(errno.ENOSPC, "No space left on device"))
    )
    with pytest.raises(InputError, match=r"draft.yaml': No space left on device"):
        write_file(str(kept), "second, longer")
    assert kept.read_text() == "first"


def test_an_output_follows_links_and_fills_pipes(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link.yaml").symlink_to("real/draft.yaml")
    write_file(str(tmp_path / "link.yaml"), "text: ü")
    assert (tmp_path / "link.yaml").is_symlink() and (tmp_path / "real/draft.yaml").read_bytes() == "text: ü".encode()
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit((tmp_path / "pipe").read_bytes)
        write_file(str(tmp_path / "pipe"), b"through")
    assert read.result() == b"through" and (tmp_path / "pipe").is_fifo()
    with pytest.raises(InputError, match="it is a folder"):
        write_file(str(tmp_path / "real"), b"")


def test_an_output_in_a_folder_that_is_not_there_makes_none(tmp_path):
    for place in (str(tmp_path / "mistyped" / "draft.yaml"), f"file://{tmp_path}/mistyped/draft.yaml"):
        with pytest.raises(InputError, match=rf"there is no folder '{tmp_path}/mistyped'"):
            write_file(place, "text")
    assert list(tmp_path.iterdir()) == []
    write_file("memory://storage-test-out/a/b.yaml", "text")  # a store has no folders to mistype
    assert Storage.open("memory://storage-test-out/a").get("b.yaml") == b"text"


def raise_(error):
    raise error
