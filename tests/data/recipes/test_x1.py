"""The x1 recipes on hand-made files in the published form: columns, histories, the validation cut, what they refuse."""

import hashlib
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from interformer_rec.config import run as config
from interformer_rec.data.recipes import amazon_electronics_x1
from interformer_rec.data.recipes.catalog import prepare
from interformer_rec.errors import InputError
from interformer_rec.training import run

NO_CHECK = {"check": "none"}
AMAZON = "label,user_id,item_id,cate_id,item_history,cate_history\n"
AMAZON_TRAIN = """1,0,12,2,10^11,1^1
0,0,99,9,10^11,1^1
1,1,10,1,12,2
0,1,98,9,12,2
1,0,11,1,10,1
0,0,97,9,10,1
"""
KUAI = "timestamp,user_id,item_id,is_click,is_like,is_follow,pos_items,neg_items\n"
TAOBAO = (
    "clk,btag_his,cate_his,brand_his,userid,cms_segid,cms_group_id,final_gender_code,age_level,pvalue_level,"
    "shopping_level,occupation,new_user_class_level,adgroup_id,cate_id,campaign_id,customer,brand,price,pid,btag\n"
)


def _folder(path: Path, **files: str) -> str:
    path.mkdir()
    for name, text in files.items():
        (path / f"{name}.csv").write_text(text)
    return str(path)


def _rows(folder: Path) -> dict[str, list[dict]]:
    return {split: pq.read_table(folder / f"{split}.parquet").to_pylist() for split in ("train", "valid", "test")}


@pytest.fixture
def amazon(tmp_path: Path) -> str:
    test = "1,0,13,2,10^11^12,1^1^2\n0,0,96,9,10^11^12,1^1^2\n1,1,11,1,12^10,2^1\n0,1,95,9,12^10,2^1\n"
    return _folder(tmp_path / "raw", train=AMAZON + AMAZON_TRAIN, test=AMAZON + test)


def test_amazon_validates_on_the_last_step_of_each_user(amazon: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    counts = prepare("amazon_electronics_x1", str(out), amazon, NO_CHECK)
    assert counts == {"train.parquet": 2, "valid.parquet": 4, "test.parquet": 4}
    rows = _rows(out)
    assert [(row["user_id"], row["item_id"]) for row in rows["train"]] == [(0, 11), (0, 97)]
    assert [(row["user_id"], row["item_id"]) for row in rows["valid"]] == [(0, 12), (0, 99), (1, 10), (1, 98)]
    made = json.loads((out / "prepared.json").read_text())
    assert made["source"].endswith("reczoo/AmazonElectronics_x1") and "McAuley" in made["licence"]
    first = {"label": 1, "user_id": 0, "item_id": 13, "cate_id": 2}
    assert rows["test"][0] == {**first, "item_history": [10, 11, 12], "cate_history": [1, 1, 2]}


def test_kuaivideo_validates_on_the_newest_times(tmp_path: Path) -> None:
    times = [100, 101, 102, 103, 104, 105, 106, 107, 108, 108, 108, 109]
    lines = [f"{time},7,{20 + n},{n % 2},0,0,{'1^2' if n else ''},3\n" for n, time in enumerate(times)]
    raw = _folder(tmp_path / "raw", train=KUAI + "".join(lines), test=KUAI + "120,7,5,1,1,0,1^2,3^4^5\n")
    assert prepare("kuaivideo_x1", str(tmp_path / "out"), raw, NO_CHECK)["valid.parquet"] == 1
    rows = _rows(tmp_path / "out")
    assert [row["timestamp"] for row in rows["valid"]] == [109]  # the three at 108 stay together
    assert rows["train"][0]["pos_items"] == [] and rows["train"][1]["pos_items"] == [1, 2]
    assert rows["test"][0]["neg_items"] == [3, 4, 5]


def _ad(clk: int, btag: str, cate: str, brand: str, user: str = "5") -> str:
    return f"{clk},{btag},{cate},{brand},{user},1,2,2,3,2.0,3,0,,90,60,70,80,40,19.5,1,1\n"


def test_taobao_validates_on_the_last_seventh_and_aligns_events(tmp_path: Path) -> None:
    train = "".join(_ad(n % 2, "1^1^4", "11^12^13", "21^22^23", str(n)) for n in range(13))
    train += _ad(1, "1^1^4", "11^12^13", "22^23", "13")  # a brand was 0 and is gone
    raw = _folder(tmp_path / "raw", train=TAOBAO + train, test=TAOBAO + _ad(0, "", "", ""))
    with pytest.warns(UserWarning, match="in 1 rows btag_his, cate_his, brand_his differ"):
        prepare("taobao_ad_x1", str(tmp_path / "out"), raw, NO_CHECK)
    rows = _rows(tmp_path / "out")
    assert [row["userid"] for row in rows["valid"]] == [12, 13]
    assert rows["valid"][0]["btag_his"] == [1, 1, 4]
    assert [rows["valid"][1][name] for name in ("btag_his", "cate_his", "brand_his")] == [[1, 4], [12, 13], [22, 23]]
    assert rows["train"][0]["pvalue_level"] == 2 and rows["train"][0]["new_user_class_level"] is None
    assert rows["test"][0]["cate_his"] == [] and rows["test"][0]["price"] == 19.5


def test_published_sums_are_checked(amazon: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"train\.csv has MD5 \w+, the published file e9bf80b9.*check=none"):
        prepare("amazon_electronics_x1", str(tmp_path / "out"), amazon)
    with pytest.raises(InputError, match="option check is 'no'; it is md5 or none"):
        prepare("amazon_electronics_x1", str(tmp_path / "out"), amazon, {"check": "no"})
    for name in ("train.csv", "test.csv"):
        digest = hashlib.md5((Path(amazon) / name).read_bytes()).hexdigest()
        monkeypatch.setitem(amazon_electronics_x1.SET.md5, name, digest)
    assert prepare("amazon_electronics_x1", str(tmp_path / "out"), amazon)["test.parquet"] == 4


@pytest.mark.parametrize(
    ("train", "says"),
    [
        (
            AMAZON.replace("cate_id", "category") + AMAZON_TRAIN,
            r"has no column cate_id; its first line is 'label,user_id",
        ),
        (AMAZON + AMAZON_TRAIN.replace("1,0,12", "1,0,twelve"), r"column item_id.*twelve"),
        (AMAZON + AMAZON_TRAIN.replace("1,0,12", "1,0,12.5"), r"column item_id of .* must hold whole numbers"),
        (AMAZON + AMAZON_TRAIN.replace("10^11", "10^x"), r"column item_history of .* whole numbers divided by '\^'"),
        (AMAZON, "no row for train, valid"),
        ("", "is empty"),
    ],
)
def test_wrong_files_are_named(amazon: str, tmp_path: Path, train: str, says: str) -> None:
    (Path(amazon) / "train.csv").write_text(train)
    with pytest.raises(InputError, match=says):
        prepare("amazon_electronics_x1", str(tmp_path / "out"), amazon, NO_CHECK)
    assert not (tmp_path / "out").exists()


def test_missing_files_say_where_to_get_them(amazon: str, tmp_path: Path) -> None:
    (Path(amazon) / "test.csv").unlink()
    with pytest.raises(InputError, match=r"has no test\.csv; it must hold train.*, from https://huggingface.*Amazon"):
        prepare("amazon_electronics_x1", str(tmp_path / "out"), amazon, NO_CHECK)
    with pytest.raises(InputError, match=r"kuaivideo_x1 is not downloaded by this command.*--raw"):
        prepare("kuaivideo_x1", str(tmp_path / "out"))


def test_the_written_config_trains(amazon: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare("amazon_electronics_x1", str(out), amazon, NO_CHECK)
    small = ["model.embedding_dim=8", "model.d=8", "model.layers=1", "training.epochs=1", "training.device=cpu"]
    assert run.train(config.load(out / "config.yaml", [*small, f"training.out={tmp_path}/run"])) == 0
