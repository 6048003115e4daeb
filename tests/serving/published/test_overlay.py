"""Overlays read as a table that was written with the changed rows, and no overlay changes once it is made."""

from __future__ import annotations

import numpy as np
import torch

from interformer_rec.checkpoint import tensor_file
from interformer_rec.serving.published.overlay import Overlay
from interformer_rec.serving.tables import TableFile
from interformer_rec.serving.write import parts_of
from interformer_rec.storage import Storage

ROWS, WIDTH = 300, 8


def table(folder, weight: torch.Tensor) -> TableFile:
    tensor_file.write(Storage.open(folder), "t.safetensors", parts_of(weight, "fp32"))
    return TableFile(folder / "t.safetensors", "fp32", *weight.shape)


def test_any_succession_of_changes_reads_as_the_changed_table(tmp_path):
    generator = np.random.default_rng(0)
    truth = torch.randn(ROWS, WIDTH)
    overlay = Overlay(table(tmp_path, truth))
    every, states = np.arange(ROWS), [(overlay, truth.numpy().copy())]
    for _ in range(60):
        overlay, weight = states[generator.integers(max(0, len(states) - 3), len(states))]  # a return now and then
        rows = np.sort(generator.choice(ROWS, generator.integers(1, ROWS // 3), replace=False))
        values = generator.standard_normal((len(rows), WIDTH)).astype(np.float32)
        weight = weight.copy()
        weight[rows] = values
        states.append((overlay.with_rows(rows, values), weight))
    for overlay, weight in states:
        np.testing.assert_array_equal(overlay.take(every), weight)
        np.testing.assert_array_equal(overlay.take(every.reshape(3, 100)), weight.reshape(3, 100, WIDTH))
    assert states[-1][0].changed <= ROWS


def test_memory_is_that_of_the_changed_rows_however_many_changes_there_were(tmp_path):
    overlay = Overlay(table(tmp_path, torch.randn(ROWS, WIDTH)))
    rows = np.arange(0, 60, 2)
    for number in range(200):
        overlay = overlay.with_rows(rows, np.full((len(rows), WIDTH), number, np.float32))
    assert overlay.changed == len(rows)
    assert len(overlay._memory.values) <= 4 * len(rows)
    np.testing.assert_array_equal(overlay.take(rows), np.full((len(rows), WIDTH), 199, np.float32))
