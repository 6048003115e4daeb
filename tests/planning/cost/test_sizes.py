from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.config.run import RunConfig, load
from interformer_rec.data.files.source import open_source
from interformer_rec.data.fit import fit
from interformer_rec.data.recipes import synthetic
from interformer_rec.errors import InputError
from interformer_rec.planning.answer import place
from interformer_rec.planning.cost.lengths import Lengths
from interformer_rec.planning.cost.sizes import REPEATS, find_sizes, sizes_of_job
from tests.planning.cases import CONFIG, problem


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic")
    shape = synthetic.Shape.of(
        synthetic.DEFAULTS | {"rows": 2000, "files": 2, "fields": 2, "vocab": 100, "max_length": "20,7"}
    )
    synthetic.write(folder, shape)
    return folder


@pytest.fixture
def small(tmp_path: Path) -> RunConfig:
    (tmp_path / "small.yaml").write_text(CONFIG)
    return load(tmp_path / "small.yaml")


def test_sizes_of_real_files_are_what_is_in_them(data: Path):
    config = load(data / "config.yaml", [f"training.out={data / 'run'}"])
    sizes = find_sizes(config)
    assert sizes.rows == fit(config.features, config.data.train).table_rows
    lists = pq.read_table(data / "train", columns=["hist1_item_id"])["hist1_item_id"]
    counts = np.array([len(row.as_py()) for row in lists])
    assert sizes.of_lookup("hist1.category").mean == pytest.approx(counts.mean())
    assert sizes.lengths["hist1"].p99 == pytest.approx(np.percentile(counts, 99))
    assert sizes.lengths["hist1"].empty == pytest.approx((counts == 0).mean())
    assert sizes.of_lookup("user_id").mean == 1
    assert "fitted on" in sizes.sources["rows of item_id"]


def test_sizes_of_windows_are_what_is_in_them(data: Path):
    out, windows = f"training.out={data / 'run'}", f"data.windows.path={data / 'train'}"
    beside = ["data.train=null", "data.valid=null", "training.patience=null"]
    sizes = find_sizes(load(data / "config.yaml", [out, windows, "data.windows.by=file", *beside]))
    plain = find_sizes(load(data / "config.yaml", [out]))
    assert (sizes.rows, sizes.lengths) == (plain.rows, plain.lengths)


def test_lengths_are_cut_like_the_histories(data: Path):
    config = load(data / "config.yaml", ["features.sequences.0.max_length=5", f"training.out={data / 'run'}"])
    assert find_sizes(config).lengths["hist0"].max == 5


def test_a_job_takes_fitted_rows_and_counts_lengths_in_the_first_row_groups(data: Path, tmp_path: Path):
    config = load(data / "config.yaml", [f"training.out={data / 'run'}"])
    source = open_source(config.data.train, None)
    rows = fit(config.features, source).table_rows
    sizes, assumed = sizes_of_job(config.features, rows, source), sizes_of_job(config.features, rows, None)
    assert sizes.rows == assumed.rows == rows
    assert sizes.lengths == find_sizes(config).lengths  # fewer rows than are counted at most
    assert sizes.lengths["hist0"].mean < assumed.lengths["hist0"].mean == 20
    for file in (data / "train").iterdir():
        content = file.read_bytes()
        (tmp_path / file.name).write_bytes(content[:4] + bytes(len(content) // 2) + content[4 + len(content) // 2 :])
    damaged = open_source(str(tmp_path), None)  # whoever trains on these rows says so
    assert sizes_of_job(config.features, rows, damaged).lengths == assumed.lengths


def test_columns_that_are_no_lists_are_not_counted(tmp_path: Path):
    columns = ("user", "city", "item_id", "words", "age", "item", "tag", "liked", "label")
    pq.write_table(pa.table({name: ["1", "2"] for name in columns}), tmp_path / "text.parquet")
    (tmp_path / "small.yaml").write_text(CONFIG.replace("{ids: hash, num_embeddings: 30}", "{ids: vocab}"))
    config = load(tmp_path / "small.yaml", [f"data.train={tmp_path}/text.parquet"])
    with pytest.raises(InputError, match=r"rows of 1 table.* not known: tag\. data\.train cannot be used: .*'age'"):
        find_sizes(config)


def test_the_user_comes_first_then_a_file_then_the_schema(small: RunConfig, tmp_path: Path):
    known = {"mean": 3, "p50": 2, "p95": 9, "p99": 10, "max": 12, "empty": 0.1}
    path = tmp_path / "data.json"
    path.write_text(json.dumps({"tables": {"user": {"rows": 77}, "tag": {"rows": 5}}, "sequences": {"clicks": known}}))
    sizes = find_sizes(small, None, str(path), rows={"user": 1000}, lengths={"likes": 2})
    assert sizes.rows == {"item": 401, "tag": 5, "user": 1000, "city": 51, "words": 201}
    assert sizes.of_lookup("clicks.tag") == Lengths(**known)
    assert sizes.lengths["likes"].mean == 2
    assert sizes.lengths["words"].mean == 10
    assert sizes.sources["rows of user"] == "given with --rows"
    assert sizes.sources["lengths of words"].startswith("assumed")


def test_a_run_folder_and_a_file_beside_the_config_are_found(small: RunConfig, tmp_path: Path):
    (tmp_path / "statistics").mkdir()
    (tmp_path / "statistics/small.json").write_text(json.dumps({"tables": {"tag": {"rows": 6}, "user": {"rows": 66}}}))
    run = tmp_path / "run"
    run.mkdir()
    (run / "data.json").write_text(json.dumps({"tables": {"tag": {"rows": 5}}, "sequences": {}}))
    config = load(tmp_path / "small.yaml", [f"training.out={run}"])
    assert find_sizes(config, str(tmp_path / "small.yaml")).rows["tag"] == 5
    assert find_sizes(config, str(tmp_path / "small.yaml")).rows["user"] == 66


def test_what_is_written_can_be_read(small: RunConfig, tmp_path: Path):
    sizes = find_sizes(small, rows={"user": 5}, lengths={"clicks": 4})
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({"statistics": sizes.to_dict()}))
    again = find_sizes(small, None, str(path))
    assert (again.rows, again.lengths) == (sizes.rows, sizes.lengths)


@pytest.mark.parametrize(
    "options, part",
    [
        ({"rows": {"usr": 5}}, "--rows names 'usr'"),
        ({"rows": {"user": 0}}, "at least 1"),
        ({"lengths": {"clicks": 13}}, "longer than its max_length, 12"),
        ({"lengths": {"user": 1}}, "--lengths names 'user'"),
        ({"statistics": "nowhere.json"}, "cannot read statistics file"),
    ],
)
def test_bad_sizes(small: RunConfig, options: dict, part: str):
    with pytest.raises(InputError, match=part):
        find_sizes(small, **options)


def test_tables_that_nobody_knows_are_named(tmp_path: Path):
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG.replace("item: {ids: hash, num_embeddings: 400}", "item: {}"))
    with pytest.raises(
        InputError, match=r"rows of 1 table\(s\) are not known: item.*data.train is not set.*--rows item="
    ):
        find_sizes(load(path))
    with pytest.raises(InputError, match=r"data.train cannot be used: .*not-there"):
        find_sizes(load(path, ["data.train=not-there/x.parquet"]))


@pytest.mark.parametrize(
    "lengths", [Lengths(3, 2, 9, 10, 12, 0.1), Lengths(1.1, 0, 6, 20, 20, 0.7), Lengths.constant(7)]
)
def test_typical_widths_have_the_mean_and_the_range(lengths: Lengths):
    widths = lengths.widths(1000)
    assert widths.mean() == pytest.approx(lengths.mean, rel=0.02)
    assert (np.diff(widths) >= 0).all()
    assert widths[0] >= 0 and widths[-1] <= lengths.max
    assert (widths == 0).mean() == pytest.approx(lengths.empty, abs=0.01)


def test_99_of_100_batches_stay_below_the_total():
    random = np.random.default_rng(0)
    drawn = np.minimum(random.geometric(0.2, (2000, 64)) - 1, 30)
    lengths = Lengths.of(drawn.ravel())
    above = (drawn.sum(1) > lengths.batch_total(64)).mean()
    assert above <= 0.01
    assert Lengths.constant(5).batch_total(64) == 320


@pytest.mark.parametrize(
    "content, part",
    [
        ('{"tables": {"user": {"rows": 0}}}', "a whole number from 1"),
        ('{"tables": {"user": {"rows": 1.5}}}', "a whole number from 1"),
        ('{"tables": {"user": {"rows": true}}}', "a whole number from 1"),
        ('{"tables": {"user": {"rows": NaN}}}', "NaN is no JSON number"),
        ('{"tables": {"user": {"rows": 9223372036854775808}}}', "has 9223372036854775808 rows"),
        ('{"tables": []}', "cannot be used"),
        ("[" * 100_000, "nested too deeply"),
        (
            '{"sequences": {"clicks": {"mean": 9, "p50": 1, "p95": 1, "p99": 1, "max": 2, "empty": 0}}}',
            "mean 9 is above max 2",
        ),
        (
            '{"sequences": {"clicks": {"mean": -1, "p50": 1, "p95": 1, "p99": 1, "max": 2, "empty": 0}}}',
            "mean -1: a number from 0",
        ),
        ('{"sequences": {"clicks": {"mean": 1}}}', "p50"),
    ],
)
def test_statistics_files_of_odd_values(small: RunConfig, tmp_path: Path, content: str, part: str):
    (tmp_path / "s.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=part):
        find_sizes(small, statistics=str(tmp_path / "s.json"))


def test_the_share_of_distinct_ids_may_be_given(tmp_path: Path):
    """256 rows a rank, 12 events: 3,072 ids of `tag`, of which a hundredth differ; `item` is read by three features."""
    more = {"lengths": ["clicks=12", "likes=4"], "batch_size": 256}
    asked = problem(tmp_path, distinct=["tag=0.005", "item=0.02"], **more)
    tag, item = asked.tables["tag"], asked.tables["item"]
    assert tag.repeats.of(3072, tag.rows) == pytest.approx(0.005 * 3072)
    assert item.repeats.of(256 * (12 + 4 + 1), item.rows) == pytest.approx(0.02 * 256 * 17)
    assert 1 < tag.repeats.of(300, tag.rows) < 0.005 * 3072 < tag.repeats.of(1e5, tag.rows)
    assert asked.sizes.sources["distinct ids of tag"] == "given with --distinct"
    assert asked.sizes.sources[REPEATS].startswith("assumed")  # of the other tables
    assert place(asked).perf < place(problem(tmp_path, **more)).perf
    every = [f"{name}=0.5" for name in asked.sizes.rows]
    assert REPEATS not in problem(tmp_path, distinct=every, **more).sizes.sources
