"""A checkpoint whose config asks for the environment and for a server: neither is asked, whatever the door."""

from __future__ import annotations

import http.server
import json
import threading

import pytest
import yaml

from tests.hostile.checkpoint_files import copied, exit_code, replace_file


@pytest.fixture
def requests(monkeypatch):
    """What a server on loopback was asked for, and a function: a key -> its URI there, as of an S3 store."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "anybody")
    query = f"?endpoint_override=127.0.0.1:{server.server_port}&scheme=http&region=us-east-1"
    yield asked, lambda key: f"s3://bucket/{key}{query}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("how", ["checkpoint", "folder", "folder without its own", "checkpoints elsewhere"])
def test_no_secret_of_the_environment_goes_to_a_server(trained_run, tmp_path, requests, monkeypatch, capfd, how):
    asked, uri = requests
    monkeypatch.setenv("SECRET", "topsecret")
    run = tmp_path / "run"
    copied(trained_run, run)
    tree = yaml.safe_load((run / "config.yaml").read_text())
    tree["data"] |= {split: uri(f"{split}/${{SECRET}}.parquet") for split in ("train", "valid", "test")}
    if how == "checkpoints elsewhere":
        tree["training"]["checkpoint"]["path"] = uri("${SECRET}")
    text = yaml.safe_dump(tree).encode()
    for checkpoint in (run / "checkpoints").glob("step-*"):
        if (checkpoint / "run" / "config.yaml").exists():
            replace_file(checkpoint, "run/config.yaml", text)
    if how != "folder without its own":
        (run / "config.yaml").write_bytes(text)
    path = max((run / "checkpoints").glob("step-*")) if how == "checkpoint" else run
    data = yaml.safe_load((trained_run / "config.yaml").read_text())["data"]["valid"]

    assert exit_code(["evaluate", str(path)]) == (0 if how == "folder without its own" else 2)
    out, err = capfd.readouterr()
    exit_code(["predict", str(path), "--data", data, "--out", str(tmp_path / "scores.parquet")])
    exit_code(["plan", "score", str(run)])
    out, err = map("".join, zip((out, err), capfd.readouterr(), strict=True))
    assert asked == [] and "topsecret" not in out + err
    if how == "folder without its own":
        return
    assert "--trust-run" in err
    assert exit_code(["evaluate", str(path), "--trust-run"]) == 2
    assert any("topsecret" in line for line in asked), "the user's own run may"
    assert "topsecret" not in "".join(capfd.readouterr())


def test_an_own_run_is_evaluated_without_ceremony(trained_run, tmp_path, capfd):
    run = tmp_path / "run"
    checkpoint = copied(trained_run, run)
    assert exit_code(["evaluate", str(run), "--json"]) == 0
    data = yaml.safe_load((run / "config.yaml").read_text())["data"]["valid"]
    assert exit_code(["evaluate", str(checkpoint), "--data", data, "--json"]) == 0
    assert exit_code(["evaluate", str(checkpoint), "--trust-run", "--json"]) == 0
    best, newest, trusted = map(json.loads, capfd.readouterr().out.splitlines())
    best, newest, trusted = ({k: v for k, v in found.items() if k != "seconds"} for found in (best, newest, trusted))
    assert newest == trusted and best["data"] == newest["data"] == data
