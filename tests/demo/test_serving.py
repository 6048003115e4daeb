"""The demo's last step: a run is exported once, and a request of its own data has the scores of the export."""

import json
from pathlib import Path

import numpy as np
import pytest

from interformer_rec.demo import demo, serving
from tests.serving.conftest import exported  # noqa: F401 - a fixture
from tests.training.conftest import began, synthetic  # noqa: F401 - fixtures


@pytest.mark.slow
def test_the_demo_ends_with_an_answer(exported, tmp_path, monkeypatch):  # noqa: F811
    """An exported model that is there is kept, and answers with its golden scores."""
    served: Path = exported[1]
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / serving.FOLDER).symlink_to(served)
    monkeypatch.setattr(serving, "export", lambda *args, **kwargs: pytest.fail("exported again"))
    out = serving.exported(run_dir)
    request, scores = serving.answered(out)
    golden = [json.loads(line) for line in next(served.glob("versions/*/golden.jsonl")).read_text("utf-8").splitlines()]
    for task, values in scores.items():
        assert len(values) == len(request["candidates"])
        assert values[0] == pytest.approx(golden[0]["scores"][task], abs=1e-5)
        assert np.all((np.array(values) > 0) & (np.array(values) < 1))
    said: list[str] = []
    demo._answer(run_dir, type("Said", (), {"print": lambda self, text, **_: said.append(text)})())
    assert "candidates score" in said[0] and "interformer serve" in said[-1]
