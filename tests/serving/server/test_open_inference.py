"""Models that were exported with `--absent null --unknown ignored`: what a request lacks is null, what nobody reads is passed over."""

from __future__ import annotations

import json

import numpy as np
import pytest

from interformer_rec.serving import artefact
from interformer_rec.serving.arguments import ExportOptions
from interformer_rec.serving.engine.opening import example
from interformer_rec.serving.export import export


@pytest.fixture(scope="module")
def lenient(began, tmp_path_factory):
    out = tmp_path_factory.mktemp("lenient") / "served"
    export(str(began[1]), str(out), ExportOptions(runtime="eager", absent="null", unknown="ignored"))
    return out


def test_absent_and_unknown_keys_mean_what_the_signature_says(start, lenient):
    server, version = start(lenient), artefact.open(str(lenient))
    assert version.signature.unknown == "ignored"
    rows = [one["row"] for one in version.golden()]
    request = example(version.signature, rows)
    item = "item_id"
    null = {**request, "candidates": [{**one, item: None} for one in request["candidates"]]}
    wanted = server.post("/v1/rank", null)["scores"]
    absent = {
        "user": {**request["user"], "more": {"a": [1]}},
        "candidates": [{name: value for name, value in one.items() if name != item} for one in request["candidates"]],
    }
    assert server.post("/v1/rank", absent)["scores"] == wanted != server.post("/v1/rank", request)["scores"]
    assert server.post("/v1/explain", absent)["scores"] == pytest.approx(wanted["label"], abs=1e-6)
    schema = server.get("/openapi.json")["paths"]["/v1/rank"]["post"]["requestBody"]["content"]["application/json"]
    user = schema["schema"]["properties"]["user"]
    assert user["additionalProperties"] is True and item not in user["required"]
    assert server.refused("/v1/rank", {**request, "more": 1})[0] == 400  # a key of the request itself, and no input


def test_tensors_too(start, lenient):
    server, version = start(lenient), artefact.open(str(lenient))
    model = server.get(f"/v2/models/{version.config.name}")
    row = version.golden()[0]["row"]
    inputs = [{"name": "more", "datatype": "INT64", "shape": [1], "data": [1]}]
    for one in model["inputs"]:
        values = row[one["name"]]
        shape = [1, len(values)] if len(one["shape"]) == 2 else [1]
        data = values if len(shape) == 2 else [values]
        inputs.append({"name": one["name"], "datatype": one["datatype"], "shape": shape, "data": data})
    without = [one for one in inputs if one["name"] != "item_id"]
    found = server.post(f"/v2/models/{version.config.name}/infer", {"inputs": without})["outputs"]
    wanted = server.post("/v1/score", {"rows": [{**row, "item_id": None}]})["scores"]
    for one in found:
        np.testing.assert_array_equal(one["data"], wanted[one["name"]])
    unlike = server.post(f"/v2/models/{version.config.name}/infer", {"inputs": inputs})["outputs"]
    assert json.dumps(unlike) != json.dumps(found)
