"""Options of `plan`, `plan diff` and `plan score` arrive where they belong; an option that a command does not have is an error."""

import pytest

from interformer_rec import cli
from interformer_rec.planning.arguments import Asked, Output


@pytest.fixture
def calls(monkeypatch):
    seen = []
    monkeypatch.setattr(cli, "call", lambda *args, **named: seen.append((args, named)) or 0)
    return seen


ALL = {
    "--set": "a=1", "--nodes": "2", "--batch-size": "8", "--constraints": "c", "--reserve": "0.2", "--objective": "gpus",
    "--rows": "t=1", "--lengths": "l=1", "--statistics": "s", "--price": "cpu=1", "--what-if": "nodes=1", "--why": "t",
    "--out": "o", "--html": "h", "--json": None, "--new-cluster": "n", "--distinct": "t=0.5",
}  # fmt: skip


def test_what_is_given_arrives_and_the_rest_has_its_default(calls):
    assert cli.main(["plan", "c.yaml", "--cluster", "cpu"]) == 0
    words = [word for pair in ALL.items() for word in pair if word is not None]
    assert cli.main(["--debug", "plan", "c.yaml", "--cluster", "cpu", *words]) == 0
    asked = Asked(
        "c.yaml", "cpu", set=["a=1"], nodes=2, batch_size=8, constraints="c", reserve=0.2, rows=["t=1"], lengths=["l=1"],
        statistics="s", distinct=["t=0.5"],
    )  # fmt: skip
    output = Output("gpus", ["cpu=1"], ["nodes=1"], ["t"], "o", "h", True, "n")
    assert calls == [(("plan", Asked("c.yaml", "cpu"), Output()), {}), (("plan", asked, output), {})]


def test_commands_of_two_words(calls):
    assert cli.main(["plan", "diff", "a.json", "b.json", "--json"]) == 0
    assert cli.main(["--debug", "plan", "score", "runs/x", "--out", "c.yaml", "--trust-run"]) == 0
    assert cli.main(["plan", "score", "runs/x", "runs/y", "--cluster", "cpu", "--json"]) == 0
    assert cli.main(["plan", "improve", "runs/x", "--out", "p.json"]) == 0
    assert calls == [
        (("plan diff", "a.json", "b.json", True), {}),
        (("plan score", ["runs/x"], None), {"out": "c.yaml", "as_json": False, "trust": True}),
        (("plan score", ["runs/x", "runs/y"], "cpu"), {"out": None, "as_json": True, "trust": False}),
        (("plan improve", "runs/x", None), {"out": "p.json", "as_json": False, "trust": False}),
    ]


def left(argv, capsys):
    """(exit code, what was printed) of a command line that argparse answers."""
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    printed = capsys.readouterr()
    return caught.value.code, printed.out + printed.err


OF_A_RUN = ("--cluster", "--out", "--json", "--trust-run")
HAS = {"diff": ("--json",), "score": OF_A_RUN, "improve": OF_A_RUN}


@pytest.mark.parametrize("command", HAS)
@pytest.mark.parametrize("option", [*ALL, "--cluster", "--trust-run"])
def test_an_option_that_a_command_does_not_have_is_an_error(calls, capsys, command, option):
    """Also one that is given its default."""
    value = [] if option in ("--json", "--trust-run") else [ALL.get(option, "cpu")]
    argv = ["plan", command, *(["a", "b"] if command == "diff" else ["run"]), option, *value]
    if option in HAS[command]:
        assert cli.main(argv) == 0 and len(calls) == 1
    else:
        code, text = left(argv, capsys)
        assert (code, calls) == (2, []) and f"unrecognized arguments: {option}" in text


@pytest.mark.parametrize(
    "argv, part",
    [
        (["diff", "a"], "interformer plan diff: error: the following arguments are required: B"),
        (["score"], "interformer plan score: error: the following arguments are required: RUN"),
        (["c.yaml", "d.yaml", "--cluster", "cpu"], "unrecognized arguments: d.yaml"),
        (["c.yaml", "--cluster", "cpu", "--trust-run"], "unrecognized arguments: --trust-run"),
        (["c.yaml", "--cluster", "cpu", "--objective", "money"], "invalid choice: 'money'"),
    ],
)
def test_what_lacks_or_is_too_much(calls, capsys, argv, part):
    code, text = left(["plan", *argv], capsys)
    assert (code, calls) == (2, []) and part in text


@pytest.mark.parametrize("command, options", HAS.items())
def test_each_command_has_a_help_of_its_own(capsys, command, options):
    code, text = left(["plan", command, "--help"], capsys)
    assert code == 0 and f"usage: interformer plan {command}" in text
    assert all(option in text for option in options) and "--nodes" not in text
    assert f"plan {command}" in left(["--help"], capsys)[1]
