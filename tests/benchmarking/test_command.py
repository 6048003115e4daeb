"""`interformer benchmark` as a user sees it: what is measured of whom, what a part is, and what is refused before work starts."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from interformer_rec import cli
from tests.benchmarking.conftest import CANDIDATES, LENGTHS, SHORT, content, sets


def test_every_point_has_numbers_that_agree_with_each_other(measured: Path):
    found = content(measured)
    cases = found["cases"]
    assert [(case["longest"], case["candidates"]) for case in cases] == [(t, c) for t in LENGTHS for c in CANDIDATES]
    assert found["what"] == "step" and found["versions"]["torch"] and found["cores"] and found["ceilings"]["1"]["fp32"]
    for case in cases:
        assert case["error"] is None and case["steps"] >= 3 and case["step_ms_p25"] <= case["step_ms"]
        assert case["requests_a_row"] == pytest.approx(1 / case["candidates"], rel=0.2)
        assert case["events_per_second"] == pytest.approx(case["events_a_row"] * case["samples_per_second"])
        rate = 1e3 * case["batch_size"] / case["step_ms"]
        assert 0.2 < case["samples_per_second"] / rate < 5  # one is a median of turns, the other of steps
        assert case["mfu"] == pytest.approx(
            case["flops_a_row"] * case["samples_per_second"] / found["ceilings"]["1"]["fp32"]
        )
        assert 0 < case["mfu"] < 1 and 0 <= case["wait_share"] < 1 and case["peak_bytes"] > 1 << 26
        predicted = case["predicted"]
        assert predicted["cluster"] == "this machine" and predicted["sent_bytes"] == 0
        assert case["predicted_over_measured"] == pytest.approx(predicted["step_ms"] / case["step_ms"])
        assert sum(case["stages_ms"].values()) > 0 and case["cpu_ms_a_sample"] > 0
    one, four = cases[-2:]  # the same histories, once a request
    assert four["events_a_row"] == pytest.approx(one["events_a_row"] / 4, rel=0.35)
    assert four["flops_a_row"] < one["flops_a_row"]
    assert cases[-1]["file_longest"] == 12 and cases[0]["file_longest"] == 3


def test_nothing_of_the_run_is_left_behind(measured: Path, config: Path):
    assert {path.name for path in measured.iterdir()} == {"benchmark.json", "benchmark.html"}
    assert not (Path("runs") / "synthetic").exists()


@pytest.mark.parametrize("what", ["data", "lookup", "model"])
def test_a_part_is_measured_alone(what: str, config: Path, tmp_path: Path):
    argv = ["benchmark", str(config), *sets(), *SHORT, "--what", what, "--lengths", "5", "--out", str(tmp_path)]
    assert cli.main(argv) == 0
    (case,) = content(tmp_path)["cases"]
    assert case["error"] is None and case["samples_per_second"] > 0 and case["events_a_row"] > 1
    assert (case["mfu"] is not None) == (what == "model") and case["predicted"]["step_ms"] is None


@pytest.mark.parametrize(
    "options, said",
    [
        (["--kinds", "interformer,bts"], "--kinds bts: no such kind of model"),
        (["--lengths", "0,8"], "whole numbers from 1 to"),
        (["--lengths", "8", "--set", "features.candidate=[]", "--candidates", "4"], "under features.candidate"),
        (["--set", "data.train=nowhere/"], "nowhere/"),
        (["--set", "data.train=null"], "--distribution zipf"),
        (["--set", "features.sequences=[]", "--set", "model.kind=fm"], "features.sequences is empty"),
        (["--cluster", "dgx-z100"], "dgx-z100"),
        (["--rounds", "0"], "--rounds 0: at least 1"),
        (["--fill", "0.7", "--distribution", "zipf"], "--fill 0.7"),
        (["--events", "0"], "--events 0"),
        (["--kinds", "bst", "--set", "features.candidate=[item_id]", "--set", "sharding.tables={nobody: row_wise}"], "nobody"),
        (["--lengths", ",".join(map(str, range(1, 502)))], "501 points to measure; 500 at most"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_before_work_starts(
    options: list[str], said: str, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    tree = yaml.safe_load(config.read_text())
    argv = ["benchmark", str(config), *options, "--out", str(tmp_path / "out")]
    if any("model.kind=fm" in option for option in options):
        tree["model"] = {"kind": "fm"}
        argv = [part for part in argv if part not in ("model.kind=fm",)]
        argv.pop(argv.index("--out") - 1)  # its --set
        (tmp_path / "fm.yaml").write_text(yaml.safe_dump(tree))
        argv[1] = str(tmp_path / "fm.yaml")
    try:
        code = cli.main(argv)
    except SystemExit as left:  # argparse's own
        code = left.code  # type: ignore[assignment]
    assert code == 2 and said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
