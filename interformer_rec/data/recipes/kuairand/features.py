"""The features of KuaiRand's rows for a run config. In: history length, how rare an id may be; out: the `features:` part,
the same inputs as configs/kuairand_pure.yaml plus the events' times."""

from typing import Any

from interformer_rec.data.recipes import run_config
from interformer_rec.data.recipes.kuairand.tables import USER_IDS, USER_NUMBERS, USER_TEXTS

LIKES = 20  # events of the history of likes, which is short


def features(length: int, rare: int) -> dict[str, Any]:
    """`length`: newest events kept; ids of users, videos, authors and music seen less than `rare` times share a row."""
    person = [f"user_{name.removeprefix('user_')}" for name in (*USER_TEXTS, *USER_IDS)]
    single = ["tab", "hour", "weekday", "user_id", *person, "video_type", "upload_type", "music_id", "music_type"]
    # Pure's candidates are few videos shown often; 27K's histories hold millions that are seen once.
    events = {"min_count": rare} if rare > 2 else {}
    often = {name: {"min_count": rare} for name in ("user_id", "user_onehot_feat3", "music_id")}
    dense = ["days_since_upload", *(f"user_{name}" for name in USER_NUMBERS), "video_duration"]
    return {
        "tables": {"video": events, "author": events, "tag": {}, **{name: often.get(name, {}) for name in single}},
        "ids": [
            *single,
            {"name": "video_id", "table": "video"},
            {"name": "author_id", "table": "author"},
        ],
        "bags": [{"name": "tags", "table": "tag"}],
        "dense": [
            *({"name": name, "fill": 0.0, "log1p": True, "standardise": True} for name in dense),
            *({"name": name, "fill": 0.0, "standardise": True} for name in ("server_width", "server_height")),
        ],
        "sequences": [
            run_config.sequence(
                name,
                kept,
                {
                    "video": (f"{name}_video_id", "video"),
                    "author": (f"{name}_author_id", "author"),
                    "tag": (f"{name}_tag", "tag"),
                },
                timestamp=f"{name}_time_ms",
            )
            for name, kept in (("watch", length), ("long_watch", length), ("like", min(length, LIKES)))
        ],
        "labels": ["is_click"],
        "group": "user_id",
    }
