"""The pairing check: right about what fits, about each way not to fit, and never the one who loads torch."""

import importlib.metadata as metadata
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from interformer_rec import errors
from interformer_rec.install import stack
from tests import fake_site

ROOT = Path(__file__).parents[2]


def verdict(tmp_path, changes=None, cuda=None, gpu=False):
    """The verdict on the fitting set with `changes`: name -> version, or None to leave the distribution out."""
    versions = {**fake_site.FITTING, **(changes or {})}
    path = fake_site.write(tmp_path, {name: version for name, version in versions.items() if version}, cuda)
    return stack.judge(replace(stack.read(path), gpu=gpu))


def test_the_projects_own_pairing_fits(tmp_path):
    assert verdict(tmp_path) == stack.StackVerdict((), (), ())


def test_a_cuda_set_fits(tmp_path):
    changes = {"torch": "2.13.0", "fbgemm_gpu-cpu": None, "fbgemm_gpu": "1.8.0"}
    assert verdict(tmp_path, changes, cuda="13.0", gpu=True) == stack.StackVerdict((), (), ())


@pytest.mark.parametrize("fbgemm", ["1.6.0", "1.7.0", "1.9.0"])
def test_an_fbgemm_for_another_torch_is_named_with_the_one_that_fits(tmp_path, fbgemm):
    (problem,) = verdict(tmp_path, {"fbgemm_gpu-cpu": fbgemm}).problems
    assert f"fbgemm-gpu-cpu {fbgemm} do not fit" in problem
    assert f"torch 2.13 needs FBGEMM 1.8.0 and not {fbgemm}" in problem


def test_a_torchrec_for_another_torch_is_named(tmp_path):
    (problem,) = verdict(tmp_path, {"torchrec": "1.9.2"}).problems
    assert "needs torchrec 1.8.0 and not 1.9.2" in problem


def test_what_pip_chooses_by_itself_is_an_error(tmp_path):
    changes = {"torch": "2.15.0", "fbgemm_gpu-cpu": None, "fbgemm_gpu": "1.9.0"}
    (problem,) = verdict(tmp_path, changes, cuda="13.0").problems
    assert "torch 2.15.0, torchrec 1.8.0 and fbgemm-gpu 1.9.0" in problem
    assert "newer than every pairing known to fit" in problem


def test_another_known_pairing_is_a_remark(tmp_path):
    found = verdict(tmp_path, {"torch": "2.14.1+cpu", "torchrec": "1.9.2", "fbgemm_gpu-cpu": "1.9.0"})
    assert found.problems == () and "tested with torch 2.13.0 only" in found.remarks[0]


@pytest.mark.parametrize(
    "name, said",
    [
        ("torch", "PyTorch is not installed"),
        ("torchrec", "TorchRec is not installed"),
        ("fbgemm_gpu-cpu", "FBGEMM is not installed"),
        ("tensordict", "TorchRec 1.8.0 needs tensordict: not installed"),
    ],
)
def test_what_is_missing_is_named(tmp_path, name, said):
    assert said in verdict(tmp_path, {name: None}).problems[0]


def test_a_need_of_another_version_than_torchrec_pins_is_named(tmp_path):
    assert "torchmetrics==1.0.3 (found 1.6.0)" in verdict(tmp_path, {"torchmetrics": "1.6.0"}).problems[0]


def test_two_fbgemm_builds_over_each_other(tmp_path):
    (problem,) = verdict(tmp_path, {"fbgemm_gpu": "1.8.0"}).problems
    assert "fbgemm-gpu-cpu 1.8.0 and fbgemm-gpu 1.8.0 are installed over each other" in problem
    assert "2 of the 2 files of fbgemm-gpu-cpu are missing or not its own" in problem


def test_files_that_another_build_took_along(tmp_path):
    path = fake_site.write(tmp_path, fake_site.FITTING)
    (tmp_path / "fbgemm_gpu/fbgemm.so").unlink()
    (problem,) = stack.judge(stack.read(path)).problems
    assert "FBGEMM is damaged: 1 of the 2 files" in problem


def test_a_cuda_fbgemm_on_a_cpu_torch(tmp_path):
    (problem,) = verdict(tmp_path, {"fbgemm_gpu-cpu": None, "fbgemm_gpu": "1.8.0"}).problems
    assert "needs a CUDA build of torch" in problem


def test_a_cpu_fbgemm_beside_a_gpu_is_a_remark(tmp_path):
    found = verdict(tmp_path, {"torch": "2.13.0"}, cuda="13.0", gpu=True)
    assert found.problems == () and "no GPU kernels" in found.remarks[0]


def test_an_interrupted_uninstall_counts_as_missing(tmp_path):
    path = fake_site.write(tmp_path, fake_site.FITTING)
    (tmp_path / "torchrec-1.8.0.dist-info/METADATA").unlink()
    assert stack.judge(stack.read(path)).problems[0] == "TorchRec is not installed."


def test_the_cure_names_this_python_and_the_pinned_files(tmp_path):
    cure = verdict(tmp_path, {"fbgemm_gpu-cpu": "1.9.0"}).cure
    assert [line.split(" -m pip ")[0] for line in cure] == [sys.executable] * 3
    assert cure[0].endswith("uninstall -y fbgemm-gpu fbgemm-gpu-cpu torchrec")
    assert cure[1].endswith("requirements/cpu.txt") and cure[2].endswith("requirements/torchrec.txt")
    assert "--no-deps" in cure[2]


def test_the_cure_outside_a_checkout_states_the_same_pins(tmp_path, monkeypatch):
    monkeypatch.setattr(stack, "ROOT", tmp_path)
    wanted, torchrec = stack.pins("cpu")
    assert torchrec == "torchrec==1.8.0"
    assert {"torch==2.13.0", "fbgemm-gpu-cpu==1.8.0", "torchmetrics==1.0.3"} <= set(wanted.split())


def test_require_torchrec_raises_for_the_user_and_can_be_told_not_to(monkeypatch, tmp_path):
    path = fake_site.write(tmp_path, {**fake_site.FITTING, "fbgemm_gpu-cpu": "1.9.0"})
    monkeypatch.setattr(sys, "path", path)
    check = stack.require_torchrec.__wrapped__  # without the cache: this process already passed the check
    with pytest.raises(errors.InputError, match=r"do not fit together(.|\n)*To cure it:\n.*pip uninstall"):
        check()
    monkeypatch.setenv(stack.UNCHECKED, "1")
    with pytest.warns(UserWarning, match="do not fit together"):
        check()


def test_reading_loads_nothing_heavy():
    code = (
        "import sys; from interformer_rec.install import stack; stack.require_torchrec(); print('torch' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).strip() == "False"


def test_requirements_pin_the_first_row_of_the_table():
    text = "\n".join(path.read_text() for path in (ROOT / "requirements").glob("*.txt"))
    pins = dict(re.findall(r"^(torch|torchrec|fbgemm-gpu-cpu|fbgemm-gpu)==(.+)$", text, re.MULTILINE))
    ours = stack.PAIRINGS[0]
    assert pins == {
        "torch": ours.torch,
        "torchrec": ours.torchrec,
        "fbgemm-gpu": ours.fbgemm,
        "fbgemm-gpu-cpu": ours.fbgemm,
    }


def test_what_every_install_brings_depends_on_no_torch():
    base = (ROOT / "requirements/base.txt").read_text()
    names = [re.split(r"[<>=\[ ]", line)[0] for line in base.splitlines() if line and not line.startswith("#")]
    seen: set[str] = set()
    while names:
        name = names.pop()
        if name not in seen and stack.version_of(name):
            seen.add(name)
            lines = [line for line in metadata.requires(name) or () if "extra ==" not in line]
            names += [re.split(r"[<>=!~;\[( ]", line)[0] for line in lines]
    assert "numpy" in seen and not seen & {"torch", "torchrec", "fbgemm-gpu"}
