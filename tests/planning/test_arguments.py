"""Options of `plan`, `plan diff` and `plan score` arrive where they belong; an option that a command would ignore is an error."""

import inspect

import pytest

from interformer_rec import cli
from interformer_rec.planning.arguments import OPTIONS, USED
from interformer_rec.planning.command import compare, plan
from interformer_rec.planning.score.command import score_run

FUNCTIONS = {"plan": plan, "plan diff": compare, "plan score": score_run}


@pytest.fixture
def calls(monkeypatch):
    seen = []
    monkeypatch.setattr(cli, "call", lambda *args, **named: seen.append((args, named)) or 0)
    return seen


def test_only_what_is_given_is_passed_on(calls):
    assert cli.main(["plan", "c.yaml", "--cluster", "cpu"]) == 0
    assert cli.main(["plan", "c.yaml", "--cluster", "cpu", "--nodes", "2", "--set", "a=1", "--json", "--why", "t"]) == 0
    assert cli.main(["plan", "diff", "a.json", "b.json", "--json"]) == 0
    assert cli.main(["plan", "score", "runs/x", "--out", "c.yaml"]) == 0
    assert calls == [
        (("plan", "c.yaml"), {"cluster": "cpu"}),
        (("plan", "c.yaml"), {"cluster": "cpu", "nodes": 2, "overrides": ["a=1"], "as_json": True, "why": ["t"]}),
        (("plan diff", "a.json", "b.json"), {"as_json": True}),
        (("plan score", "runs/x"), {"out": "c.yaml"}),
    ]


VALUES = {"nodes": "1", "batch_size": "8", "reserve": "0.1", "what_if": "nodes=1", "objective": "time"}


@pytest.mark.parametrize("command", [["diff", "a", "b"], ["score", "run"]])
@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_that_would_be_ignored_is_named(calls, capsys, command, option):
    """Also one that is given its default."""
    flag = f"--{option.replace('_', '-')}"
    code = cli.main(["plan", *command, flag, *([] if option in ("json", "trust_run") else [VALUES.get(option, "x=1")])])
    if option in USED[f"plan {command[0]}"]:
        assert (code, len(calls)) == (0, 1)
    else:
        assert (code, calls) == (2, [])
        assert f"plan {command[0]}: {flag} has no meaning there; it takes" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv, part",
    [
        (["diff", "a"], "name the two plan files"),
        (["score"], "name one run folder"),
        (["score", "a", "b"], "name one run folder"),
        (["c.yaml"], "--cluster NAME_OR_FILE"),
        (["c.yaml", "d.yaml", "--cluster", "cpu"], "one CONFIG"),
    ],
)
def test_what_lacks_or_is_too_much(calls, capsys, argv, part):
    assert cli.main(["plan", *argv]) == 2
    assert part in capsys.readouterr().err and calls == []


@pytest.mark.parametrize("command", FUNCTIONS)
def test_every_option_is_an_argument_of_the_function(command):
    arguments = inspect.signature(FUNCTIONS[command]).parameters
    assert {OPTIONS[name] for name in USED[command]} <= set(arguments)
    keywords = {name for name, parameter in arguments.items() if parameter.default is not inspect.Parameter.empty}
    assert keywords <= {OPTIONS[name] for name in USED[command]}
