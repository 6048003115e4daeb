"""Our side of the comparison with FuxiCTR: what it trains. Their side needs their source."""

from __future__ import annotations

import math
import sys

import pytest

from benchmarks import fuxictr
from benchmarks.requests import training, write_data
from interformer_rec.distributed.environment import process_group


def test_every_kind_of_ours_trains_on_the_rows(tmp_path):
    write_data(tmp_path, 1, 8, 64)
    with process_group("cpu") as env:
        for kind in fuxictr.OURS:
            config = fuxictr.our_config(tmp_path / "impressions.parquet", kind, 8, 32)
            assert config.model.kind == kind
            stream = training(config, env)
            assert all(math.isfinite(next(stream)) for _ in range(3)), kind
    assert fuxictr.OURS.keys() == fuxictr.THEIRS.keys()


def test_a_folder_that_is_no_checkout_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fuxictr", "--source", str(tmp_path)])
    with pytest.raises(SystemExit):
        fuxictr.main()
    assert "it is no checkout of FuxiCTR" in capsys.readouterr().err
    (tmp_path / "model_zoo").mkdir()
    monkeypatch.setattr(sys, "argv", ["fuxictr", "--source", str(tmp_path), "--models", "din,bts"])
    with pytest.raises(SystemExit):
        fuxictr.main()
    assert "--models: 'bts' is none of din, dcnv2, bst" in capsys.readouterr().err
