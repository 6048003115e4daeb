"""An ONNX version answers where torch, TorchRec, FBGEMM and scikit-learn are not there, and its graphs where this package is not either."""

import json
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

from interformer_rec.serving import artefact
from interformer_rec.serving.engine.opening import example
from interformer_rec.serving.export import export
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


@pytest.fixture(scope="module", params=["split", pytest.param("whole", marks=pytest.mark.slow)])
def onnx(request, tmp_path_factory):
    """What was exported, with ONNX graphs alone."""
    run = request.getfixturevalue("split_run") if request.param == "split" else request.getfixturevalue("began")[1]
    out = tmp_path_factory.mktemp("onnx") / "served"
    export(str(run), str(out), runtime="onnx")
    return out


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
    log = tmp_path / "serve.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(without("interformer_rec", "serve", onnx, "--port", "0"), stderr=sink, cwd=ROOT)
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


@pytest.mark.slow
def test_graphs_give_the_same_where_numpy_and_onnxruntime_alone_are_installed(onnx, tmp_path):
    """The packages of a new environment come from the package index."""
    saved = tmp_path / "arrays"
    ranked = said(without(ROOT / "examples" / "onnx_request.py", onnx, "--save", saved))
    venv.create(tmp_path / "bare", with_pip=True)
    python = tmp_path / "bare" / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "-q", "numpy", "onnxruntime"]
    done = subprocess.run(install, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    code = """
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
    names = ("user", "candidate") if (saved / "user.onnx").exists() else ("whole",)
    command = [str(python), "-I", "-c", code, *names]
    done = subprocess.run(command, cwd=saved, capture_output=True, text=True, timeout=120, env={})
    assert done.returncode == 0, done.stderr
    logits = np.array(json.loads(done.stdout))
    wanted = np.load(saved / f"{names[-1]}.npz")["logits"]
    assert np.abs(logits - wanted).max() <= 1e-6
    assert 1 / (1 + np.exp(-logits[0])) == pytest.approx(list(ranked[0].values()), abs=1e-6)
