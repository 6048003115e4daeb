"""Answer one request with an exported model's ONNX graphs. In: DIR of `interformer export`, a request; out: scores. Loads no torch.

usage: python examples/onnx_request.py DIR [REQUEST.json] [--save FOLDER]

REQUEST.json is {"user": {...}, "candidates": [{...}, ...]}; without it, the first golden request is ranked. --save keeps what each graph
takes and gives as FOLDER/NAME.npz beside its .onnx file: data to test a port to C++, Java or another language with.

The four steps are those of a service: encode, look up, run the graphs, sigmoid (of recalibrated logits, where model.json has a scale
and a shift). In Triton's Python backend the parts above `answer` belong
into `initialize`, and `answer` into `execute`.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from interformer_rec.metrics.recalibration import recalibrated, scale_and_shift
from interformer_rec.serving import artefact
from interformer_rec.serving.encode.encoder import Encoder
from interformer_rec.serving.lookup import lookups_of
from interformer_rec.serving.rectangle import reads_of
from interformer_rec.serving.scorer import probabilities


class Model:
    """The current version of an exported model."""

    def __init__(self, path: str) -> None:
        self.version = artefact.open(path)  # compares every file with its checksums
        contents, config, self.folder = self.version.contents, self.version.config, self.version.folder
        self.encoder = Encoder(config.features, self.version.fitted, self.version.signature)
        self.reads = reads_of(config.features, config.model)
        self.lookups = lookups_of(config.features, self.reads, artefact.tables_of(self.folder, contents.tables))
        self.lines = scale_and_shift(contents.recalibration, tuple(label.name for label in config.features.labels))
        self.names = artefact.graph_names(contents.split)
        self.sessions = {
            name: onnxruntime.InferenceSession(
                self.folder / "graphs" / f"{name}.onnx", providers=["CPUExecutionProvider"]
            )
            for name in self.names
        }
        self.calls: dict[str, dict[str, np.ndarray]] = {}  # what each graph took and gave last

    def answer(self, user: dict[str, Any], candidates: list[dict[str, Any]]) -> np.ndarray:
        """(candidates, tasks) probabilities."""
        inputs = self.encoder.rank(user, candidates)
        if self.names == ("whole",):
            return self.scores(self.run("whole", self.lookups[0](inputs.users, inputs.candidates, inputs.owners)))
        states = self.run(
            "user", self.lookups[0](inputs.users, None, None)
        )  # a service keeps these for the user's next request
        arrays = self.lookups[1](None, inputs.candidates, None)
        blocks = [array[None] for array in arrays]  # one block of candidates, that of user 0
        return self.scores(self.run("candidate", [states, np.zeros(1, np.int64), *blocks])[0])

    def scores(self, logits: np.ndarray) -> np.ndarray:
        """What the graphs give, as probabilities."""
        return probabilities(recalibrated(logits, self.lines))

    def run(self, name: str, arrays: list[np.ndarray]) -> np.ndarray:
        """A graph's output."""
        session, reads = self.sessions[name], self.reads[self.names.index(name)]
        given = dict(zip(artefact.graph_inputs(name, reads), arrays, strict=True))
        taken = {
            one.name: given[one.name] for one in session.get_inputs()
        }  # one that no operator reads is not in the file
        (found,) = session.run(None, taken)
        self.calls[name] = {**taken, session.get_outputs()[0].name: found}
        return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Answer one request with an exported model's ONNX graphs.")
    parser.add_argument("path", metavar="DIR")
    parser.add_argument("request", metavar="REQUEST.json", nargs="?")
    parser.add_argument("--save", metavar="FOLDER", type=Path)
    args = parser.parse_args()
    model = Model(args.path)
    if args.request is None:
        row = model.version.golden()[0]["row"]
        mine = {one.name for one in model.version.signature.inputs if one.part == "user"}
        request = {
            "user": {name: value for name, value in row.items() if name in mine},
            "candidates": [{name: value for name, value in row.items() if name not in mine}],
        }
    else:
        request = json.loads(Path(args.request).read_text(encoding="utf-8"))
    scores = model.answer(request["user"], request["candidates"])
    tasks = [one.name for one in model.version.signature.outputs]
    print(json.dumps([dict(zip(tasks, row, strict=True)) for row in scores.tolist()]))
    if args.save is not None:
        args.save.mkdir(parents=True, exist_ok=True)
        for name, arrays in model.calls.items():
            np.savez(args.save / f"{name}.npz", **arrays)
            shutil.copy(model.folder / "graphs" / f"{name}.onnx", args.save)


if __name__ == "__main__":
    main()
