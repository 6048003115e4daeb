"""TaobaoAd_x1: train.csv and test.csv of shown advertisements -> train, valid and test Parquet files.

A row: will this user click this advertisement, given the last 50 things done in the shop (category, brand and kind of
behaviour)? test.csv is 13 May 2017. The files carry no time, but train.csv is the preprocessing's train_sorted.csv, seven
days of equal length: valid is the last seventh of its rows, about 12 May. `btag` of the row is 1 (browsed) everywhere.

Not checked by anybody's document: that histories stand oldest first, as their zero padding on the left before the
conversion suggests. The conversion dropped zeros from each of the three lists by itself, so that lists may differ in
length; the newest common part is kept."""

from functools import partial

import pyarrow as pa

from interformer_rec.data.recipes import run_config
from interformer_rec.data.recipes.raw_files import Source
from interformer_rec.data.recipes.x1 import LIST, X1Set, last_rows

SOURCE = Source(
    name="taobao_ad_x1",
    url="https://huggingface.co/datasets/reczoo/TaobaoAd_x1",
    licence="Alibaba's terms at https://tianchi.aliyun.com/dataset/56; prepared for DMR (AAAI 2020)",
    files="train.csv (21,929,911 rows) and test.csv (3,099,515 rows)",
)
IDS = (
    *("userid", "cms_segid", "cms_group_id", "final_gender_code", "age_level", "pvalue_level", "shopping_level"),
    *("occupation", "new_user_class_level", "adgroup_id", "cate_id", "campaign_id", "customer", "brand", "pid", "btag"),
)
HISTORIES = ("btag_his", "cate_his", "brand_his")

SET = X1Set(
    source=SOURCE,
    md5={"train.csv": "eaabfc8629f23519b04593e26c7522fc", "test.csv": "f5ae6197e52385496d46e2867c1c8da1"},
    columns={
        "clk": pa.int64(),
        **dict.fromkeys(HISTORIES, LIST),
        **{name: pa.int64() for name in IDS},
        "price": pa.float64(),
    },
    events=HISTORIES,
    hold_out=partial(last_rows, column="userid", part=1 / 7),
    features={
        "tables": {name: {"min_count": 10} for name in IDS},
        "ids": list(IDS),
        "dense": [{"name": "price", "fill": 0.0, "log1p": True, "standardise": True}],
        "sequences": [
            run_config.sequence(
                "behaviour",
                50,
                {"btag": ("btag_his", "btag"), "cate": ("cate_his", "cate_id"), "brand": ("brand_his", "brand")},
            )
        ],
        "labels": ["clk"],
        "group": "userid",
    },
    model={**run_config.MODEL, "embedding_dim": 32, "d": 32},
)
