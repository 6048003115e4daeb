"""A trained run, shared with the tests of training, and what was exported of it."""

from __future__ import annotations

import pytest

from interformer_rec.serving.export import export
from tests.training.conftest import began, synthetic  # noqa: F401 - fixtures


@pytest.fixture(scope="session")
def exported(began, tmp_path_factory):  # noqa: F811
    """(run folder, artefact's folder, what export said), with the modules as they are for graphs. Not to be changed."""
    out = tmp_path_factory.mktemp("exported") / "served"
    return began[1], out, export(str(began[1]), str(out), runtime="eager")
