"""The shapes in the guide to the model are those of the model, built from the config and the rows that the guide names."""

import re

import torch

from interformer_rec import cli
from interformer_rec.config.run import load
from interformer_rec.data.fit import fit
from interformer_rec.distributed.environment import Environment
from interformer_rec.model.task import build_task
from interformer_rec.training.build import eval_loader
from tests.docs.test_links import ROOT

GUIDE = ROOT / "docs/guides/model.md"
ROW = re.compile(r"^\| .* \| \((\d+(?:, \d+)*)\) \| `(.+)` \|$", re.MULTILINE)


def test_shapes_are_those_of_the_model(tmp_path, monkeypatch):
    text = GUIDE.read_text(encoding="utf-8")
    shown = {name: tuple(map(int, shape.split(", "))) for shape, name in ROW.findall(text)}
    given = re.search(r"`interformer (data synthetic [^`]+)` with `([^`]+)`", text)
    assert given is not None and len(shown) > 12
    monkeypatch.chdir(tmp_path)
    assert cli.main(given[1].split()) == 0

    cpu = torch.device("cpu")
    config = load("data/shapes/config.yaml", [given[2], "data.eval_batch_size=4"])
    fitted = fit(config.features, config.data.train)
    task = build_task(config.features, config.model, fitted.table_rows, device=cpu)
    batch, _ = next(eval_loader(config, config.data.valid, Environment(0, 1, 0, 1, cpu), fitted).batches())
    embedded = task.embeddings(batch)
    found = {"batch.dense": batch.dense, 'embedded.events["hist1"].values': embedded.events["hist1"].values}
    for name, module in task.model.named_modules():
        module.register_forward_hook(lambda _, inputs, output, name=name: found.update({name: output}))
    found["logits"] = task.model(batch.dense, embedded)
    assert {name: tuple(found[name].shape) for name in shown} == shown
    lengths = [", ".join(map(str, events.lengths.tolist())) for events in embedded.events.values()]
    assert f"histories with {lengths[0]} and {lengths[1]} events" in text
