"""Two results beside each other: what counts as changed, and what cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from interformer_rec import cli
from interformer_rec.benchmarking.difference import difference
from interformer_rec.benchmarking.doublings import doublings
from interformer_rec.errors import InputError
from tests.benchmarking.results import case, result


def test_points_are_faster_slower_or_the_same_beyond_noise_and_spread():
    before = result(cases=[case("interformer", longest) for longest in (64, 128, 256, 512)])
    after = result(cases=[case("interformer", longest) for longest in (64, 128, 256, 1024)], device="another CPU")
    for number, factor in enumerate((1.2, 0.97, 0.8)):
        after["cases"][number]["samples_per_second"] *= factor
    after["cases"][0]["peak_bytes"] *= 2
    found = difference(before, after, 0.05)
    assert [point["verdict"] for point in found["points"]] == ["faster", "same", "slower"]
    assert [point["larger"] for point in found["points"]] == [True, False, False]
    assert found["points"][0]["times_as_fast"] == pytest.approx(1.2)
    assert found["differs"] == {"device": ["a CPU", "another CPU"]}
    assert [point["longest"] for point in found["only_before"] + found["only_after"]] == [512, 1024]
    wide = result(
        cases=[case("interformer", 256, step_ms_p25=100.0, step_ms_p75=500.0)]
    )  # its own spread is half of it
    assert difference(before, wide, 0.05)["points"][0]["threshold"] == pytest.approx(1.5)


def test_results_of_different_things_are_refused():
    with pytest.raises(InputError, match="one result has what 'step', the other 'data'"):
        difference(result(), result(what="data"), 0.05)


def test_the_command_reads_folders_and_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for name, factor in (("a", 1.0), ("b", 0.5)):
        found = result()
        for one in found["cases"][:6]:
            one["samples_per_second"] *= factor
        (tmp_path / name).mkdir()
        (tmp_path / name / "benchmark.json").write_text(json.dumps(found))
    paths = [str(tmp_path / "a"), str(tmp_path / "b" / "benchmark.json")]
    assert cli.main(["benchmark", "diff", *paths, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [point["verdict"] for point in found["points"]] == 6 * ["slower"] + ["not measured in both"]
    assert cli.main(["benchmark", "diff", *paths]) == 0
    assert "0.50" in (shown := capsys.readouterr().out) and "slower" in shown
    (tmp_path / "a" / "benchmark.json").write_text('{"format": 1}')
    assert cli.main(["benchmark", "diff", *paths]) == 2
    assert "is no result of `interformer benchmark`" in capsys.readouterr().err
    assert cli.main(["benchmark", "diff", str(tmp_path / "c"), paths[1]]) == 2
    assert "cannot read" in capsys.readouterr().err


def test_what_a_doubling_costs_is_told_of_lengths_further_apart_too():
    found = doublings(result()["cases"])
    assert [(one["kind"], one["from"], one["to"]) for one in found] == [
        (kind, *pair) for kind in ("interformer", "din") for pair in ((64, 128), (128, 512))
    ]
    assert [one["times"] for one in found[:2]] == [2.0, 4.0] and found[1]["a_doubling"] == pytest.approx(2.0)
    assert found[1]["times_cpu"] == pytest.approx(4.0) and found[1]["a_doubling_cpu"] == pytest.approx(2.0)
    assert found[0]["more_bytes"] == 64 * 2**20
