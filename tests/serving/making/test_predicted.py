"""Scores by tables of few rows are those of the whole tables, with which `interformer predict` scores."""

from __future__ import annotations

import numpy as np

from interformer_rec.checkpoint.manifest import Manifest
from interformer_rec.checkpoint.stored import StoredTables
from interformer_rec.distributed.environment import process_group
from interformer_rec.serving.making.compare import first_rows
from interformer_rec.serving.making.predicted import predicted, renumbered, rows_of
from interformer_rec.training.folder.run_folder import attached_config, locate
from interformer_rec.training.scoring.trained import fitted_of, restore


def test_few_rows_score_as_whole_tables(began):
    located = locate(str(began[1]))
    config = attached_config(located.checkpoint, like=None)
    with process_group("cpu") as env:
        loader, pipeline = restore(config, env, located, began[0]["data"]["valid"])
        batches = [batch for batch, _ in first_rows(loader)]
        expected = [step.logits.numpy() for step in pipeline.run(iter((one, None) for one in batches), train=False)]
        manifest = Manifest.read(located.checkpoint)
        stored, fitted = StoredTables(manifest), fitted_of(located.checkpoint)
        found, model = predicted(config, env, manifest, stored, fitted, batches)
    np.testing.assert_allclose(np.concatenate(found), np.concatenate(expected), rtol=0, atol=1e-6)
    assert not model.training


def test_rows_are_renumbered_behind_the_special_ones(began):
    located = locate(str(began[1]))
    config, fitted = attached_config(located.checkpoint), fitted_of(located.checkpoint)
    with process_group("cpu") as env:
        loader, _ = restore(config, env, located, began[0]["data"]["valid"])
    batch = first_rows(loader)[0][0]
    rows = rows_of([batch], config.features)
    few = renumbered(batch, config.features, rows)
    assert any(len(rows[name]) < fitted.table_rows[name] for name in rows)
    for one in (*config.features.pooled_lookups, *config.features.jagged_lookups):
        part = "sparse" if one in config.features.pooled_lookups else "sequences"
        before, after = (getattr(whole, part).to_dict()[one.key].values().numpy() for whole in (batch, few))
        special = config.features.tables[one.table].special_rows
        assert (rows[one.table][:special] == np.arange(special)).all()
        np.testing.assert_array_equal(rows[one.table][after], before)
