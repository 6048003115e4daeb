"""Memory limits of containers, from trees of files like the kernel's: version 1, version 2, both, nested groups."""

import os
from pathlib import Path

import psutil
import pytest

from interformer_rec import host
from interformer_rec.host import Limit, free_memory, limits, total_memory

MIB = 1 << 20
NO_LIMIT_V1 = "9223372036854771712"


def v1(folder: Path, limit: object, used: int = 100 * MIB, cache: int = 30 * MIB) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.limit_in_bytes").write_text(f"{limit}\n", encoding="utf-8")
    (folder / "memory.usage_in_bytes").write_text(f"{used}\n", encoding="utf-8")
    (folder / "memory.stat").write_text(
        f"cache 9\ninactive_file 1\ntotal_cache 9\ntotal_inactive_file {cache}\n", encoding="utf-8"
    )


def v2(folder: Path, limit: object, used: int = 100 * MIB, cache: int = 30 * MIB) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n", encoding="utf-8")
    (folder / "memory.current").write_text(f"{used}\n", encoding="utf-8")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cache}\n", encoding="utf-8")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return tmp_path / "own"


@pytest.mark.parametrize(
    "lines, write, folder",
    [
        ("0::/\n", v2, "."),
        ("0::/pod/one\n", v2, "pod/one"),
        ("0::/pod/one\n", v2, "pod"),  # the limit is the pod's
        ("0::/../../pod\n", v2, "."),  # a namespace that begins elsewhere
        ("5:cpu,cpuacct:/\n4:memory:/docker/abc\n0::/\n", v1, "memory/docker/abc"),
        ("4:memory:/docker/abc\n", v1, "memory"),  # in a container only its own group is mounted, as the top
        ("3:memory,hugetlb:/a\n", v1, "memory,hugetlb/a"),
        ("9:memory:/\n0::/user\n", v2, "unified/user"),
    ],
)
def test_a_limit_of_either_version_counts(tmp_path, own, lines, write, folder):
    own.write_text(lines, encoding="utf-8")
    write(tmp_path / folder, 500 * MIB)
    assert limits(tmp_path, own) == [Limit(500 * MIB, 430 * MIB)]
    assert total_memory(tmp_path, own) == 500 * MIB
    assert free_memory(tmp_path, own) == 430 * MIB


def test_the_tightest_group_decides(tmp_path, own):
    own.write_text("0::/slice/job\n", encoding="utf-8")
    v2(tmp_path / "slice/job", 800 * MIB, used=10 * MIB)
    v2(tmp_path / "slice", 900 * MIB, used=850 * MIB)
    assert total_memory(tmp_path, own) == 800 * MIB
    assert free_memory(tmp_path, own) == 80 * MIB  # of the slice, which others fill as well


@pytest.mark.parametrize("write, limit", [(v2, "max"), (v1, NO_LIMIT_V1), (v1, "-1 nonsense"), (v2, "")])
def test_no_limit_is_the_whole_host(tmp_path, own, write, limit):
    own.write_text("4:memory:/\n0::/\n", encoding="utf-8")
    write(tmp_path / ("memory" if write is v1 else "."), limit)
    assert total_memory(tmp_path, own) == psutil.virtual_memory().total
    assert free_memory(tmp_path, own) == pytest.approx(psutil.virtual_memory().available, rel=0.2)


def test_a_group_that_is_over_its_limit_has_nothing_left(tmp_path, own):
    own.write_text("4:memory:/\n", encoding="utf-8")
    v1(tmp_path / "memory", 50 * MIB)
    assert free_memory(tmp_path, own) == 0


def test_hosts_without_control_groups(tmp_path):
    assert limits(tmp_path, tmp_path / "absent") == []
    v2(tmp_path, 500 * MIB)
    assert total_memory(tmp_path, tmp_path / "absent") == 500 * MIB  # /proc is hidden, the group is not


def test_this_process_can_ask(monkeypatch):
    assert 1 <= host.usable_cores() <= (os.cpu_count() or 1)
    assert 0 < host.free_memory() <= host.total_memory() <= psutil.virtual_memory().total
