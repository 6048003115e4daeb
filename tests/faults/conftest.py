"""The data set of the fault tests, and the end of a run that nothing happened to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.job import Job, prepare_data

EPOCHS = "training.epochs=10"


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config of 1,501 training rows."""
    return prepare_data(tmp_path_factory.mktemp("faults") / "synthetic")


@pytest.fixture(scope="session")
def undisturbed(config: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The weights at the end of a run on two ranks that was left alone."""
    with Job(tmp_path_factory.mktemp("undisturbed"), config, EPOCHS) as job:
        assert job.finish(job.start()) == 0, job.logs()
        return job.weights()
