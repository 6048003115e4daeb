"""A graph gives the logits of the jagged model, whatever runs it, for any number of rows and events; ONNX needs no torch."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from interformer_rec.errors import InputError
from interformer_rec.install import graphs
from interformer_rec.serving.artefact import OUTPUT, graph_inputs, graph_names
from interformer_rec.serving.contents import SUFFIX
from interformer_rec.serving.halves import halves
from interformer_rec.serving.rectangle import reads_of
from interformer_rec.serving.runtimes import compile_graph, compiled_graph, example, refuse, trace, write_onnx
from interformer_rec.serving.session import onnx_graph
from tests.model.golden_cases import cases
from tests.serving.rectangles import Case, parameters_everywhere

CASES = cases()
STEPS = 50  # places of a graph that is written out step by step: max_length of the golden cases


def traced(case):
    """The programs of a case's halves."""
    found, states = [], None
    for half, reads in zip(halves(case.model, case.reads), case.reads, strict=True):
        found.append(trace(half, reads, states))
        if states is None and len(case.reads) > 1:
            with torch.no_grad():
                states = half(*example(reads, None))[:2]
    return found


def written(case, runtime, folder):
    """Loaded graphs as functions of tensors."""
    found = []
    for name, program, reads in zip(graph_names(len(case.reads) > 1), traced(case), case.reads, strict=True):
        path, inputs = folder / f"{name}{SUFFIX[runtime]}", graph_inputs(name, reads)
        if runtime == "aoti":
            compile_graph(program, path, "x86-64-v3")
        else:
            write_onnx(program, path, inputs, OUTPUT[name])
        found.append(on_tensors(compiled_graph(path) if runtime == "aoti" else onnx_graph(path, inputs)))
    return tuple(found)


def on_tensors(graph):
    return lambda *tensors: torch.from_numpy(np.ascontiguousarray(graph([tensor.numpy() for tensor in tensors])))


def asked(case, graphs_of_case, bound=1e-5):
    """Rows and places unlike those of the trace."""
    for places in (None, 14):
        wide = STEPS if case.reads[0].fixed else places
        torch.testing.assert_close(case.ask(graphs_of_case, wide), case.jagged(), rtol=0, atol=bound)


def made(name):
    case = Case(CASES[name], torch.float32)
    parameters_everywhere(case.model, 0.05)
    return case


@pytest.mark.release
@pytest.mark.parametrize("name", CASES)
def test_every_model_has_a_graph_and_an_onnx_form(name, tmp_path):
    case = made(name)
    asked(case, written(case, "onnx", tmp_path))


@pytest.mark.release
@pytest.mark.skipif(graphs.compiler() is None, reason="no C++ compiler")
@pytest.mark.parametrize("name", ["paper", "split", "merge union", "merge masknet", "kind bst", "kind dmin"])
def test_compiled_graphs(name, tmp_path):
    case = made(name)
    asked(case, written(case, "aoti", tmp_path))


def test_a_model_of_one_graph_has_an_onnx_form(tmp_path):
    """A small one; what `export` makes of a split InterFormer is in test_without_torch.py."""
    case = made("kind dcnv2")
    asked(case, written(case, "onnx", tmp_path))


@pytest.mark.release
def test_a_split_model_runs_as_onnx_without_torch(tmp_path):
    case = made("split n2s")
    asked(case, written(case, "onnx", tmp_path))
    of_user, of_candidate = ([tensor.numpy() for tensor in part] for part in case.inputs())
    inputs = dict(zip(case.reads[0].names, of_user, strict=True))
    of_both = {name: array[:, None] for name, array in zip(case.reads[1].names, of_candidate, strict=True)}
    np.savez(tmp_path / "user.npz", **inputs)
    np.savez(tmp_path / "candidate.npz", **of_both)
    code = """
import sys
sys.modules["torch"] = sys.modules["interformer_rec"] = None
import json, numpy, onnxruntime
def run(name, **more):
    session = onnxruntime.InferenceSession(name + ".onnx")
    known = {one.name for one in session.get_inputs()}
    given = {**numpy.load(name + ".npz"), **more}
    return session.run(None, {key: value for key, value in given.items() if key in known})[0]
states = run("user")
print(json.dumps(run("candidate", states=states, owners=numpy.arange(len(states)))[:, 0].tolist()))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout), case.jagged().numpy(), rtol=0, atol=1e-5)


def test_a_recurrence_of_many_steps_is_refused():
    case = made("kind dien")
    refuse(case.reads, "dien")
    groups = tuple(group.model_copy(update={"max_length": 129}) for group in case.features.sequences)
    longer = case.features.model_copy(update={"sequences": groups})
    with pytest.raises(InputError, match=r"model.kind dien .* max_length 129 events; at most 128 .* --runtime eager"):
        refuse(reads_of(longer, case.config), "dien")
