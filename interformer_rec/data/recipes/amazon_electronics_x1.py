"""AmazonElectronics_x1: train.csv and test.csv of reviews against drawn products -> train, valid and test Parquet files.

A row: will this user review this product next, given those reviewed so far (all of them, oldest first)? One reviewed
and one drawn product per step; rows have no times and are shuffled. test.csv holds each user's last step, so valid holds
the last step of each user in train.csv: the rows with the user's longest history there."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from interformer_rec.data.recipes import raw_files, run_config
from interformer_rec.data.recipes.raw_files import Source
from interformer_rec.data.recipes.x1 import LIST, HoldOut, X1Set

SOURCE = Source(
    name="amazon_electronics_x1",
    url="https://huggingface.co/datasets/reczoo/AmazonElectronics_x1",
    licence="none stated; reviews collected by McAuley et al. (SIGIR 2015) for research, in the form of DIN (KDD 2018)",
    files="train.csv (2,608,764 rows) and test.csv (384,806 rows)",
)


def last_steps(path: Path) -> HoldOut:
    """Rows with as many events as the user's longest history in the file."""
    longest = np.zeros(0, np.int64)  # a user's number -> events
    for batch in raw_files.batches(path, {"user_id": pa.int64(), "item_history": pa.string()}):
        users = batch.column("user_id").to_numpy()
        longest = np.r_[longest, np.zeros(max(0, users.max() + 1 - len(longest)), np.int64)]
        text = pc.fill_null(batch.column("item_history"), "")
        events = pc.add(pc.count_substring(text, "^"), pc.not_equal(text, "").cast(pa.int32()))
        np.maximum.at(longest, users, events.to_numpy())

    def held_out(batch: pa.RecordBatch, _: int) -> np.ndarray:
        events = pc.list_value_length(batch.column("item_history")).to_numpy()
        return events == longest[batch.column("user_id").to_numpy()]

    return held_out


SET = X1Set(
    source=SOURCE,
    md5={"train.csv": "e9bf80b92985e463db18fdc753d347b5", "test.csv": "57a20e82fe736dd495f2eaf0669bf6d0"},
    columns={
        **{name: pa.int64() for name in ("label", "user_id", "item_id", "cate_id")},
        **dict.fromkeys(("item_history", "cate_history"), LIST),
    },
    events=("item_history", "cate_history"),
    hold_out=last_steps,
    features={
        "tables": {"item_id": {}, "cate_id": {}, "user_id": {}},
        "ids": ["user_id", "item_id", "cate_id"],
        "sequences": [
            run_config.sequence(
                "reviewed", 100, {"item": ("item_history", "item_id"), "cate": ("cate_history", "cate_id")}
            )
        ],
        "labels": ["label"],
        "group": "user_id",
    },
    model={**run_config.MODEL, "embedding_dim": 64, "d": 64},
)
