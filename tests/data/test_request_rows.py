"""Loading rows that are requests: every candidate once on every rank, shuffled as whole requests, resumed, and bad rows by their place."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from interformer_rec.config.features import FeatureSchema
from interformer_rec.data.decode.kinds import check_kinds
from interformer_rec.data.epoch_plan import Cursor
from interformer_rec.data.files.source import open_source
from interformer_rec.data.fit import fit
from interformer_rec.errors import InputError
from tests.data.request_samples import CANDIDATES, of_impressions, of_requests, requests, structs
from tests.data.samples import equal, every_kind, loader_of, with_column


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """70 requests in small row groups, one group without any candidate; each candidate's `rating` tells it."""
    table = requests(np.random.default_rng(1), 70)
    total = sum(map(len, table["rating"].to_pylist()))
    numbers = iter(range(total))
    table = with_column(table, "rating", [[next(numbers) / total for _ in row] for row in table["rating"].to_pylist()])
    empty = requests(np.random.default_rng(2), 5, most=0)
    path = tmp_path_factory.mktemp("requests") / "rows.parquet"
    with pq.ParquetWriter(path, table.schema) as writer:
        for start in range(0, 70, 14):
            writer.write_table(table.slice(start, 14))
            if start == 14:
                writer.write_table(empty)
    return str(path), fit(of_requests(), str(path)), np.arange(total) / total


def seen(batches):
    return np.concatenate([batch.labels[: batch.rows, 1].numpy() for batch in batches])


@pytest.mark.parametrize("balance", ["none", "events", "groups"])
@pytest.mark.parametrize(("shuffle_rows", "world_size"), [(0, 1), (0, 3), (40, 1), (40, 2), (1000, 3)])
def test_every_candidate_is_read_once(data, balance, shuffle_rows, world_size):
    path, fitted, ratings = data
    options = {"shuffle_rows": shuffle_rows, "balance": balance, "batch_size": 7}
    loaders = [
        loader_of(path, of_requests(), fitted, rank=r, world_size=world_size, **options) for r in range(world_size)
    ]
    ranks = [[batch for batch, _ in loader.batches(epoch=1)] for loader in loaders]
    assert loaders[0].rows == len(ratings) and {len(batches) for batches in ranks} == {loaders[0].steps}
    np.testing.assert_allclose(np.sort(seen(itertools.chain(*ranks))), ratings.astype(np.float32))
    row_of = np.repeat(np.arange(75), [len(value) for value in pq.read_table(path)["rating"].to_pylist()])
    for batch in itertools.chain(*ranks):
        place = np.rint(batch.labels[: batch.rows, 1].double().numpy() * len(ratings)).astype(int)
        assert np.array_equal(batch.request_numbers[: batch.rows], row_of[place])  # alike in all batches and ranks
        groups, of = batch.groups.numpy(), batch.request_of.numpy()
        assert all(len(set(groups[of == request])) == 1 for request in range(batch.requests))
        if batch.rows > 1:  # candidates of a request follow each other, in the files' order
            same = np.diff(of) == 0
            assert (np.diff(batch.labels[:, 1].numpy())[same] > 0).all()
    if shuffle_rows and world_size == 1:
        assert not np.array_equal(seen(ranks[0]), np.sort(seen(ranks[0])))


@pytest.mark.parametrize(("worlds", "sizes"), [((1, 1), (7, 7)), ((2, 1), (7, 7)), ((1, 3), (7, 5))])
def test_resumed_in_the_middle_of_an_epoch(data, worlds, sizes):
    path, fitted, ratings = data
    options = {"shuffle_rows": 40, "balance": "events"}
    done, cursors = [], set()
    for rank in range(worlds[0]):
        loader = loader_of(path, of_requests(), fitted, rank=rank, world_size=worlds[0], batch_size=sizes[0], **options)
        found = list(itertools.islice(loader.batches(), 4))
        done += [batch for batch, _ in found]
        cursors.add(str(found[-1][1].to_dict()))
    assert len(cursors) == 1
    cursor = Cursor.from_dict(found[-1][1].to_dict())
    rest = []
    for rank in range(worlds[1]):
        loader = loader_of(path, of_requests(), fitted, rank=rank, world_size=worlds[1], batch_size=sizes[1], **options)
        rest += [batch for batch, _ in loader.batches(cursor=cursor)]
    np.testing.assert_allclose(np.sort(np.r_[seen(done), seen(rest)]), ratings.astype(np.float32))
    if worlds == (1, 1):
        whole = [batch for batch, _ in loader.batches()]
        assert all(equal(a, b) for a, b in zip(whole[4:], rest, strict=True))


COLUMNS = (*CANDIDATES, "click", "rating", "weight")


def of_structs():
    tree = of_requests().model_dump()
    return FeatureSchema.model_validate({**tree, "request": {"candidates": CANDIDATES, "column": "shown"}})


@pytest.mark.parametrize("shuffle_rows", [0, 40])
def test_a_list_of_structs_gives_the_same_batches(data, shuffle_rows, tmp_path):
    path, fitted, _ = data
    table = pq.read_table(path)
    sizes = [pq.read_metadata(path).row_group(at).num_rows for at in range(pq.read_metadata(path).num_row_groups)]
    packed = structs(table, COLUMNS)
    with pq.ParquetWriter(tmp_path / "rows.parquet", packed.schema) as writer:
        for stop, size in zip(np.cumsum(sizes).tolist(), sizes, strict=True):
            writer.write_table(packed.slice(stop - size, size))
    found = fit(of_structs(), str(tmp_path / "rows.parquet"))
    assert found.table_rows == fitted.table_rows and found.moments == fitted.moments
    assert all(found.vocabularies[name].equals(ids) for name, ids in fitted.vocabularies.items())
    options = {"batch_size": 7, "shuffle_rows": shuffle_rows}
    plain = loader_of(path, of_requests(), fitted, **options)
    loader = loader_of(str(tmp_path / "rows.parquet"), of_structs(), found, **options)
    if shuffle_rows:  # the shuffle follows from the seed alone
        assert loader.steps == plain.steps
    for (mine, _), (other, _) in zip(loader.batches(1), plain.batches(1), strict=True):
        assert equal(mine, other) and torch.equal(mine.request_of, other.request_of)
    tables = [pa.concat_tables([one.table for _, one in each.tables()]) for each in (loader, plain)]
    assert tables[0].select(tables[1].column_names).equals(tables[1])


def test_a_bad_candidate_of_a_list_of_structs_is_named(tmp_path):
    table = requests(np.random.default_rng(5), 9)
    ratings = table["rating"].to_pylist()
    row = next(at for at, value in enumerate(ratings) if len(value) > 2)
    ratings[row][1] = 7.0
    path = write(tmp_path, structs(with_column(table, "rating", ratings), COLUMNS))
    fitted = fit(of_structs(), path)
    with pytest.raises(InputError, match=rf"row {row} of the file.*, candidate 1 .*, column 'rating': a label"):
        list(loader_of(path, of_structs(), fitted, batch_size=4).batches())
    missing = table["rating"].to_pylist()
    shown = structs(table, COLUMNS)["shown"].to_pylist()
    shown[row][1] = None  # a candidate of which nothing is known has no label
    path = write(tmp_path, with_column(structs(table, COLUMNS), "shown", shown))
    with pytest.raises(InputError, match=rf"row {row} of the file.*, candidate 1 .*; the value is None"):
        list(loader_of(path, of_structs(), fitted, batch_size=4).batches())
    loader = loader_of(path, of_structs(), fitted, batch_size=4, on_bad_row="skip")
    assert sum(batch.rows for batch, _ in loader.batches()) == sum(map(len, missing)) - 1


def test_files_without_the_list_of_structs_are_refused(data):
    with pytest.raises(InputError, match=r"column 'shown' \(features.request.column\) is missing"):
        fit(of_structs(), data[0])


def write(tmp_path, table):
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=3)
    return str(tmp_path / "rows.parquet")


def test_lists_of_different_lengths_are_named(tmp_path):
    table = requests(np.random.default_rng(4), 8)
    clicks = table["click"].to_pylist()
    row = next(at for at, value in enumerate(clicks) if at > 4 and value)
    path = write(tmp_path, with_column(table, "click", [*clicks[:row], [*clicks[row], True], *clicks[row + 1 :]]))
    count = len(clicks[row])
    fitted = fit(of_requests(), path)
    with pytest.raises(
        InputError,
        match=rf"row {row} of the file.*, column 'click': a list of another length than that of 'price'.*{count + 1} against {count}",
    ):
        list(loader_of(path, of_requests(), fitted, batch_size=4).batches())
    loader = loader_of(path, of_requests(), fitted, batch_size=4, on_bad_row="skip")
    batches = [batch for batch, _ in loader.batches()]
    total = sum(map(len, clicks))
    assert sum(batch.rows for batch in batches) == total - count and loader.rows == total
    assert list(loader.bad_rows.values()) == [count]


def test_a_bad_candidate_is_named_and_left_out_alone(tmp_path):
    table = requests(np.random.default_rng(5), 9)
    ratings = table["rating"].to_pylist()
    row = next(at for at, value in enumerate(ratings) if len(value) > 2)
    ratings[row][1] = 7.0
    path = write(tmp_path, with_column(table, "rating", ratings))
    fitted = fit(of_requests(), path)
    with pytest.raises(InputError, match=rf"row {row} of the file.*, candidate 1 .*, column 'rating': a label"):
        list(loader_of(path, of_requests(), fitted, batch_size=4).batches())
    loader = loader_of(path, of_requests(), fitted, batch_size=4, on_bad_row="skip")
    assert sum(batch.rows for batch, _ in loader.batches()) == loader.rows - 1


def test_a_column_without_lists_is_an_error(tmp_path):
    table = (
        requests(np.random.default_rng(6), 3).drop_columns(["price"]).append_column("price", pa.array([1.0, 2.0, 3.0]))
    )
    path = write(tmp_path, table)
    with pytest.raises(InputError, match=r"column 'price' .* is double; features.request makes it the candidates'"):
        check_kinds(open_source(path), of_requests(), labels=True)


def test_inputs_of_candidates_are_handed_through(data):
    path, fitted, ratings = data
    loader = loader_of(path, of_requests(), fitted, batch_size=9)
    kept = [one.table for _, one in loader.tables()]
    table = pa.concat_tables(kept)
    np.testing.assert_allclose(table["rating"].to_numpy(), ratings)
    source = pq.read_table(path)
    counts = [len(value) for value in source["rating"].to_pylist()]
    assert table["user"].to_pylist() == [
        user for user, n in zip(source["user"].to_pylist(), counts, strict=True) for _ in range(n)
    ]
    assert table["tags"].to_pylist() == [tags for row in source["tags"].to_pylist() for tags in row]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"candidate": ("price",)}, "features.candidate differs from features.request.candidates"),
        ({"group": "price"}, "column 'price' is read as lists of candidates"),
        (
            {"request": {"candidates": ["nothing"]}, "candidate": ()},
            "candidate names 'nothing', which is not a feature",
        ),
        ({"request": {"candidates": []}}, "at least 1 item"),
    ],
)
def test_schemas_that_cannot_be(change, said):
    tree = {**of_impressions().model_dump(), "request": {"candidates": CANDIDATES}, **change}
    with pytest.raises(ValueError, match=said):
        FeatureSchema.model_validate(tree)


def test_the_candidates_are_named_once():
    tree = {**every_kind().model_dump(), "request": {"candidates": CANDIDATES}}
    assert FeatureSchema.model_validate(tree).candidate == CANDIDATES
    assert of_requests().candidate_columns == {*CANDIDATES, "click", "rating", "weight"}
