"""Every config that ships loads, and says what it is said to say."""

from pathlib import Path

import pytest

from interformer_rec.config.difference import differences
from interformer_rec.config.run import load, to_yaml
from interformer_rec.data.recipes import synthetic

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.fixture(autouse=True)
def _folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUAIRAND_PURE", "/somewhere/kuairand")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_config_loads_and_replays(path: Path, tmp_path: Path) -> None:
    config = load(path)
    saved = tmp_path / "config.yaml"
    saved.write_text(to_yaml(config))
    assert load(saved) == config


def test_kuairand_reads_the_folder_of_the_environment_and_no_feedback() -> None:
    config = load(CONFIGS / "kuairand_pure.yaml")
    assert config.data.train == "/somewhere/kuairand/train.parquet"
    assert {group.name: group.max_length for group in config.features.sequences} == {
        "watch": 100,
        "long_watch": 100,
        "like": 100,
    }
    assert not {"is_like", "long_view", "time_ms"} & set(config.features.columns())
    shared = {lookup.key for lookup in config.features.jagged_lookups if "." not in lookup.key}
    assert shared == {"video_id", "author_id", "tags"}  # candidate and histories: one table each


def test_kuairand_is_read_as_requests_as_it_is_as_impressions() -> None:
    """But for where the files are, and what saves work."""
    impressions, requests = load(CONFIGS / "kuairand_pure.yaml"), load(CONFIGS / "kuairand_pure_requests.yaml")
    found = {one.key for one in differences(impressions, requests)}
    assert found == {"name", "data.train", "data.valid", "features.request", "model.split"}


def test_ml_100k_does_not_read_its_rating_or_time() -> None:
    columns = set(load(CONFIGS / "ml_100k.yaml").features.columns())
    assert not {"rating", "timestamp"} & columns
    assert {"item_id", "hist_item_id", "hist_rating"} <= columns


def test_synthetic_config_is_the_one_its_recipe_writes() -> None:
    written = synthetic.config_yaml(synthetic.Shape.of(synthetic.DEFAULTS), "data/synthetic")
    assert (CONFIGS / "synthetic.yaml").read_text() == written
