"""The scaling benchmark measures what it is asked to, or says why not."""

import sys

import pytest

from benchmarks import scaling


def test_a_config_and_lengths_of_synthetic_data_exclude_each_other(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["scaling", "configs/kuairand_pure.yaml", "--lengths", "64,256"])
    with pytest.raises(SystemExit) as left:
        scaling.main()
    assert left.value.code == 2
    assert "--lengths makes synthetic data for each length: leave CONFIG out" in capsys.readouterr().err
