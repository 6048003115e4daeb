"""KuaiRand's user and video tables -> the columns a row takes from them. In: user_features_*.csv and
video_features_basic_*.csv; out: tables that are asked by id. Statistics files are not read: they average over the whole
month, days after the row included."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from interformer_rec.data.recipes import raw_files
from interformer_rec.data.recipes.by_id import ById

NO_TAG = 0  # of a video without tags, in histories; real tags start at 1
RANGES = ("follow_user_num_range", "fans_user_num_range", "friend_user_num_range", "register_days_range")
USER_TEXTS = ("user_active_degree", *RANGES)
USER_IDS = ("is_live_streamer", "is_video_author", *(f"onehot_feat{i}" for i in range(18)))
USER_NUMBERS = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
_TEXT = pa.dictionary(pa.int32(), pa.string())
_VIDEO = {
    **{name: pa.int64() for name in ("video_id", "author_id", "music_id", "music_type")},
    **dict.fromkeys(("video_type", "upload_type", "upload_dt", "tag"), _TEXT),
    **{name: pa.float64() for name in ("video_duration", "server_width", "server_height")},
}


def users(path: Path) -> ById:
    """user_features_*.csv, columns named user_* as in the prepared KuaiRand-Pure."""
    columns = {
        "user_id": pa.int64(),
        **dict.fromkeys(USER_TEXTS, _TEXT),
        **{name: pa.int64() for name in USER_IDS},
        **{name: pa.float64() for name in USER_NUMBERS},
    }
    table = raw_files.whole(path, columns)
    return ById(table.rename_columns([f"user_{name.removeprefix('user_')}" for name in columns]), "user_id")


def videos(path: Path) -> ById:
    """video_features_basic_*.csv; tags as a list and the first of them, upload_day in days since 1970, duration in seconds."""
    table = raw_files.whole(path, _VIDEO)
    lists, first = _tags(table["tag"].combine_chunks(), path)
    days = table["upload_dt"].combine_chunks()
    parsed = pc.strptime(days.dictionary, format="%Y-%m-%d", unit="s", error_is_null=True)
    days = parsed.cast(pa.date32()).cast(pa.int32()).take(days.indices)
    table = table.drop_columns(["tag", "upload_dt"])
    table = table.set_column(
        table.schema.get_field_index("video_duration"), "video_duration", pc.divide(table["video_duration"], 1000.0)
    )
    table = table.append_column("tags", lists).append_column("first_tag", first)
    return ById(table.append_column("upload_day", days), "video_id")


def _tags(texts: pa.DictionaryArray, path: Path) -> tuple[pa.ListArray, pa.Array]:
    """Texts such as 12,65 -> lists, and the first tag or NO_TAG; each distinct text is parsed once."""
    lists = raw_files.id_lists(texts.dictionary, ",", "tag", path).cast(pa.list_(pa.int32()))
    lengths = pc.list_value_length(lists)
    starts = pc.if_else(pc.greater(lengths, 0), lists.offsets[:-1], None)
    first = pc.fill_null(lists.flatten().take(starts), NO_TAG)
    none = pa.array([[]], lists.type)
    lists, first = pa.concat_arrays([lists, none]), pa.concat_arrays([first, pa.array([NO_TAG], first.type)])
    rows = pc.fill_null(texts.indices, len(texts.dictionary))  # no text: the empty list added last
    return lists.take(rows), first.take(rows)
