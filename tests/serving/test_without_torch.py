"""An ONNX version answers where torch, TorchRec, FBGEMM and scikit-learn are not there, and its graphs where this package is not either."""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

from interformer_rec.cli import main
from interformer_rec.serving import artefact
from interformer_rec.serving.engine.opening import example
from tests.serving.server.client import Client, wait_for

ROOT = Path(__file__).parents[2]
# Refuses what is not to be there, then runs a program as `python PROGRAM ARGUMENTS` or `python -m MODULE ARGUMENTS` would.
WITHOUT = """
import importlib.abc, runpy, sys
class Refused(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchrec", "fbgemm_gpu", "sklearn", "onnx"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refused())
sys.argv = sys.argv[1:]
run = runpy.run_path if sys.argv[0].endswith(".py") else runpy.run_module
run(sys.argv[0], run_name="__main__")
"""


# tests/serving/test_runtimes.py writes a smaller model in every run of the tests
@pytest.fixture(
    scope="module",
    params=[pytest.param("split", marks=pytest.mark.slow), pytest.param("whole", marks=pytest.mark.release)],
)
def exported_onnx(request, tmp_path_factory):
    """What was exported, with ONNX graphs alone; the command's JSON and messages. Half a minute: all tests of this file share it."""
    run = request.getfixturevalue("split_run") if request.param == "split" else request.getfixturevalue("began")[1]
    out = tmp_path_factory.mktemp("onnx") / "served"
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.redirect_stderr(io.StringIO()) as printed:
        assert main(["export", str(run), "--out", str(out), "--runtime", "onnx", "--json"]) == 0
    return out, json.loads(said.getvalue()), printed.getvalue()


@pytest.fixture
def onnx(exported_onnx):
    """Its folder."""
    return exported_onnx[0]


def test_onnx_scores_as_predict_and_each_stage_says_how_long_it_took(exported_onnx):
    out, said, printed = exported_onnx
    assert said["onnx: largest logit difference"] <= 1e-5
    version = artefact.open(str(out))
    assert version.preferred == "onnx"
    stages = ["rows scored as by predict", "scored by onnx"]
    for name in artefact.graph_names(version.contents.split):
        assert (version.folder / "graphs" / f"{name}.onnx").exists()
        stages += [f"graph {name}: traced", f"graph {name}: written as ONNX"]
    for stage in stages:
        assert re.search(rf"^.*{stage}, (\d+ min \d+|[\d.]+) s$", printed, re.MULTILINE), printed


def without(*argv):
    return [sys.executable, "-c", WITHOUT, *map(str, argv)]


def said(argv, **more):
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120, **more)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_example_ranks_golden_candidates_without_torch(onnx, tmp_path):
    version = artefact.open(str(onnx))
    golden = version.golden()
    request = example(version.signature, [one["row"] for one in golden])
    (tmp_path / "request.json").write_text(json.dumps(request), encoding="utf-8")
    program = ROOT / "examples" / "onnx_request.py"
    ranked = said(without(program, onnx, tmp_path / "request.json", "--save", tmp_path / "arrays"))
    assert len(ranked) == len(request["candidates"])
    assert said(without(program, onnx)) == [pytest.approx(golden[0]["scores"], abs=1e-6)]
    assert ranked[0] == pytest.approx(golden[0]["scores"], abs=1e-6)
    names = artefact.graph_names(version.contents.split)
    assert sorted(path.name for path in (tmp_path / "arrays").iterdir()) == sorted(
        f"{name}.{end}" for name in names for end in ("npz", "onnx")
    )


def test_serve_answers_without_torch(onnx, tmp_path):
    answers(onnx, tmp_path / "serve.log", without("interformer_rec", "serve", onnx, "--port", "0"))


def answers(onnx, log, command, **more):
    """A server as that process gives the golden scores."""
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stderr=sink, cwd=ROOT, **more)
    try:
        client = Client(wait_for(log, process))
        golden = artefact.open(str(onnx)).golden()
        answer = client.post("/v1/score", {"rows": [one["row"] for one in golden]})
        for task in golden[0]["scores"]:
            wanted = [one["scores"][task] for one in golden]
            assert answer["scores"][task] == pytest.approx(wanted, abs=1e-6)
        assert client.refused("/v1/score", {"rows": [{}]})[0] == 400
    finally:
        process.kill()
        process.wait()


def bare(folder, *packages):
    """Python of a new environment with these packages of the package index."""
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    install = [python, "-m", "pip", "install", "-q", *packages]
    done = subprocess.run(install, cwd=ROOT, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    return python


@pytest.mark.release
def test_the_packages_of_the_image_without_torch_serve(onnx, tmp_path):
    """Those of the Dockerfile's target `serve-onnx`."""
    python = bare(tmp_path / "image", "-r", "requirements/base.txt", "-r", "requirements/serve.txt")
    seen = "import importlib.util as u; print([n for n in ('torch', 'torchrec', 'fbgemm_gpu') if u.find_spec(n)])"
    assert subprocess.run([python, "-I", "-c", seen], capture_output=True, text=True).stdout == "[]\n"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    answers(
        onnx, tmp_path / "serve.log", [python, "-m", "interformer_rec", "serve", onnx, "--port", "0"], env=environment
    )


# Prints the logits of the graphs in the working folder. In: their names; what each takes is beside it.
RUN_GRAPHS = """
import importlib.util, json, sys, numpy, onnxruntime
assert not any(importlib.util.find_spec(name) for name in ("torch", "interformer_rec"))
given = {}
for name in sys.argv[1:]:
    session = onnxruntime.InferenceSession(name + ".onnx", providers=["CPUExecutionProvider"])
    given = {**numpy.load(name + ".npz"), **given}
    taken = {one.name: given[one.name] for one in session.get_inputs()}
    given = {session.get_outputs()[0].name: session.run(None, taken)[0]}
print(json.dumps(given["logits"].tolist()))
"""
NOT_THERE = "import sys; sys.modules['torch'] = sys.modules['interformer_rec'] = None\n"


@pytest.mark.parametrize("installed", ["refused", pytest.param("bare", marks=pytest.mark.release)])
def test_graphs_give_the_same_where_numpy_and_onnxruntime_are_all(onnx, tmp_path, installed):
    """Other packages are refused, or not there: `bare` installs the two from the package index."""
    saved = tmp_path / "arrays"
    ranked = said(without(ROOT / "examples" / "onnx_request.py", onnx, "--save", saved))
    names = ("user", "candidate") if (saved / "user.onnx").exists() else ("whole",)
    if installed == "bare":
        command = [bare(tmp_path / "bare", "numpy", "onnxruntime"), "-I", "-c", RUN_GRAPHS]
    else:
        command = [sys.executable, "-c", NOT_THERE + RUN_GRAPHS]
    done = subprocess.run([*command, *names], cwd=saved, capture_output=True, text=True, timeout=120, env={})
    assert done.returncode == 0, done.stderr
    logits = np.array(json.loads(done.stdout))
    wanted = np.load(saved / f"{names[-1]}.npz")["logits"]
    assert np.abs(logits - wanted).max() <= 1e-6
    assert (1 / (1 + np.exp(-logits))).ravel() == pytest.approx(list(ranked[0].values()), abs=1e-6)
