"""Ids that come and go reach the server: a delta has them, and a new id scores by its own row."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.serving.whole_tables import stored_tables
from interformer_rec.errors import DamagedError
from interformer_rec.serving.arguments import ExportOptions
from interformer_rec.serving.encode.encoder import Encoder
from interformer_rec.serving.engine.opening import state
from interformer_rec.serving.export import export
from interformer_rec.serving.published import pointer
from interformer_rec.serving.published.manifest import declare
from interformer_rec.serving.published.state import State
from interformer_rec.training import run
from tests.training.windows.drifting import file_of, items_of, settings, write_windows


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """The windows' place, and the checkpoint after each of the first three."""
    place = write_windows(tmp_path_factory.mktemp("windows"), 0, 1, 2)
    out = tmp_path_factory.mktemp("drifted") / "run"
    assert run.train(settings(place, out, "training.checkpoint.keep=3")) == 0
    return place, sorted((out / "checkpoints").glob("step-*"))


@pytest.fixture(scope="module")
def followed(windows: tuple[Path, list[Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version of the first window with a delta for each of the others. To be copied."""
    out = tmp_path_factory.mktemp("followed") / "served"
    for window, checkpoint in enumerate(windows[1]):
        options = ExportOptions(runtime="eager" if not window else None, delta=True)
        export(str(checkpoint), str(out), options, str(file_of(windows[0], 1)))
    return out


def test_vocabularies_after_deltas_are_those_of_the_full_export(windows, followed, tmp_path):
    after = State.open(str(followed))
    assert len(after.deltas) == 2 and all("item" in delta.said.vocabularies for delta in after.deltas)
    export(str(windows[1][2]), str(tmp_path / "full"), ExportOptions(runtime="eager"), data=str(file_of(windows[0], 1)))
    full = State.open(str(tmp_path / "full"))
    for name in ("item", "maker"):
        assert after.fitted.vocabularies[name].equals(full.fitted.vocabularies[name])
    for name, parts in stored_tables(full).items():
        assert all(part.tobytes() == stored_tables(after)[name][key].tobytes() for key, part in parts.items())


def test_an_id_unknown_yesterday_scores_by_its_own_row(windows, followed):
    now = pointer.current(str(followed))
    before, after = state(str(followed), now.base), state(str(followed), now)
    new = sorted(set(items_of(2).tolist()) - set(items_of(0).tolist()) - set(items_of(1).tolist()))[:2]
    rows = pq.read_table(file_of(windows[0], 2)).slice(0, 1).to_pylist()[0]
    rows = [{key: value for key, value in rows.items() if key != "click"} | {"item": id_} for id_ in (*new, 5)]

    def scores(served) -> np.ndarray:
        return served.scorer(served.encoder.score(rows))[:, 0]

    yesterday, today = scores(before), scores(after)
    # equal but for a row's place among the rows, which may change the last bit of a product
    assert yesterday == pytest.approx([yesterday[0]] * 3, abs=1e-6), "all of them read the unknown row"
    assert min(abs(today[one] - today[other]) for one, other in ((0, 1), (0, 2), (1, 2))) > 1e-6
    encoder = Encoder(after.opened.config.features, after.fitted, after.signature)
    mine = encoder.score(rows).candidates.ids
    assert len({*mine[:, 0].tolist()} | {*mine.reshape(-1).tolist()}) >= 3
    assert state(str(followed), now.base, after) is after.base, "a return needs no loading"


def test_rows_that_a_growing_table_does_not_have_are_refused(followed, tmp_path):
    place = Path(shutil.copytree(followed, tmp_path / "served"))
    newest = State.open(str(place)).deltas[-1]
    folder = place / "deltas" / newest.said.id
    file = folder / newest.said.vocabularies["item"]
    table = pq.read_table(file)
    pq.write_table(table.set_column(0, "row", [[10_000 + row for row in range(len(table))]]), file)
    sha256 = declare(folder)
    text = (place / "current.json").read_text(encoding="utf-8")
    old = pointer.current(str(place)).delta
    assert old is not None
    (place / "current.json").write_text(text.replace(old.sha256, sha256), encoding="utf-8")
    with pytest.raises(DamagedError, match="does not hold rows of a growing table"):
        state(str(place), pointer.current(str(place)))
