"""MovieLens-100k: the parser and the histories on a hand-made raw folder; the real files where the index is reachable."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from interformer_rec.data.recipes import ml_100k
from interformer_rec.errors import InputError

INTER = """user_id:token\titem_id:token\trating:float\ttimestamp:float
7\t12\t5\t100
7\t11\t3\t100
8\t11\t4\t150
7\t10\t4\t200
8\t12\t1\t250
7\t13\t2\t300
7\t12\t5\t300
8\t10\t5\t350
8\t13\t4\t400
7\t11\t1\t500
"""
ITEM = """item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq
10\tToy "Story"\t1995\tAnimation Children's
11\tHeat\t1995\tAction
12\tOrphan's quote"\t1977\tSci-Fi War Action
13\tunkonwn\tunkonwn\tunknown
"""
USER = """user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token
7\t24\tM\ttechnician\t85711
8\t53\tF\tother\tT8H1N
"""


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    for name, text in (("inter", INTER), ("item", ITEM), ("user", USER)):
        (folder / f"ml-100k.{name}").write_text(text)
    return folder


def _rows(folder: Path) -> dict[str, list[dict]]:
    return {split: pq.read_table(folder / f"{split}.parquet").to_pylist() for split in ("train", "valid", "test")}


def test_rows_are_cut_by_time_and_carry_the_fields(raw: Path, tmp_path: Path) -> None:
    assert ml_100k.write(tmp_path, raw) == {"train.parquet": 8, "valid.parquet": 1, "test.parquet": 1}
    rows = _rows(tmp_path)
    times = [row["timestamp"] for split in ("train", "valid", "test") for row in rows[split]]
    assert times == sorted(times)
    assert rows["train"][0] == {
        **{"liked": 0, "timestamp": 100, "user_id": 7, "item_id": 11},
        **{"age": 24, "gender": "M", "occupation": "technician", "zip_code": "85711"},
        **{"release_year": 1995, "genres": ["Action"]},
        **{"hist_item_id": [], "hist_rating": [], "hist_genre": [], "hist_timestamp": []},
    }
    assert [row["liked"] for row in rows["train"]] == [0, 1, 1, 1, 0, 1, 0, 1]
    assert [row["release_year"] for row in rows["train"]] == [1995, 1977, 1995, 1995, 1977, 1977, None, 1995]
    assert "rating" not in rows["train"][0]


def test_history_is_strictly_earlier_and_oldest_first(raw: Path, tmp_path: Path) -> None:
    ml_100k.write(tmp_path, raw)
    rows = _rows(tmp_path)
    by_key = {(row["user_id"], row["item_id"], row["timestamp"]): row for split in rows.values() for row in split}
    both_at_300 = [by_key[7, 12, 300], by_key[7, 13, 300]]
    for row in both_at_300:  # neither sees the other, and the two at 100 are both there
        assert row["hist_item_id"] == [11, 12, 10]
        assert row["hist_rating"] == [3, 5, 4]
        assert row["hist_timestamp"] == [100, 100, 200]
        assert row["hist_genre"] == ["Action", "Sci-Fi", "Animation"]
    assert rows["test"][0]["hist_item_id"] == [11, 12, 10, 12, 13]


def test_damaged_raw_files_are_named(raw: Path, tmp_path: Path) -> None:
    (raw / "ml-100k.user").write_text(USER.replace("8\t53", "9\t53"))
    with pytest.raises(InputError, match=r"names the id 8, which ml-100k\.user does not have"):
        ml_100k.write(tmp_path, raw)
    (raw / "ml-100k.user").write_text(USER.replace("age:token", "years:token"))
    with pytest.raises(InputError, match=r"ml-100k\.user is not the expected"):
        ml_100k.write(tmp_path, raw)
    (raw / "ml-100k.user").unlink()
    with pytest.raises(InputError, match=r"has no ml-100k\.user"):
        ml_100k.write(tmp_path, raw)


def test_offline_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # pip as it is on a machine without a network
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(InputError, match=r"could not be downloaded.*--raw"):
        ml_100k.download(tmp_path)


def test_the_real_download(tmp_path: Path) -> None:
    try:
        ml_100k.download(tmp_path)
    except InputError as error:
        pytest.skip(f"package index not reachable: {error}")
    out = tmp_path / "out"
    out.mkdir()
    assert ml_100k.write(out, tmp_path) == {"train.parquet": 80_000, "valid.parquet": 10_000, "test.parquet": 10_000}
    train, test = (pq.read_table(out / f"{split}.parquet", columns=["user_id", "liked"]) for split in ("train", "test"))
    new = ~np.isin(test["user_id"].to_numpy(), train["user_id"].to_numpy())
    assert 0.8 < new.mean() < 0.9  # only the history can tell
    assert train["liked"].to_numpy().mean() == pytest.approx(0.5509, abs=1e-4)
