"""The doctor tells the truth in processes like a user's: with wrong versions, libraries that crash, and none at all."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from interformer_rec.install import doctor, stack
from tests import fake_site

ROOT = Path(__file__).parents[2]


def run(*flags, first_on_path=None, python=sys.executable):
    """`interformer doctor` with a folder before the installed packages."""
    paths = [str(path) for path in (first_on_path, ROOT) if path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [str(python), "-m", "interformer_rec.cli", "doctor", *flags]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_a_good_environment_can_train():
    done = run("--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["ok"], report["problems"], report["cure"]) == (0, True, [], [])
    assert {name: step["state"] for name, step in report["probe"].items()} == dict.fromkeys(
        ("torch", "fbgemm", "torchrec", "devices"), "done"
    )
    assert "gloo" in report["probe"]["torch"]["backends"]
    assert report["versions"]["torch"].startswith("2.13") and report["machine"]["cores"] >= 1
    assert report["operators"]["rms_norm"] == {
        "CPU": "plain torch",
        "CUDA": "Triton kernel",
        "torch.compile": "CPU, CUDA",
        "torch.export": "CPU, CUDA",
    }
    assert report["operators"]["per_sample_linear"]["torch.compile"] is None and report["no_kernels"] is None
    assert report["pairings"][0] == {"torch": "2.13.0", "torchrec": "1.8.0", "fbgemm": "1.8.0"}


@pytest.mark.slow
def test_a_mismatched_fbgemm_is_named_with_the_cure(tmp_path):
    fake_site.write(tmp_path, {"fbgemm_gpu-cpu": "1.9.0"})
    (tmp_path / "fbgemm_gpu/__init__.py").write_text("raise OSError('undefined symbol: _ZN3c10')  # as 1.9.0 ends\n")
    fake_site.record(tmp_path, tmp_path / "fbgemm_gpu_cpu-1.9.0.dist-info", "x")
    done = run(first_on_path=tmp_path)
    said = " ".join(done.stdout.split())
    assert done.returncode == 1
    assert "torch 2.13 needs FBGEMM 1.8.0 and not 1.9.0" in said
    assert "Training cannot work here. To cure it:" in said
    assert f"{sys.executable} -m pip install --no-deps -r {ROOT}/requirements/torchrec.txt" in done.stdout


@pytest.mark.slow
def test_a_library_that_kills_its_process_does_not_take_the_doctor_along(tmp_path):
    (tmp_path / "fbgemm_gpu").mkdir()
    (tmp_path / "fbgemm_gpu/__init__.py").write_text("import os; os.abort()\n")
    done = run("--json", first_on_path=tmp_path)
    report = json.loads(done.stdout)
    assert done.returncode == 1 and report["probe"]["torch"]["state"] == "done"
    assert "killed by SIGABRT" in report["probe"]["fbgemm"]["error"]
    assert report["probe"]["torchrec"]["state"] == "not reached" and report["cure"]


def test_a_library_that_hangs_is_stopped(tmp_path, monkeypatch):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text("import time; time.sleep(60)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert "hung for 2 s" in doctor.probe(seconds=2)["torch"]["error"]


def test_it_runs_where_the_whole_stack_is_missing(tmp_path):
    venv.create(tmp_path, with_pip=False, symlinks=True)
    site = next((tmp_path / "lib").glob("python3*/site-packages"))
    for entry in Path(os.__file__).parent.glob("site-packages/*"):  # a Python without a venv
        _link(site, entry)
    for folder in (Path(path) for path in sys.path if path.endswith("site-packages")):
        for entry in folder.iterdir():
            _link(site, entry)
    done = run("--json", python=tmp_path / "bin/python")
    report = json.loads(done.stdout)
    assert done.returncode == 1 and report["versions"]["torch"] is None
    assert [problem.split()[0] for problem in report["problems"]] == ["PyTorch", "TorchRec", "FBGEMM"]
    assert "No module named 'torch'" in report["probe"]["torch"]["error"]
    assert str(tmp_path / "bin/python") in report["cure"][0]


def _link(site, entry):
    if not entry.name.startswith(("torch", "fbgemm", "__editable__")) and not (site / entry.name).exists():
        (site / entry.name).symlink_to(entry)


def test_its_own_process_loads_none_of_what_it_examines(monkeypatch):
    code = (
        "import sys; from interformer_rec.install import doctor; doctor.probe = lambda: {}; doctor._show_probe = print;"
        "doctor.run(); print(sorted({'torch', 'torchrec', 'fbgemm_gpu'} & set(sys.modules)))"
    )
    said = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True)
    assert said.splitlines()[-1] == "[]"


def test_versions_are_on_the_screen_before_anything_is_loaded(monkeypatch, capsys):
    def probe():
        assert "torchrec" in capsys.readouterr().out
        return doctor._steps("", "said nothing")

    monkeypatch.setattr(doctor, "probe", probe)
    assert doctor.run() == 1


@pytest.mark.parametrize("output", ["", "a line of somebody else\n[1]\n"])
def test_a_probe_that_says_nothing_is_a_failure(output):
    steps = doctor._steps(output, "ended with exit code 3")
    assert steps["torch"] == {"state": "failed", "error": "ended with exit code 3"}


def test_where_operators_run_is_a_table_that_says_why_there_are_no_kernels(monkeypatch, capsys):
    good = {name: {"state": "done"} for name in ("torch", "fbgemm", "torchrec", "devices")}
    monkeypatch.setattr(doctor, "probe", lambda: good)
    monkeypatch.setenv("INTERFORMER_OPS", "torch")
    assert doctor.run() == 0
    said = capsys.readouterr().out
    assert "without Triton kernels: the environment variable INTERFORMER_OPS is torch" in said
    (row,) = [line for line in said.splitlines() if " jagged_attention " in line]
    assert [cell.strip() for cell in row.split("│")[1:-1]] == [
        "jagged_attention",
        "plain torch",
        "plain torch",
        "-",
        "-",
    ]


def test_the_verdict_needs_both_the_metadata_and_the_probe(monkeypatch, capsys):
    good = {name: {"state": "done"} for name in ("torch", "fbgemm", "torchrec", "devices")}
    monkeypatch.setattr(doctor, "probe", lambda: good)
    monkeypatch.setattr(doctor, "operators", dict)
    assert doctor.run(as_json=True) == 0
    monkeypatch.setattr(stack, "judge", lambda found: stack.StackVerdict(("a clash",), (), ("a command",)))
    assert doctor.run(as_json=True) == 1
    assert '"a clash"' in capsys.readouterr().out
