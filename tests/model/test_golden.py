"""Logits of every preset, flow, merge, form, interaction and kind stay what they were: checkpoints keep their meaning."""

import json

import pytest
import torch

from tests.model.golden_cases import FILE, cases, logits

STORED = json.loads(FILE.read_text(encoding="utf-8"))


def test_every_case_is_stored():
    assert list(STORED) == list(cases())


@pytest.mark.parametrize("name", cases())
def test_logits_are_the_stored_ones(name):
    found = torch.tensor(logits(cases()[name]), dtype=torch.float64)
    # the last bits differ between processors' instruction sets
    torch.testing.assert_close(found, torch.tensor(STORED[name], dtype=torch.float64), rtol=1e-9, atol=1e-9)
