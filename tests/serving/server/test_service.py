"""Requests over a real socket to a real exported model: scores, refusals, the protocol's addresses."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from typing import Any

import numpy as np
import pytest

from interformer_rec.serving import artefact
from interformer_rec.serving.engine.opening import example
from tests.serving.server.client import eventually


@pytest.fixture
def request_body(served, golden) -> dict[str, Any]:
    return example(artefact.open(str(served)).signature, [one["row"] for one in golden])


def test_scores_are_those_of_predict(server, golden):
    found = server.post("/v1/score", {"rows": [one["row"] for one in golden]})
    assert found["version"] == server.service.versions.current.version
    for task in ("label", "again"):
        np.testing.assert_allclose(found["scores"][task], [one["scores"][task] for one in golden], rtol=0, atol=2e-7)


def test_one_users_candidates_score_as_rows_and_the_second_request_takes_the_state_from_the_cache(server, request_body):
    rows = [{**request_body["user"], **candidate} for candidate in request_body["candidates"]]
    apart = server.post("/v1/score", {"rows": rows})["scores"]
    first, second = server.post("/v1/rank", request_body), server.post("/v1/rank", request_body)
    for task, scores in apart.items():
        np.testing.assert_allclose(first["scores"][task], scores, rtol=0, atol=1e-6)
        assert first["scores"][task] == second["scores"][task]
    assert first["order"] == sorted(range(len(rows)), key=lambda i: -first["scores"]["label"][i])
    assert (first["user_cached"], second["user_cached"]) == (False, True)
    other = {**request_body, "user": {**request_body["user"], "hist0_item_id": [], "hist0_category": []}}
    lists = [name for name in request_body["user"] if name.startswith("hist0_")]
    other["user"] |= {name: [] for name in lists}
    changed = server.post("/v1/rank", other)
    assert not changed["user_cached"]
    assert changed["scores"] != first["scores"]


def test_columns_and_objects_are_the_same_candidates(server, request_body):
    columns = {name: [one[name] for one in request_body["candidates"]] for name in request_body["candidates"][0]}
    by_rows, by_columns = (
        server.post("/v1/rank", {**request_body, "candidates": candidates})["scores"]
        for candidates in (request_body["candidates"], columns)
    )
    assert by_rows == by_columns


def test_a_key_of_the_client_stands_for_the_user(server, request_body):
    known = server.post("/v1/rank", {**request_body, "user_key": "ann"})
    again = server.post("/v1/rank", {**request_body, "user_key": "ann"})
    assert (known["user_cached"], again["user_cached"]) == (False, True)
    assert known["scores"] == again["scores"]
    lists = {name: [] for name in request_body["user"] if name.startswith("hist0_")}
    later = {**request_body, "user": {**request_body["user"], **lists}}
    assert server.post("/v1/rank", {**later, "user_key": "ann"})["scores"] == server.post("/v1/rank", later)["scores"]
    assert server.post("/v1/rank", {**request_body, "user_key": "ann"})["scores"] == known["scores"]
    alone = server.post("/v1/rank", {"candidates": request_body["candidates"], "user_key": "ann"})
    assert alone["scores"] == known["scores"]
    status, error = server.refused("/v1/rank", {"candidates": request_body["candidates"], "user_key": "bob"})
    assert (status, error["kind"]) == (409, "unknown_key")
    for key in ("", "x" * 257, 7):
        assert server.refused("/v1/rank", {**request_body, "user_key": key})[0] == 400


WRONG = [
    (b"{", 400, "bad_json"),
    (b"[]", 400, "bad_json"),
    (b'{"rows": NaN}', 400, "bad_json"),
    (b'{"rows": ' + b"[" * 100_000, 400, "bad_json"),
    (b'"\xff"', 400, "bad_json"),
    (b"{}", 400, "bad_request"),
    (b'{"rows": [], "more": 1}', 400, "bad_request"),
    (b'{"rows": []}', 400, "bad_value"),
    (b'{"rows": 5}', 400, "bad_value"),
    (b'{"rows": [1]}', 400, "bad_value"),
    (b'{"rows": [{"item": 1}]}', 400, "bad_value"),
    (b'{"rows": [{}], "deadline_ms": 0}', 400, "bad_request"),
    (b'{"rows": [{}], "deadline_ms": true}', 400, "bad_request"),
]


@pytest.mark.parametrize(("body", "status", "kind"), WRONG)
def test_wrong_requests_are_refused_in_words(server, body, status, kind):
    found, error = server.refused("/v1/score", body)
    assert (found, error["kind"]) == (status, kind)
    assert len(error["message"]) > 20


def test_a_wrong_value_has_its_place_and_fails_its_request_alone(server, request_body, golden):
    candidates = [*request_body["candidates"]]
    candidates[2] = {**candidates[2], "item_id": 1.5}
    status, error = server.refused("/v1/rank", {**request_body, "candidates": candidates})
    assert status == 400
    assert (error["part"], error["row"], error["field"]) == ("candidates", 2, "item_id")
    assert "1.5" in error["message"] and error["cure"] in error["message"]
    assert server.post("/v1/score", {"rows": [golden[0]["row"]]})["batched"] == 1


def test_limits(start, served, request_body):
    server = start(served, max_candidates=3, max_body_mb=0.05)
    assert server.refused("/v1/rank", request_body)[1]["kind"] == "many_candidates"
    few = {**request_body, "candidates": request_body["candidates"][:3]}
    assert len(server.post("/v1/rank", few)["order"]) == 3
    status, error = server.refused("/v1/rank", b'{"user": "' + b"x" * 100_000 + b'"}')
    assert (status, error["kind"]) == (413, "large_body")
    status, content, _ = server("POST", "/v1/rank", few, {"content-encoding": "gzip"})
    assert (status, content["error"]["kind"]) == (415, "encoded_body")
    # without a length, in pieces
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    with contextlib.suppress(BrokenPipeError):  # the answer may come before the last piece is sent
        pieces = iter([b"x" * 30_000] * 3)
        connection.request("POST", "/v1/rank", pieces, {"transfer-encoding": "chunked"}, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def test_too_much_work_is_refused_at_once_and_late_requests_end(start, served, request_body):
    server = start(served, queue=2, deadline_ms=2000.0)
    waiting = []
    for _ in range(2):  # their bodies never come
        one = socket.create_connection(("127.0.0.1", server.port))
        one.sendall(b"POST /v1/rank HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        waiting.append(one)
    eventually(lambda: server.service.gate.inside == 2)
    status, content, headers = server("POST", "/v1/rank", request_body)
    assert (status, content["error"]["kind"], headers["retry-after"]) == (429, "full", "1")
    for one in waiting:
        assert one.recv(1000).startswith(b"HTTP/1.1 408 ")
        one.close()
    eventually(lambda: server.service.gate.inside == 0)
    assert server.post("/v1/rank", request_body)["order"]
    status, error = server.refused("/v1/rank", {**request_body, "deadline_ms": 1e-6})
    assert (status, error["kind"]) == (504, "late")


def test_token(start, served, request_body, tmp_path):
    file = tmp_path / "token"
    file.write_text("0123456789abcdef\nmore\n", encoding="utf-8")
    server = start(served, token_file=str(file))
    for headers in ({}, {"authorization": "Bearer 0123456789abcdeg"}, {"authorization": "Basic 0123456789abcdef"}):
        status, error = server.refused("/v1/rank", request_body, headers)
        assert (status, error["kind"]) == (401, "no_token")
    status, _, _ = server("POST", "/v1/rank", request_body, {"authorization": "Bearer 0123456789abcdef"})
    assert status == 200
    assert server("GET", "/v1/status")[0] == server("GET", "/openapi.json")[0] == 401
    example = server.service.versions.current.example
    page = server("GET", "/")[1]
    assert "Try a request" in page and str(example["user"]["price"]) not in page
    assert server("GET", "/v2/health/ready")[0] == 200


def test_headers_and_connections_have_limits(start, served):
    server = start(served, connections=3)
    large = {f"x-{i}": "y" * 1000 for i in range(40)}
    assert server("GET", "/v2", None, large)[0] == 431
    many = {f"x-{i}": "y" for i in range(120)}
    assert server("GET", "/v2", None, many)[0] == 431
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]
    eventually(lambda: len(server.worker.server_state.connections) >= 3)
    assert server("GET", "/v2")[0] == 429
    for one in idle:
        one.close()
    eventually(lambda: not server.worker.server_state.connections)
    assert server("GET", "/v2")[0] == 200


def test_what_is_no_http_harms_nobody(server, request_body):
    for content in (
        b"\x00\x01\x02\r\n\r\n",
        b"GET\r\n\r\n",
        b"POST /v1/rank HTTP/1.1\r\ncontent-length: -5\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", server.port)) as one:
            one.sendall(content)
            one.shutdown(socket.SHUT_WR)
            one.settimeout(30)
            assert one.recv(1000)[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.1 404")
    assert server.post("/v1/rank", request_body)["order"]


def test_a_server_whose_scoring_thread_has_ended_is_not_live(server):
    server.service.batcher.close()
    assert server("GET", "/v2/health/live")[0] == server("GET", "/v2/health/ready")[0] == 503
    assert server.refused("/v1/score", {"rows": [server.service.versions.current.example["user"]]})[0] in (400, 503)


def test_addresses_that_are_none(server):
    assert server("GET", "/nothing")[0] == 404
    assert server("GET", "/v1/rank")[0] == 405
    assert server("GET", "/v2/models/other")[1]["error"]["kind"] == "unknown_model"


def test_trace_is_passed_through_and_meters_count(server, request_body):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    status, _, headers = server("POST", "/v1/rank", request_body, {"traceparent": trace})
    assert (status, headers["traceparent"]) == (200, trace)
    server.refused("/v1/rank", b"{")
    text = server.get("/metrics")
    for line in (
        'interformer_requests_total{route="/v1/rank",status="200"} 1.0',
        'interformer_errors_total{kind="bad_json"} 1.0',
        "interformer_candidates_total 5.0",
        "interformer_cache_misses_total 1.0",
        'interformer_stage_seconds_count{stage="score"} 1.0',
        "interformer_ready 1.0",
    ):
        assert line in text, line
    status = server.get("/v1/status")
    assert status["ready"] and status["split"] and status["cache"]["states"] == 1 and status["ms"]["p50"] > 0


def test_open_inference_protocol(server, golden):
    name = server.service.versions.current.name
    model = server.get(f"/v2/models/{name}")
    assert server.get("/v2/health/live")["live"] and server.get("/v2/health/ready")["ready"]
    assert server.get(f"/v2/models/{name}/ready")["ready"]
    assert server.get("/v2")["name"] == "interformer_rec"
    rows = [one["row"] for one in golden]
    inputs = []
    for one in model["inputs"]:
        values = [row[one["name"]] for row in rows]
        tensor = {"name": one["name"], "datatype": one["datatype"], "shape": [len(rows)], "data": values}
        if len(one["shape"]) == 2:
            longest = max(len(value) for value in values)
            filler = "" if one["datatype"] == "BYTES" else 0
            tensor["shape"] = [len(rows), longest]
            tensor["data"] = [value + [filler] * (longest - len(value)) for value in values]
            tensor["parameters"] = {"lengths": [len(value) for value in values]}
        inputs.append(tensor)
    found = server.post(f"/v2/models/{name}/infer", {"id": "7", "inputs": inputs, "outputs": [{"name": "again"}]})
    assert found["id"] == "7" and [one["name"] for one in found["outputs"]] == ["again"]
    np.testing.assert_allclose(
        found["outputs"][0]["data"], [one["scores"]["again"] for one in golden], rtol=0, atol=2e-7
    )
    for wrong in (
        {"inputs": []},
        {"inputs": inputs[1:]},
        {"inputs": [*inputs, inputs[0]]},
        {"inputs": [{**inputs[0], "shape": [1, 1, 1]}]},
        {"inputs": [{**inputs[0], "datatype": "INT65"}]},
        {"inputs": [{**inputs[0], "data": inputs[0]["data"][1:]}]},
        {"inputs": inputs, "outputs": [{"name": "other"}]},
        {"inputs": inputs, "id": 5},
    ):
        assert server.refused(f"/v2/models/{name}/infer", wrong)[0] == 400, wrong
    history = next(one for one in inputs if len(one["shape"]) == 2)
    moved = {
        **history,
        "data": [history["data"][0][:-1], [*history["data"][0][-1:], *history["data"][1]], *history["data"][2:]],
    }
    status, error = server.refused(f"/v2/models/{name}/infer", {"inputs": [moved]})  # as many values, in other rows
    assert (status, error["field"]) == (400, history["name"])
    empty = {**history, "shape": [10**15, 0], "data": [], "parameters": {}}  # rows that need no values
    assert server.refused(f"/v2/models/{name}/infer", {"inputs": [empty]})[0] == 413


def test_the_description_has_requests_that_work(server):
    document = server.get("/openapi.json")
    for path in ("/v1/rank", "/v1/score", "/v1/explain"):
        content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        assert server.post(path, content["example"])
        assert set(content["example"]) <= set(content["schema"]["properties"])
    json.dumps(document)


def test_explain_says_what_a_left_out_input_changes(server, request_body):
    one = {**request_body, "candidates": request_body["candidates"][:2]}
    found = server.post("/v1/explain", one)
    np.testing.assert_allclose(found["scores"], server.post("/v1/rank", one)["scores"]["label"], rtol=0, atol=1e-6)
    moved = {tuple(entry["inputs"]): entry["logit"] for entry in found["moved"]}
    sizes = [abs(np.mean(logit)) for logit in moved.values()]
    history = next(names for names in moved if "hist0_item_id" in names)
    without = {**one["user"], **{name: [] for name in history}}
    scores = np.array(server.post("/v1/rank", {**one, "user": without})["scores"]["label"])
    logit = np.log(scores) - np.log1p(-scores)
    whole = np.array(found["scores"])
    np.testing.assert_allclose(moved[history], np.log(whole) - np.log1p(-whole) - logit, atol=1e-5)
    assert len(moved) > 3 and max(sizes) > 0
    assert server.refused("/v1/explain", {**one, "candidates": one["candidates"] * 11})[0] == 400


def test_a_model_without_split_ranks_too(start, exported, request_body):
    server = start(exported[1])
    rows = [{**request_body["user"], **candidate} for candidate in request_body["candidates"]]
    ranked = server.post("/v1/rank", request_body)
    np.testing.assert_allclose(
        ranked["scores"]["label"], server.post("/v1/score", {"rows": rows})["scores"]["label"], rtol=0, atol=1e-6
    )
    assert not ranked["user_cached"]
    assert not server.get("/v1/status")["split"]
