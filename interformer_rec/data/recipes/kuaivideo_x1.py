"""KuaiVideo_x1: train.csv and test.csv of shown micro-videos -> train, valid and test Parquet files.

A row: will this user click this video, given videos clicked and not clicked before? valid is the newest tenth of
train.csv by `timestamp`, whose unit the owners do not tell; no time is in both. is_like and is_follow are feedback on the
row itself and never inputs. Histories are as published: the FIRST 100 events of a user, not the newest, once there are
more. The visual embeddings (item_visual_emb_dim64.h5) are left out: this package's tables learn their vectors."""

from functools import partial

import pyarrow as pa

from interformer_rec.data.recipes import run_config
from interformer_rec.data.recipes.raw_files import Source
from interformer_rec.data.recipes.x1 import LIST, X1Set, newest_times

SOURCE = Source(
    name="kuaivideo_x1",
    url="https://huggingface.co/datasets/reczoo/KuaiVideo_x1",
    licence="none stated; released by Kuaishou for the China MM 2018 competition, split by ALPINE (MM 2019)",
    files="train.csv (10,931,092 rows) and test.csv (2,730,291 rows)",
)

SET = X1Set(
    source=SOURCE,
    md5={"train.csv": "16f13734411532cc313caf2180bfcd56", "test.csv": "ba26c01caaf6c65c272af11aa451fc7a"},
    columns={
        **{name: pa.int64() for name in ("timestamp", "user_id", "item_id", "is_click", "is_like", "is_follow")},
        **dict.fromkeys(("pos_items", "neg_items"), LIST),
    },
    events=(),
    hold_out=partial(newest_times, column="timestamp", part=0.1),
    features={
        "tables": {"user_id": {"min_count": 10}, "item_id": {"min_count": 10}},
        "ids": ["user_id", "item_id"],
        "sequences": [
            run_config.sequence("clicked", 100, {"item": ("pos_items", "item_id")}),
            run_config.sequence("passed", 100, {"item": ("neg_items", "item_id")}),
        ],
        "labels": ["is_click"],
        "group": "user_id",
    },
    model={**run_config.MODEL, "embedding_dim": 64, "d": 64},
)
