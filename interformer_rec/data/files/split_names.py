"""The split that a file's or folder's name says. In: a name; out: train, valid, test, or nothing."""

import re

SPLITS = {
    "train": ("train", "training", "tr"),
    "valid": ("valid", "validation", "val", "dev", "eval"),
    "test": ("test", "testing", "holdout"),
}


def split_of(name: str) -> str | None:
    """By the name's first word: `train-0001.parquet` is train."""
    word = re.split(r"[^a-z]+", name.removesuffix(".parquet").lower())[0]
    return next((split for split, known in SPLITS.items() if word in known), None)
