"""Hosts on which FBGEMM cannot load: what is said, what still works, and the stand-in library of the guide."""

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec import cli
from interformer_rec.install import fbgemm, stack
from tests.planning.cases import CONFIG

ROOT = Path(__file__).parents[2]
MISSING = "libnvidia-ml.so.1: cannot open shared object file: No such file or directory"
LOGIN_NODE = replace(
    stack.read(), torch="2.13.0", torch_cuda="13.0", torchrec="1.8.0", fbgemm_cpu=None, fbgemm_cuda="1.8.0", gpu=False
)
# As on a login node: the import of FBGEMM ends in the dynamic linker's error.
BLOCKED = {
    "a wheel that does not load": ("fbgemm_gpu/__init__.py", f"raise OSError({MISSING!r})\n"),
    "an import hook": (
        "sitecustomize.py",
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'fbgemm_gpu':\n"
        f"            raise OSError({MISSING!r})\n"
        "sys.meta_path.insert(0, Block())\n",
    ),
}


@pytest.fixture(params=sorted(BLOCKED))
def blocked(request, tmp_path):
    """A folder for PYTHONPATH, before all others."""
    name, text = BLOCKED[request.param]
    (tmp_path / "first" / name).parent.mkdir(parents=True)
    (tmp_path / "first" / name).write_text(text, encoding="utf-8")
    return tmp_path / "first"


def interformer(first: Path, *commands: tuple[object, ...]):
    """The commands one after another in a process of their own: (exit code, standard error) of each."""
    code = (
        "import contextlib, io, json, sys\n"
        "from interformer_rec import cli\n"
        "for command in json.loads(sys.argv[1]):\n"
        "    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):\n"
        "        code = cli.main(command)\n"
        "    print(json.dumps([code, said.getvalue()]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(first), str(ROOT)])}
    lines = json.dumps([[str(argument) for argument in command] for command in commands])
    done = subprocess.run(
        [sys.executable, "-c", code, lines], env=environment, capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_what_needs_fbgemm_names_the_library_and_the_rest_works_without_it(blocked, tmp_path):
    config, plan = tmp_path / "small.yaml", tmp_path / "without.json"
    config.write_text(CONFIG, encoding="utf-8")
    pq.write_table(pa.table({"user": [1, 2, 3], "label": [0, 1, 0]}), tmp_path / "rows.parquet")
    ended = interformer(
        blocked,
        ("train", config),
        ("evaluate", tmp_path),
        ("predict", tmp_path, "--data", tmp_path, "--out", tmp_path / "scores.parquet"),
        ("config", config),
        ("inspect", tmp_path / "rows.parquet"),
        ("data", "synthetic", "--out", tmp_path / "data", "--set", "rows=200"),
        ("plan", config, "--cluster", "dgx-h100", "--out", plan),
        ("plan", "diff", plan, plan),
    )
    for code, said in ended[:3]:
        assert code == 2
        assert "cannot load here: the shared library libnvidia-ml.so.1 is missing, a part of the NVIDIA driver" in said
        assert "on a host with an NVIDIA driver" in said and "make setup VARIANT=cpu" in said
        assert "Could not load" not in said and "uninstall" not in said
    assert [code for code, _ in ended[3:]] == [0] * 5, ended[3:]
    # the same plan as here, where FBGEMM loads
    assert cli.main(["plan", str(config), "--cluster", "dgx-h100", "--out", str(tmp_path / "with.json")]) == 0
    without, with_it = (
        json.loads((tmp_path / name).read_text(encoding="utf-8")) for name in ("without.json", "with.json")
    )
    for content in (without, with_it):
        content["search"].pop("seconds")
    assert without == with_it


def test_the_doctor_names_the_library_and_what_works(tmp_path, monkeypatch, capsys):
    (tmp_path / "fbgemm_gpu").mkdir()
    (tmp_path / "fbgemm_gpu/__init__.py").write_text(f"raise OSError({MISSING!r})\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert cli.main(["doctor", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert "libnvidia-ml.so.1 is missing, a part of the NVIDIA driver" in report["problems"][0]
    assert report["commands"] == {
        "work": ["doctor", "config", "inspect", "data", "plan", "plan diff", "plan score", "plan improve"],
        "do not work": ["train", "tune", "evaluate", "predict", "export"],
    }
    assert not any("uninstall" in line for line in report["cure"])
    assert "do not reinstall" in report["cure"][0]


def test_a_container_that_does_not_see_the_drivers_libraries():
    problem, cure = fbgemm.explain(MISSING, replace(LOGIN_NODE, gpu=True))
    assert "the driver is loaded, but this environment does not see its libraries" in problem
    assert len(cure) == 1 and "--gpus all" in cure[0]


@pytest.mark.parametrize("library", ["libcudart.so.13", "libtbb.so.12"])
def test_another_missing_library_is_named_and_the_packages_are_installed_again(library):
    problem, cure = fbgemm.explain(f"{library}: cannot open shared object file: No such file", LOGIN_NODE)
    assert problem.endswith(f"the shared library {library} is missing") and cure == stack.cure(LOGIN_NODE)


def test_an_error_that_names_no_library():
    problem, cure = fbgemm.explain("undefined symbol: _ZN3c10", LOGIN_NODE)
    assert problem.endswith("cannot load here: undefined symbol: _ZN3c10") and "uninstall" in cure[0]


@pytest.mark.parametrize("gpu, kind, other", [(True, "cuda", "cpu"), (False, "cpu", "cuda")])
def test_a_cpu_torch_beside_a_cuda_fbgemm_is_cured_by_what_the_machine_has(gpu, kind, other):
    found = replace(LOGIN_NODE, torch="2.13.0+cpu", torch_cuda=None, fbgemm_files={}, missing_needs=(), gpu=gpu)
    verdict = stack.judge(found)
    assert f"{'an' if gpu else 'no'} NVIDIA driver, so the cure below installs the {kind} set" in verdict.problems[0]
    assert f"{other}.txt instead of {kind}.txt" in verdict.problems[0]
    assert verdict.cure[1].endswith(f"requirements/{kind}.txt")
    assert stack.problems_beside_fbgemm(found) == ()  # so that `plan` works there


def test_what_is_wrong_beside_fbgemm_stops_a_plan_too():
    found = replace(LOGIN_NODE, torchrec=None, fbgemm_cuda=None)
    assert stack.problems_beside_fbgemm(found) == ("TorchRec is not installed.",)


def test_a_name_that_stands_in_can_be_read_and_not_called():
    finder = fbgemm._StandIns()
    assert finder.find_spec("torch") is None
    module = finder.create_module(finder.find_spec("fbgemm_gpu.tbe.ssd"))
    assert isinstance(module.Tables, type) and module.Kind.FIRST is module.Kind.FIRST
    assert module.Kind.FIRST is not module.Kind.SECOND
    with pytest.raises(RuntimeError, match=r"fbgemm_gpu\.tbe\.ssd\.Tables is needed, but FBGEMM is not loaded"):
        module.Tables(3)


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_the_stand_in_library_of_the_guide_has_what_fbgemm_asks_for(tmp_path):
    guide = (ROOT / "docs/guides/laptop-to-cluster.md").read_text(encoding="utf-8")
    source = re.search(r"```c\n(.+?)```", guide, re.DOTALL).group(1)
    (tmp_path / "nvml.c").write_text(source, encoding="utf-8")
    library = tmp_path / "libnvidia-ml.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "nvml.c"], check=True)
    loaded = ctypes.CDLL(str(library))
    names = ("Init_v2", "DeviceGetCount_v2", "DeviceGetHandleByIndex_v2", "DeviceGetNvLinkState")
    for name in (*names, "DeviceGetNvLinkRemotePciInfo_v2", "DeviceGetPciInfo_v3"):
        assert getattr(loaded, f"nvml{name}")() == 9  # NVML_ERROR_DRIVER_NOT_LOADED
