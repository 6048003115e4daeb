"""Train, evaluate, predict, as a user does: real files, real processes, real signals."""

import json
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from interformer_rec import cli
from interformer_rec.checkpoint.retention import Checkpoints
from interformer_rec.config import run as config
from interformer_rec.errors import InputError
from interformer_rec.planning.plan_file import read_plan
from interformer_rec.training import run
from interformer_rec.training.non_finite_loss import NonFiniteLoss
from interformer_rec.training.scoring import trained
from tests import torchrun
from tests.forked import command
from tests.planning.cases import CPU, cluster
from tests.training.runs import records, save_config


def test_train_evaluate_predict_agree(small, tmp_path, synthetic):
    assert run.train(small()) == 0
    folder = tmp_path / "run"
    for name in (
        "config.yaml",
        "metrics.jsonl",
        "evaluation.json",
        "data.json",
        "plan.json",
        "report.html",
        "features",
    ):
        assert (folder / name).exists(), name
    assert len(records(folder, "valid")) == 2
    assert records(folder, "train")[-1]["step"] == 2 * 12  # ceil(1501 / 128) = 12 an epoch
    assert sum(r["rows"] for r in records(folder, "train")) == 2 * 1501
    best = Checkpoints(folder / "checkpoints").best()
    # the two newest stay, and the best, whichever of them that is
    assert {p.name for p in (folder / "checkpoints").glob("step-*")} == {"step-00000012", "step-00000024"} >= {best}

    test = json.loads((folder / "evaluation.json").read_text())["test"]
    again = trained.evaluate(str(folder))
    assert again["label/auc"] == test["label/auc"] and again["rows"] == 150

    done = trained.predict(str(folder), str(synthetic / "test.parquet"), str(tmp_path / "scores.parquet"))
    table = pq.read_table(tmp_path / "scores.parquet")
    source = pq.read_table(synthetic / "test.parquet")
    assert done["rows"] == table.num_rows == 150
    assert table.select(source.column_names).equals(source)
    auc = roc_auc_score(table["label"].to_numpy(), table["score_label"].to_numpy())
    # two logits may share one float32 score: such a pair counts half, whichever way the logits had it
    positive, negative = (table.filter(pc.equal(table["label"], k))["score_label"].to_numpy() for k in (1, 0))
    tied = (positive[:, None] == negative).mean()
    assert auc == pytest.approx(test["label/auc"], abs=1e-6 + tied / 2)


def test_the_saved_config_replays_the_run(small, tmp_path):
    overrides = ("training.epochs=1", "training.max_steps=5", "data.test=null")
    assert run.train(small(*overrides)) == 0
    replay = config.load(tmp_path / "run" / "config.yaml", [f"training.out={tmp_path}/again"])
    assert run.train(replay) == 0
    first, second = (records(tmp_path / name, "valid")[-1] for name in ("run", "again"))
    assert first["label/logloss"] == second["label/logloss"] and first["step"] == 5


def test_a_run_takes_the_plan_of_another_run_and_of_the_command(small, tmp_path, capsys):
    overrides = ("training.epochs=1", "training.max_steps=5", "data.test=null")
    assert run.train(small(*overrides)) == 0
    own, planned = f"{tmp_path}/run/plan.json", f"{tmp_path}/planned.json"
    hardware = cluster(CPU, devices_per_node=1).model_dump_json(exclude_none=True)
    (tmp_path / "one.yaml").write_text(hardware, encoding="utf-8")
    options = [tmp_path / "run" / "config.yaml", "--cluster", tmp_path / "one.yaml", "--out", planned]
    assert cli.main(["plan", *map(str, options)]) == 0
    capsys.readouterr()
    assert cli.main(["plan", "diff", own, planned, "--json"]) == 0
    differs = json.loads(capsys.readouterr().out)
    (of_the_run, planned_bytes) = differs.pop("memory").pop("fullest rank")
    assert of_the_run == "-" and planned_bytes > 0  # a run's own plan has no estimates
    assert (differs.pop("model"), differs.pop("unrelated")) == ({}, False)
    assert differs == {"job": {"cluster": ["the run's machines", "processes"]}, "tables": {}, "step": {}}
    for name, plan in (("again", own), ("third", planned)):
        assert run.train(small(*overrides, f"sharding.plan={plan}", f"training.out={tmp_path}/{name}")) == 0
        plans = [json.loads(Path(file).read_text(encoding="utf-8")) for file in (own, tmp_path / name / "plan.json")]
        assert plans[0] == plans[1]
    losses = {records(tmp_path / name, "valid")[-1]["label/logloss"] for name in ("run", "again", "third")}
    assert len(losses) == 1


def test_both_planners_train_to_the_same_numbers(small, tmp_path):
    overrides = ("training.epochs=1", "training.max_steps=5", "data.test=null")
    for planner in ("interformer", "torchrec"):
        assert run.train(small(*overrides, f"sharding.planner={planner}", f"training.out={tmp_path}/{planner}")) == 0
    first, second = (records(tmp_path / name, "valid")[-1] for name in ("interformer", "torchrec"))
    assert first["label/logloss"] == second["label/logloss"]


def test_two_ranks_see_every_row_and_write_one_run(small, tmp_path, synthetic):
    path = save_config(small, tmp_path)
    code, printed = torchrun.finished(tmp_path, "-m", "interformer_rec.cli", "train", path)
    assert code == 0, printed
    folder = tmp_path / "run"
    assert sum(r["rows"] for r in records(folder, "train")) == 2 * 1501
    assert [r["rows"] for r in records(folder, "valid")] == [150, 150]
    plan = read_plan(str(folder / "plan.json"))
    assert (plan.fingerprint.ranks, plan.fingerprint.ranks_per_node, plan.nodes) == (2, 2, 1)
    assert {shard[0] for table in plan.tables.values() for shard in table.shards} == {0, 1}
    assert (folder / "report.html").read_text().count("<polyline") >= 7, (
        "plots are drawn: loss, AUC, GAUC, NE, and three more"
    )
    scores = tmp_path / "scores"
    ended = command(2, "predict", folder, "--data", synthetic / "test.parquet", "--out", scores)
    assert [rank.code for rank in ended] == [0, 0], ended
    test = json.loads((folder / "evaluation.json").read_text())["test"]
    table = pq.read_table(scores)  # parts in rank order are the input's order
    source = pq.read_table(synthetic / "test.parquet")
    assert table.select(source.column_names).equals(source)
    assert roc_auc_score(table["label"], table["score_label"]) == pytest.approx(test["label/auc"], abs=1e-6)
    assert trained.evaluate(str(folder))["label/auc"] == pytest.approx(test["label/auc"], abs=1e-6)  # two ranks -> one


def test_a_run_is_not_written_over(small, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("name: precious")
    with pytest.raises(InputError, match=r"already holds a run.*--resume"):
        run.train(small())
    assert (tmp_path / "run" / "config.yaml").read_text() == "name: precious"


def test_a_start_that_failed_can_be_repeated(small):
    with pytest.raises(InputError, match="/nowhere"):
        run.train(small("data.valid=/nowhere", "training.max_steps=1"))
    assert run.train(small("training.max_steps=1", "data.test=null")) == 0


def test_patience_ends_training(small, tmp_path):
    frozen = ("optimizer.dense.lr=1e-30", "optimizer.embedding.lr=1e-30")
    assert run.train(small(*frozen, "training.epochs=9", "training.patience=1", "training.monitor=logloss")) == 0
    losses = [r["label/logloss"] for r in records(tmp_path / "run", "valid")]
    assert 2 <= len(losses) <= 4


def test_evaluation_between_epochs_and_max_steps(small, tmp_path):
    assert run.train(small("training.eval_every_steps=5", "training.max_steps=17", "data.test=null")) == 0
    assert [r["step"] for r in records(tmp_path / "run", "valid")] == [5, 10, 12, 15, 17]
    assert sum(r["rows"] for r in records(tmp_path / "run", "train")) == 1501 + 5 * 128


@pytest.mark.slow
def test_bf16_trains(small, tmp_path):
    """Its first loss is that of fp32 but for rounding; then it learns the rows, of which it has seen each five times."""
    fast = ("optimizer.dense.lr=0.01", "optimizer.embedding.lr=0.1", "training.log_every_steps=1")
    options = (*fast, "training.epochs=5", "data.valid=null", "data.test=null")
    assert run.train(small(*options, "training.precision=bf16")) == 0
    assert run.train(small(*options, "training.max_steps=1", f"training.out={tmp_path}/fp32")) == 0
    losses = [record["loss"] for record in records(tmp_path / "run", "train")]
    first = records(tmp_path / "fp32", "train")[0]["loss"]
    assert 0 < abs(losses[0] - first) < 2e-3
    assert sum(losses[-8:]) / 8 < 0.6 * losses[0]


def test_a_loss_that_is_not_finite_stops_and_names_the_batch(small, tmp_path):
    with pytest.raises(NonFiniteLoss, match=r"at step .* on rank 0; its batch of 128 rows is saved in") as caught:
        run.train(small("optimizer.dense.lr=1e30"))
    assert Path(str(caught.value).split("'")[1]).exists()


def test_errors_are_one_paragraph_and_exit_code_2(small, tmp_path, capsys):
    path = save_config(small, tmp_path, "data.train=/nowhere/at/all")
    assert cli.main(["train", str(path)]) == 2
    said = capsys.readouterr().err
    assert "/nowhere/at/all" in said and "Traceback" not in said and said.count("\n") == 1
