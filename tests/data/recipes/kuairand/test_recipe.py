"""KuaiRand's recipe on hand-made files with the official columns: histories, days, joins, what is left out, errors."""

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from interformer_rec.config import run as config
from interformer_rec.data.recipes import user_buckets
from interformer_rec.data.recipes.catalog import prepare
from interformer_rec.errors import InputError
from interformer_rec.training import run

LOG = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab\n"
)
ONEHOT = ",".join(f"onehot_feat{n}" for n in range(18))
USERS = (
    "user_id,user_active_degree,is_lowactive_period,is_live_streamer,is_video_author,follow_user_num,"
    "follow_user_num_range,fans_user_num,fans_user_num_range,friend_user_num,friend_user_num_range,register_days,"
    f"register_days_range,{ONEHOT}\n"
)
VIDEOS = (
    "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,server_width,server_height,"
    "music_id,music_type,tag\n"
)
VIDEO_ROWS = """30,503,NORMAL,2022-05-01,Web,1,,720,1280,900,4.0,
10,501,NORMAL,2022-04-28,ShortImport,1,17200.0,720,1280,901,9.0,"12,65"
20,502,AD,2022-04-30,Kmovie,1,60000.0,540,960,902,,8
"""
SPLITS = {"train": "2022-05-02:2022-05-03", "valid": "2022-05-04:2022-05-04", "test": "2022-05-05:2022-05-05"}
WANTED = ("standard_4_08_to_4_21", "standard_4_22_to_5_08", "random_4_22_to_5_08")


def _ms(day: int, hour: int, minute: int = 0, month: int = 5) -> int:
    """A local time (UTC+8) of 2022 in Unix milliseconds."""
    local = datetime(2022, month, day, hour, minute, tzinfo=timezone(timedelta(hours=8)))
    return int(local.timestamp() * 1000)


def _line(user: int, video: int, time: int, click: int, like: int = 0, long_view: int = 0, random: int = 0) -> str:
    return f"{user},{video},20220101,2359,{time},{click},{like},0,0,0,0,{long_view},9999,9999,0,0,0,{random},3\n"


def _user(user: int) -> str:
    return f'{user},full_active,0,-124,1,10,"(0,10]",7,"[1,10)",0,0,300,181-365,{",".join("1" * 17)},\n'


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    (folder / "data").mkdir(parents=True)
    logs = {
        WANTED[0]: [_line(1, 20, _ms(20, 9, month=4), 1, like=1)],
        WANTED[1]: [
            _line(1, 30, _ms(2, 8), 0),
            _line(1, 10, _ms(2, 9), 1, long_view=1),
            _line(1, 20, _ms(2, 9), 1),  # the same millisecond: neither sees the other
            _line(1, 20, _ms(2, 9), 0),  # an exposure logged twice
            _line(2, 10, _ms(3, 23, 59), 1),
            _line(2, 20, _ms(4, 0), 0),  # a minute later, another local day
            _line(1, 10, _ms(5, 7), 1),
            _line(1, 99, _ms(5, 6), 1),  # a video that the table does not have
        ],
        WANTED[2]: [
            _line(1, 30, _ms(3, 5), 1, like=1, long_view=1, random=1),
            _line(1, 30, _ms(5, 6, 30), 1, random=1),
        ],
    }
    for name, lines in logs.items():
        (folder / "data" / f"log_{name}_pure.csv").write_text(LOG + "".join(lines))
    (folder / "data" / "user_features_pure.csv").write_text(USERS + _user(2) + _user(1))
    (folder / "data" / "video_features_basic_pure.csv").write_text(VIDEOS + VIDEO_ROWS)
    return folder


pytestmark = pytest.mark.filterwarnings("ignore:.*standard exposures were read", "ignore:1 log rows were left out")


def _prepare(raw: Path, out: Path, **options: str) -> dict[str, list[dict]]:
    counts = prepare("kuairand_pure", str(out), str(raw), {**SPLITS, **options})
    read = {name.removesuffix(".parquet"): pq.read_table(out / name).to_pylist() for name in counts}
    assert {f"{split}.parquet": len(rows) for split, rows in read.items()} == counts
    return read


def test_rows_fall_into_their_local_days(raw: Path, tmp_path: Path) -> None:
    rows = _prepare(raw, tmp_path / "out")
    shown = {split: [(row["user_id"], row["video_id"]) for row in part] for split, part in rows.items()}
    assert shown == {
        "train": [(1, 30), (1, 10), (1, 20), (2, 10)],
        "valid": [(2, 20)],
        "test": [(1, 10)],
        "test_random": [(1, 30)],
    }
    assert [row["hour"] for row in rows["train"]] == [8, 9, 9, 23]
    assert rows["valid"][0]["hour"] == 0 and rows["valid"][0]["weekday"] == 2  # 4 May 2022 was a Wednesday


def test_histories_hold_strictly_earlier_standard_exposures(raw: Path, tmp_path: Path) -> None:
    rows = _prepare(raw, tmp_path / "out")
    first, second, same_time, other_user = rows["train"]
    assert first["watch_video_id"] == [20] and first["watch_time_ms"] == [_ms(20, 9, month=4)]
    for row in (second, same_time):
        assert row["watch_video_id"] == [20, 30] and row["long_watch_video_id"] == [] and row["like_video_id"] == [20]
    assert other_user["watch_video_id"] == [] and rows["valid"][0]["watch_video_id"] == [10]
    for row in (*rows["test"], *rows["test_random"]):  # the random like of 3 May is nobody's history
        assert row["watch_video_id"] == [20, 30, 10, 20] and row["like_video_id"] == [20]
        assert row["watch_author_id"] == [502, 503, 501, 502] and row["watch_tag"] == [8, 0, 12, 8]
        assert row["long_watch_video_id"] == [10] and row["long_watch_tag"] == [12]
    assert _prepare(raw, tmp_path / "short", history="2")["test"][0]["watch_video_id"] == [10, 20]


def test_fields_are_joined_and_feedback_left_out(raw: Path, tmp_path: Path) -> None:
    row = _prepare(raw, tmp_path / "out")["train"][1]
    assert (row["is_click"], row["is_like"], row["long_view"], row["tab"]) == (1, 0, 1, 3)
    assert row["author_id"] == 501 and row["tags"] == [12, 65] and row["video_duration"] == pytest.approx(17.2)
    assert row["music_type"] == 9 and row["upload_type"] == "ShortImport"
    assert row["days_since_upload"] == pytest.approx(4 + 9 / 24)
    assert row["user_follow_user_num_range"] == "(0,10]" and row["user_is_live_streamer"] == -124
    assert row["user_onehot_feat16"] == 1 and row["user_onehot_feat17"] is None
    assert not {"date", "hourmin", "play_time_ms", "is_follow", "is_rand", "user_is_lowactive_period"} & set(row)


def test_a_video_without_author_or_day_keeps_its_place(raw: Path, tmp_path: Path) -> None:
    table = raw / "data" / "video_features_basic_pure.csv"
    table.write_text(VIDEOS + VIDEO_ROWS.replace("30,503,NORMAL,2022-05-01", "30,,NORMAL,"))
    rows = _prepare(raw, tmp_path / "out")
    assert rows["test"][0]["watch_author_id"] == [502, None, 501, 502]
    assert rows["train"][0]["author_id"] is None and rows["train"][0]["days_since_upload"] is None
    assert rows["train"][1]["days_since_upload"] == pytest.approx(4 + 9 / 24)


def test_many_buckets_give_the_same_rows(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _prepare(raw, tmp_path / "one")
    monkeypatch.setattr(user_buckets, "BUCKET_BYTES", 200)
    parts = _prepare(raw, tmp_path / "many")
    for split in whole:
        assert sorted(map(str, parts[split])) == sorted(map(str, whole[split]))
    assert sorted(path.name for path in (tmp_path / "many").iterdir()) == sorted(
        ["config.yaml", "prepared.json", *(f"{split}.parquet" for split in whole)]
    )


def test_what_is_left_out_is_counted(raw: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="1 log rows were left out: their user or video"):
        _prepare(raw, tmp_path / "out")
    with pytest.warns(UserWarning, match="9 standard exposures were read; the owners count 1,436,609"):
        _prepare(raw, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"train": "2022-05-02"}, "option train is '2022-05-02'; write first and last day"),
        ({"valid": "2022-05-03:2022-05-04"}, "option valid is .*must follow each other"),
        ({"test": "2022-05-09:2022-05-09"}, "no row for test: are the options"),
        ({"history": "0"}, "option history is 0"),
    ],
)
def test_bad_options_are_named(raw: Path, tmp_path: Path, options: dict[str, str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        _prepare(raw, tmp_path / "out", **options)


def test_bad_files_are_named(raw: Path, tmp_path: Path) -> None:
    log = raw / "data" / f"log_{WANTED[1]}_pure.csv"
    good = log.read_text()
    log.write_text(good + _line(1, 10, _ms(5, 8), 1).replace("1,10,", ",10,", 1))
    with pytest.raises(InputError, match=r"has empty fields in column user_id"):
        _prepare(raw, tmp_path / "out")
    log.write_text(good.replace("long_view", "longview"))
    with pytest.raises(InputError, match=r"has no column long_view"):
        _prepare(raw, tmp_path / "out")
    log.unlink()
    with pytest.raises(InputError, match=r"has no log_standard_4_22_to_5_08_pure\*\.csv; it must hold .*zenodo"):
        _prepare(raw, tmp_path / "out")


def test_random_exposures_are_optional(raw: Path, tmp_path: Path) -> None:
    (raw / "data" / f"log_{WANTED[2]}_pure.csv").unlink()
    assert "test_random" not in _prepare(raw, tmp_path / "out")


def test_27k_reads_all_parts(raw: Path, tmp_path: Path) -> None:
    data = raw / "data"
    for path in list(data.iterdir()):
        path.rename(data / path.name.replace("_pure", "_27k_part1" if "standard" in path.name else "_27k"))
    (data / f"log_{WANTED[1]}_27k_part2.csv").write_text(LOG + _line(2, 30, _ms(5, 12), 1))
    counts = prepare("kuairand_27k", str(tmp_path / "out"), str(raw), SPLITS)
    assert counts["test.parquet"] == 2
    assert config.load(tmp_path / "out" / "config.yaml").features.tables["video"].min_count == 10


def test_inputs_are_those_of_the_prepared_set_and_train(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    _prepare(raw, out)
    small = ["model.embedding_dim=8", "model.d=8", "model.layers=1", "training.epochs=1", "training.device=cpu"]
    ours = config.load(out / "config.yaml", [*small, f"training.out={tmp_path}/run"])
    shipped = config.load(Path(__file__).parents[4] / "configs" / "kuairand_pure.yaml").features
    times = {group.timestamp for group in ours.features.sequences}
    assert set(ours.features.columns()) - times == set(shipped.columns())
    assert set(ours.features.tables) == set(shipped.tables)
    assert run.train(ours) == 0
