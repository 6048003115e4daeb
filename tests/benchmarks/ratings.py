"""A small MovieLens in its raw form, and what it becomes. In: a folder; out: train, valid and test Parquet files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from interformer_rec.data.recipes import ml_100k

USERS, ITEMS, RATINGS = 30, 20, 1500


def write_ratings(folder: Path) -> Path:
    """Made-up ratings that a user's taste and a movie's quality explain in part."""
    random = np.random.default_rng(0)
    raw = folder / "raw"
    raw.mkdir(parents=True)
    user, item = random.integers(USERS, size=RATINGS), random.integers(ITEMS, size=RATINGS)
    taste = random.normal(size=USERS)[user] + random.normal(size=ITEMS)[item] + random.normal(size=RATINGS) / 2
    rating = np.clip(np.round(3.5 + taste), 1, 5).astype(int)
    lines = [f"{u}\t{i}\t{r}\t{1000 + 7 * n}" for n, (u, i, r) in enumerate(zip(user, item, rating, strict=True))]
    tables = {
        "inter": ["user_id:token\titem_id:token\trating:float\ttimestamp:float", *lines],
        "item": [
            "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq",
            *(f"{i}\tm{i}\t{1990 + i % 5}\tDrama" for i in range(ITEMS)),
        ],
        "user": [
            "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token",
            *(f"{u}\t{20 + u}\t{'MF'[u % 2]}\tother\t{u}" for u in range(USERS)),
        ],
    }
    for name, rows in tables.items():
        (raw / f"ml-100k.{name}").write_text("\n".join(rows) + "\n")
    prepared = folder / "prepared"
    prepared.mkdir()
    ml_100k.write(prepared, raw)
    return prepared
