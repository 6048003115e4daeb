from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from interformer_rec import cli
from interformer_rec.config.run import load
from interformer_rec.errors import InputError
from interformer_rec.planning.answer import DoesNotFit
from interformer_rec.planning.command import compare, numbers
from interformer_rec.planning.plan_file import read_plan
from interformer_rec.storage import read_file
from tests.planning.cases import CONFIG, plan

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def small(tmp_path: Path) -> str:
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG)
    return str(path)


def test_the_screen_has_memory_time_tables_and_reasons(small: str, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert plan(small, "dgx-h100", nodes=2, lengths=["clicks=3"], why=["city"], out=str(tmp_path / "p.json")) == 0
    text = capsys.readouterr().out
    assert "small on 2 x dgx-h100 (16 ranks), 16 rows a rank\n" in text
    assert re.search(
        r"a step +[\d.]+ ms\n  expected +[\d.]+ to [\d.]+ ms\n  samples/s +[\d,]+\n  most of a step +\w", text
    )
    for part in ("Memory of a rank", "runtime", "activations: sequence_arch", "all-to-all backward", "Why city is",
                 "given with --lengths", "schema: num_embeddings", "Assumed, not measured: 60% of memory", "How sure: ",
                 "by this count", "sharding.plan="):  # fmt: skip
        assert part in text, part
    assert read_plan(str(tmp_path / "p.json")).cluster == "dgx-h100"


def test_json_is_one_object_that_is_a_plan_and_a_statistics_file(
    small: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    assert plan(small, "cpu", json=True, rows=["user=5e3"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["format"] == 1
    assert content["fingerprint"]["tables"]["user"] == {"rows": 5000, "dim": 16, "dtype": "float32", "pooled": True}
    assert len(content["memory"]["peak"]) == content["fingerprint"]["ranks"] == 2
    assert content["step"]["total"] == pytest.approx(sum(v for k, v in content["step"].items() if k in ITEMS))
    (tmp_path / "p.json").write_text(json.dumps(content))
    assert plan(small, "cpu", json=True, statistics=str(tmp_path / "p.json")) == 0
    assert json.loads(capsys.readouterr().out)["fingerprint"] == content["fingerprint"]


ITEMS = {
    "lookup", "all-to-all forward", "dense forward", "dense backward", "all-reduce, not hidden", "all-to-all backward", "update",
    "ids' all-to-all, not hidden", "copies of vectors", "dense optimizer", "start of collectives", "host", "rows from host memory",
}  # fmt: skip


def test_what_if_and_its_cheapest(small: str, capsys: pytest.CaptureFixture[str]):
    assert plan(small, "cpu", what_if=["nodes=1,2", "cluster=cpu,dgx-b200"], price=["cpu=5", "dgx-b200=300"]) == 0
    text = capsys.readouterr().out
    assert text.count("cpu") > 2 < text.count("dgx-b200") and "What if, the cheapest samples first" in text
    assert "Cheapest samples: 1 x " in text
    assert plan(small, "cpu", what_if=["batch=8,16"], json=True) == 0
    assert [row["batch_size"] for row in json.loads(capsys.readouterr().out)["what_if"]] == [8, 16]


def test_clusters_alone_are_swept(small: str, capsys: pytest.CaptureFixture[str]):
    assert plan(small, "", what_if=["cluster=cpu,dgx-b200"], json=True) == 0
    assert [row["cluster"] for row in json.loads(capsys.readouterr().out)["what_if"]] == ["cpu", "dgx-b200"]
    assert cli.main(["plan", "--cluster", "cpu"]) == 2
    assert "CONFIG lacks: name a YAML file" in capsys.readouterr().err


def test_fewest_gpus(small: str, capsys: pytest.CaptureFixture[str]):
    big = ["user=2e9"]  # 119 GiB of weights and 7.5 of state
    assert plan(small, "dgx-a100-40", objective="gpus", rows=big, json=True) == 0
    assert json.loads(capsys.readouterr().out)["nodes"] == 1
    with pytest.raises(
        DoesNotFit, match=r"(?s)no plan for 5 tables.*Any one of these makes it fit:\n  - keep 1 table.*use \d nodes"
    ):
        plan(small, "g5.48xlarge", rows=["user=5e9"])


def test_a_table_that_no_row_reads_has_a_place_all_the_same(small: str, tmp_path: Path):
    (tmp_path / "c.yaml").write_text("together: [[user, city]]\n", encoding="utf-8")
    options = {"batch_size": 4096, "lengths": ["words=0"], "set": ["model.embedding_dim=1024"]}
    assert plan(small, "cpu", nodes=3, constraints=str(tmp_path / "c.yaml"), **options) == 0


def test_diff_on_the_screen(small: str, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    first, second = str(tmp_path / "a.json"), str(tmp_path / "b.json")
    plan(small, "cpu", out=first)
    plan(small, "dgx-h100", out=second)
    capsys.readouterr()
    assert compare(first, second) == 0
    assert "dgx-h100" in capsys.readouterr().out
    assert compare(first, first) == 0
    assert "are the same plan" in " ".join(capsys.readouterr().out.split())
    assert compare(first, second, as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["job"]["cluster"] == ["cpu", "dgx-h100"]


@pytest.mark.parametrize(
    "options, part",
    [
        ({"cluster": "dgx-h900"}, "neither known"),
        ({"cluster": "", "what_if": ["nodes=1"]}, "--cluster lacks: name one of cpu, dgx-a100-40"),
        ({"new_cluster": "ours"}, "--new-cluster writes a file and plans nothing"),
        ({"nodes": 0}, "1 to 4096 nodes, not 0"),
        ({"nodes": 5000}, "1 to 4096 nodes, not 5000"),
        ({"batch_size": 0}, "--batch-size 0"),
        ({"reserve": 1.0}, "--reserve 1.0"),
        ({"rows": ["user"]}, "--rows user: write NAME=NUMBER"),
        ({"rows": ["user=many"]}, "--rows user=many"),
        ({"price": ["cpu=-1"]}, "--price cpu=-1"),
        ({"why": ["usr"]}, "--why usr: no such table"),
        ({"constraints": "/nowhere.yaml"}, "cannot read constraints file"),
        ({"set": ["optimizer.embedding.kind=adam"]}, "adam, which FBGEMM has for CUDA only"),
        (
            {"set": ["sharding.tables={user: row_wise}"]},
            "sharding.tables.user is row_wise, but table 'user' is pooled",
        ),
        ({"what_if": ["nodes=0"]}, "--what-if"),
        ({"nodes": -1}, "1 to 4096 nodes, not -1"),
        ({"nodes": 10**30}, "1 to 4096 nodes"),
        ({"batch_size": 2**63}, "from 1 to 2147483647 rows a rank"),
        ({"reserve": float("nan")}, "--reserve nan"),
        ({"reserve": -0.1}, "--reserve -0.1"),
        ({"rows": ["user=0"]}, "--rows user=0: must be at least 1"),
        (
            {"rows": [f"user={2**63}"]},
            "table 'user' has 9223372036854775808 rows (given with --rows); a plan takes up to",
        ),
        ({"rows": ["usr=5"]}, "--rows names 'usr'"),
        ({"lengths": ["watch=5"]}, "--lengths names 'watch'"),
        ({"distinct": ["usr=0.5"]}, "--distinct names 'usr'"),
        ({"distinct": ["user=1.5"]}, "--distinct user=1.5: a share of the ids of a batch"),
        ({"distinct": ["user=0"]}, "--distinct user=0: a share of the ids of a batch"),
        ({"price": ["dgx-h1000=5"]}, "--price dgx-h1000: no such cluster is asked about; there is cpu"),
        ({"price": ["dgx-h100=5"], "what_if": ["cluster=dgx-b200"]}, "there is cpu, dgx-b200"),
        ({"why": ["usr"], "what_if": ["nodes=1"], "html": "x"}, "--why usr: no such table"),
        ({"why": ["user"], "what_if": ["nodes=1"]}, "--why is about one plan, and --what-if"),
        ({"out": "x", "what_if": ["nodes=1"]}, "--out writes one plan, and --what-if"),
        ({"objective": "gpus", "nodes": 2}, "--objective gpus looks for the number of nodes"),
        ({"what_if": ["nodes=1", "nodes=2"]}, "nodes is given twice"),
    ],
)
def test_bad_input(small: str, options: dict, part: str):
    with pytest.raises(InputError, match=re.escape(part)):
        plan(small, **({"cluster": "cpu"} | options))


@pytest.mark.parametrize("option", ["out", "html"])
def test_a_file_that_cannot_be_written(small: str, option: str):
    with pytest.raises(InputError, match=r"cannot write .*p.json"):
        plan(small, "cpu", **{option: f"{small}/p.json"})


def test_plans_and_pages_go_to_any_store_and_come_back(small: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out, page = "memory://plans/p.json", "memory://plans/p.html"
    assert plan(small, "cpu", out=out, html=page) == 0
    assert f"sharding.plan={out}" in capsys.readouterr().out
    assert read_file(page, "page").startswith(b"<!doctype html>")
    assert read_plan(out).cluster == "cpu"
    assert plan(small, "cpu", statistics=out, json=True) == 0
    assert json.loads(capsys.readouterr().out)["sources"]["rows of user"] == out
    assert compare(out, out) == 0
    with pytest.raises(InputError, match=r"cannot read plan 'memory://plans/absent.json'"):
        compare(out, "memory://plans/absent.json")
    with pytest.raises(InputError, match=r"cannot read statistics file 'memory://plans/absent.json'"):
        plan(small, "cpu", statistics="memory://plans/absent.json")


def test_credentials_of_a_plan_files_address_are_neither_shown_nor_saved(
    small: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out, again = "memory://plans/q.json?sig=abcdefgh", tmp_path / "again.json"
    plan(small, "cpu", out=out, html="memory://plans/q.html?sig=abcdefgh")
    plan(small, "cpu", statistics=out, out=str(again))
    assert "abcdefgh" not in capsys.readouterr().out + again.read_text(encoding="utf-8")


def test_numbers():
    assert numbers("--rows", ["a=1e9", "b=2"], whole=True) == {"a": 1e9, "b": 2}
    assert numbers("--lengths", ["a=b=0"]) == {"a=b": 0}


@pytest.mark.parametrize(
    "option, pairs, more, part",
    [
        ("--rows", ["a=1.5"], {"whole": True}, "--rows a=1.5: the number must be whole"),
        ("--rows", ["a=nan"], {"whole": True}, "write NAME=NUMBER"),
        ("--rows", ["a=1e400"], {"whole": True}, "write NAME=NUMBER"),
        ("--lengths", ["a=-1"], {}, "write NAME=NUMBER"),
        ("--lengths", ["=1"], {}, "write NAME=NUMBER"),
        ("--price", ["a=0"], {"above": 0}, "--price a=0: the number must be more than 0"),
        ("--price", ["a=1", "a=2"], {"above": 0}, "--price a is given twice: 1 and 2"),
    ],
)
def test_numbers_that_are_none(option: str, pairs: list[str], more: dict, part: str):
    with pytest.raises(InputError, match=re.escape(part)):
        numbers(option, pairs, **more)


@pytest.mark.parametrize(
    "name, cluster, nodes",
    [
        ("kuairand_pure", "cpu", 2),
        ("planning/criteo_like_100", "dgx-h100", 2),
        ("planning/industrial_1tb", "dgx-h200", 4),
    ],
)
def test_the_configs_that_ship_are_planned_without_data(name, cluster, nodes, capsys, monkeypatch):
    monkeypatch.setenv("KUAIRAND_PURE", "/nowhere")
    path = str(CONFIGS / f"{name}.yaml")
    assert plan(path, cluster, nodes=nodes) == 0
    assert "ms a step" in capsys.readouterr().out


def test_the_industrial_config_is_what_it_says():
    config = load(CONFIGS / "planning/industrial_1tb.yaml")
    tables = config.features.tables
    rows = {name: table.num_embeddings or 0 for name, table in tables.items()}
    size = sum(rows[name] * (table.embedding_dim or 0) * 4 for name, table in tables.items())
    assert size == pytest.approx(1e12, rel=0.05)
    assert max(rows.values()) == 1_000_000_000 and len(tables) == 300
    assert {group.max_length for group in config.features.sequences} >= {200, 1000} and len(
        config.features.sequences
    ) == 10


def test_the_command_line_plans_and_compares(tmp_path, capsys):
    plan = str(tmp_path / "plan.json")
    command = ["plan", str(CONFIGS / "kuairand_pure.yaml"), "--cluster", "cpu", "--rows", "video=5000", "--out", plan]
    assert cli.main([*command, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(Path(plan).read_text())
    assert cli.main(["plan", "diff", plan, plan, "--json"]) == 0
    assert cli.main([*command, "--cluster", "dgx-z9"]) == 2
    assert "dgx-h100" in capsys.readouterr().err


def test_the_page_is_written_beside_the_screen(small, tmp_path, capsys):
    page = tmp_path / "plan.html"
    assert plan(small, "dgx-h100", lengths=["clicks=3"], html=str(page), what_if=["nodes=1,2"]) == 0
    assert page.read_text().startswith("<!doctype html>") and "city" in page.read_text()


@pytest.mark.parametrize("model", ["{kind: dlrm}", "{kind: dien}", "{flow: sole, d: 8}", "{kind: fm}"])
def test_other_kinds_and_flows_are_planned(small: str, model: str, capsys: pytest.CaptureFixture[str]):
    assert plan(small, "cpu", set=[f"model={model}"], json=True) == 0
    assert json.loads(capsys.readouterr().out)["memory"]["dense_stage"]
