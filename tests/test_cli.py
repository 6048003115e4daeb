"""The command line: arguments arrive where they belong, errors read well, exit codes are as documented."""

import gc
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from interformer_rec import cli, redaction
from interformer_rec.data.inspect import command as inspect
from interformer_rec.errors import InputError

ROOT = Path(__file__).parents[1]


@pytest.fixture
def calls(monkeypatch):
    """Every function of the table notes its arguments; `answers` says what it returns or raises."""
    seen, answers = (
        [],
        {"load": "CONFIG", "to_yaml": "a: 1\n", "inspect": "features: []\n", "decisions": [], "data": {"train": 1234}},
    )
    answers |= {"train": 0, "doctor": 0, "evaluate": {"auc": 0.75, "rows": 10}, "predict": {"rows": 3}}

    def call(name, *args, **options):
        if name == "print once":
            args[2](args[1])
            return args[1], 1
        seen.append((name, *args))
        if isinstance(answers[name], BaseException):
            raise answers[name]
        return answers[name]

    monkeypatch.setattr(cli, "call", call)
    return seen, answers


@pytest.mark.parametrize(
    "argv, expected",
    [
        (["doctor", "--json"], [("doctor", True)]),
        (["config", "c.yaml", "--set", "a.b=1", "--set", "c=2"], [("load", "c.yaml", ["a.b=1", "c=2"])]),
        (["inspect", "folder"], [("inspect", "folder", None)]),
        (["inspect", "folder", "--kind", "din"], [("inspect", "folder", "din")]),
        (
            ["data", "synthetic", "--out", "d", "--set", "rows=9", "--set", "where=a=b"],
            [("data", "synthetic", "d", None, {"rows": "9", "where": "a=b"})],
        ),
        (["train", "c.yaml"], [("load", "c.yaml", []), ("train", "CONFIG", False, None, False, False)]),
        (
            ["train", "c.yaml", "--resume", "--from", "runs/a", "--from-partial"],
            [("load", "c.yaml", []), ("train", "CONFIG", True, "runs/a", True, False)],
        ),
        (["evaluate", "run"], [("evaluate", "run", None, [])]),
        (
            ["predict", "run", "--data", "d", "--out", "o", "--set", "a=1", "--score-column", "p"],
            [("predict", "run", "d", "o", ["a=1"], "p")],
        ),
        (["predict", "run", "--data", "d", "--out", "o"], [("predict", "run", "d", "o", [], "score_{label}")]),
    ],
)
def test_arguments_arrive(calls, argv, expected):
    assert cli.main(argv) == 0
    assert calls[0][: len(expected)] == expected


def test_exit_codes_of_the_work_are_passed_on(calls):
    calls[1].update(doctor=1, train=1)
    assert cli.main(["doctor"]) == 1 and cli.main(["train", "c.yaml"]) == 1


def test_inspect_writes_to_a_path_or_uri(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(inspect, "inspect_folder", lambda path, kind: "name: Größe\n")
    (tmp_path / "new").mkdir()
    for place in (str(tmp_path / "s.yaml"), f"file://{tmp_path}/new/t.yaml", "memory://drafts/u.yaml"):
        assert cli.main(["inspect", "folder", "--out", place]) == 0
        assert capsys.readouterr().out == f"wrote {place}\n"
    assert (tmp_path / "s.yaml").read_bytes() == (tmp_path / "new/t.yaml").read_bytes() == "name: Größe\n".encode()
    assert fsspec.filesystem("memory").cat("/drafts/u.yaml") == "name: Größe\n".encode()
    assert cli.main(["inspect", "folder", "--out", str(tmp_path / "s.yaml/t.yaml")]) == 2
    assert "cannot write " in (said := capsys.readouterr().err) and "non-directory entry exists" in said
    assert cli.main(["inspect", "folder", "--out", "nowhere://s.yaml"]) == 2
    assert "cannot open 'nowhere://s.yaml'" in capsys.readouterr().err


@pytest.fixture
def in_ascii():
    """Runs `interformer` where Python reads and prints ASCII unless it is configured otherwise."""
    ascii_only = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}

    def run(*argv):
        command = [sys.executable, "-m", "interformer_rec.cli", *map(str, argv)]
        return subprocess.run(command, cwd=ROOT, env=ascii_only, capture_output=True, text=True)

    return run


def test_names_outside_ascii_in_an_ascii_locale(in_ascii, tmp_path):
    rows = {"商品": [1, 2, 3], "Größe": [0.5, 1.5, 2.5], "label": [0, 1, 0]}
    pq.write_table(pa.table(rows), tmp_path / "rows.parquet")
    printed, written = in_ascii("inspect", tmp_path), in_ascii("inspect", tmp_path, "--out", tmp_path / "draft.yaml")
    assert (printed.returncode, written.returncode) == (0, 0), printed.stderr + written.stderr
    draft = yaml.safe_load((tmp_path / "draft.yaml").read_text(encoding="utf-8"))
    assert draft == yaml.safe_load(printed.stdout), "what was printed in ASCII means the same"
    assert draft["features"]["tables"] == {"商品": {}}
    assert in_ascii("config", tmp_path / "draft.yaml", "--set", "model={kind: dcnv2}").returncode == 0
    wrong = in_ascii("config", tmp_path / "draft.yaml", "--set", "Größe=1")
    assert wrong.returncode == 2 and "Traceback" not in wrong.stderr


def test_a_path_that_the_locale_cannot_encode_is_bad_input(in_ascii, tmp_path):
    said = in_ascii("inspect", tmp_path / "Daten für alle")
    assert said.returncode == 2 and "encoding of file names here, ascii" in said.stderr
    assert "set LC_ALL=C.UTF-8 or PYTHONUTF8=1" in said.stderr


def test_evaluate_prints_one_json_object_without_nan(calls, capsys):
    calls[1]["evaluate"] = {"click": {"auc": float("nan"), "logloss": 0.5}}
    assert cli.main(["evaluate", "run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"click": {"auc": None, "logloss": 0.5}}


def test_only_rank_0_prints_results(calls, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert cli.main(["evaluate", "run", "--json"]) == 0
    assert capsys.readouterr().out == ""


def test_row_counts_are_readable(calls, capsys):
    cli.main(["data", "synthetic", "--out", "d"])
    assert "1,234 rows" in capsys.readouterr().out


def test_bad_input_is_one_paragraph_and_2(calls, capsys):
    calls[1]["load"] = InputError("c.yaml: `trian` is no key of the config; did you mean `train`?")
    assert cli.main(["train", "c.yaml"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "interformer train: c.yaml: `trian` is no key of the config; did you mean `train`?\n"


def test_a_malformed_recipe_option_is_bad_input(calls, capsys):
    assert cli.main(["data", "synthetic", "--out", "d", "--set", "rows"]) == 2
    assert "--set rows: expected name=value" in capsys.readouterr().err


class Unusual(BaseException):
    """Like torch's CheckpointException, which `except Exception` misses."""


@pytest.mark.parametrize("error", [RuntimeError("no such shard"), Unusual("no such shard")])
def test_a_failed_run_is_1_and_shows_its_traceback_on_demand(calls, capsys, error):
    calls[1]["train"] = error
    assert cli.main(["train", "c.yaml"]) == 1
    short = capsys.readouterr().err
    assert f"{type(error).__name__}: no such shard" in short and "--debug" in short and "Traceback" not in short
    for argv in (["--debug", "train", "c.yaml"], ["train", "c.yaml", "--debug"]):
        assert cli.main(argv) == 1
        assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_an_error_under_torchrun_names_its_rank(calls, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    calls[1]["train"] = RuntimeError("boom")
    cli.main(["train", "c.yaml"])
    assert "(rank 1 of 2) failed: RuntimeError: boom" in capsys.readouterr().err


def test_torchrun_learns_the_message_of_the_rank_that_failed(calls, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    calls[1]["train"] = InputError("part-3.parquet is damaged")
    assert cli.main(["train", "c.yaml"]) == 2
    said = json.loads((tmp_path / "error.json").read_text())["message"]
    assert (
        said["message"] == "interformer train: part-3.parquet is damaged" and said["extraInfo"]["timestamp"].isdigit()
    )


def test_ctrl_c_is_130(calls):
    calls[1]["train"] = KeyboardInterrupt()
    assert cli.main(["train", "c.yaml"]) == 130


@pytest.mark.parametrize(
    "argv", [[], ["plan", "c.yaml", "--nodes"], ["train"], ["predict", "run"], ["doctor", "--jsno"]]
)
def test_wrong_usage_is_2(argv, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(argv)
    assert left.value.code == 2 and "usage: interformer" in capsys.readouterr().err


@pytest.mark.parametrize("name", cli.CALLS)
def test_the_table_names_functions_that_exist(name):
    assert callable(pkgutil.resolve_name(cli.CALLS[name]))


@pytest.mark.parametrize("module", ["interformer_rec", "interformer_rec.cli"])
def test_both_ways_to_run_it_as_a_module(module):
    said = subprocess.run([sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert said.returncode == 0 and "doctor" in said.stdout


def test_a_reader_that_leaves_early_is_no_error(tmp_path):
    code = (
        "import sys; from interformer_rec import cli; cli.call = lambda name, *a: [] if name == 'decisions' else 'x' * 10**6;"
        "sys.exit(cli.main(['inspect', 'p']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.read(1)
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == ("", 0)


def test_names_of_others_are_printed_as_they_are(calls, capsys):
    """Labels come from a config that somebody else may have written: no markup of rich, no commands to a terminal."""
    calls[1]["evaluate"] = {"[/]/auc": 0.5, "[red]a/auc": 0.25, "\x1b[2Jb/auc": 1.0, "rows": "[bold]"}
    assert cli.main(["evaluate", "run"]) == 0
    printed = capsys.readouterr().out
    assert (
        all(text in printed for text in ("[/]/auc", "[red]a/auc", r"\x1b[2Jb/auc", "[bold]")) and "\x1b" not in printed
    )


def test_a_command_hides_nothing_of_the_one_before(calls, capsys):
    redaction.hide("a-long-value", "${NAME}")
    calls[1]["load"] = InputError("there is no a-long-value")
    calls[1]["load"].args = ("there is no a-long-value",)
    assert cli.main(["config", "c.yaml"]) == 2
    assert "there is no a-long-value" in capsys.readouterr().err


@pytest.mark.parametrize("collects", [True, False])
def test_garbage_is_not_collected_while_modules_are_loaded(monkeypatch, collects):
    def resolve(name):
        assert not gc.isenabled()
        if name == "broken":
            raise ImportError(name)
        return lambda: gc.isenabled()

    monkeypatch.setattr(cli.pkgutil, "resolve_name", resolve)
    monkeypatch.setitem(cli.CALLS, "data", "broken")
    collected = gc.isenabled()
    try:
        (gc.enable if collects else gc.disable)()
        assert cli.call("doctor") is collects
        with pytest.raises(ImportError):
            cli.call("data")
        assert gc.isenabled() is collects
    finally:
        (gc.enable if collected else gc.disable)()
