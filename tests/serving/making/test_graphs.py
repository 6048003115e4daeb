"""Whose graphs a version may take over: those of the same model, traced from the same code."""

from __future__ import annotations

import dataclasses
import shutil

from interformer_rec.serving import artefact
from interformer_rec.serving.making import graphs
from interformer_rec.serving.making.graphs import may_take_over, recipe
from interformer_rec.serving.making.how import How


def test_a_recipe_is_of_model_features_members_and_code(exported, tmp_path, monkeypatch):
    config = artefact.open(str(exported[1])).config
    first = recipe(config, 1)
    assert recipe(config, 1) == first != recipe(config, 2)
    wider = config.model.model_copy(update={"d": 2 * config.model.d})
    assert recipe(config.model_copy(update={"model": wider}), 1) != first
    fewer = config.features.model_copy(update={"labels": config.features.labels[:1]})
    assert recipe(config.model_copy(update={"features": fewer}), 1) != first
    assert recipe(config.model_copy(update={"name": "another"}), 1) == first
    for folder in graphs.SOURCES:
        shutil.copytree(graphs.PACKAGE / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(graphs, "PACKAGE", tmp_path)
    assert recipe(config, 1) == first
    (tmp_path / "ops" / "another.py").write_text("x = 1\n", encoding="utf-8")
    assert recipe(config, 1) != first


def test_graphs_are_taken_over_from_a_version_that_has_all_of_them(exported):
    version = artefact.open(str(exported[1]))
    how = How.of(version)
    assert not may_take_over(version, "a", how) and not may_take_over(None, "a", how)  # the modules need none
    both = dataclasses.replace(how, runtimes=("aoti", "onnx"), isa="x86-64-v3")
    contents = {"runtimes": ("aoti", "onnx"), "isa": "x86-64-v3", "graphs": "a" * 64}
    for change, expected in (
        ({}, True),
        ({"runtimes": ("aoti",)}, False),
        ({"isa": "native"}, False),
        ({"graphs": "b" * 64}, False),
    ):
        other = dataclasses.replace(version, contents=version.contents.model_copy(update={**contents, **change}))
        assert may_take_over(other, "a" * 64, both) is expected
