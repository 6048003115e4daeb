"""Histories stored once against histories in every row: bytes a row, and rows a second from Parquet to Batch.

    python -m benchmarks.event_store [--lengths 100,1000,10000] [--events 4000000] [--rows-a-user 20] [--rounds 5] [--json PATH]

A user has 1.5 times as many events as a history may have, at random moments, and rows at random moments of the last third, so that
histories are full. Rows lie in the order of their times, users mixed. --events: of the histories of all rows together, of each length; so
buffers and batches hold as many events in each case. An event has an item (a power law over 100,000), a shop and a time. Both forms are
read by the project's loader, in turns, one worker; their first batches are compared. Times are CPU seconds of the process.
"""

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.harness.machine import facts
from benchmarks.harness.result_file import write_result
from interformer_rec.config.data import DataConfig
from interformer_rec.config.features import FeatureSchema
from interformer_rec.data.event_store.arguments import StoreOptions
from interformer_rec.data.event_store.command import events
from interformer_rec.data.event_store.joined import JoinedSource, open_rows
from interformer_rec.data.files.source import Source, open_source
from interformer_rec.data.fit import fit
from interformer_rec.data.loader import Loader

ITEMS, SHOPS = 100_000, 500
GROUP_EVENTS, BUFFER_EVENTS, BATCH_EVENTS = 200_000, 1_000_000, 100_000
LISTS = ("past_item", "past_shop", "past_time")


def schema_of(longest: int) -> FeatureSchema:
    """A history of two ids an event and its times, and a row of its own."""
    columns = [{"name": "item", "column": "past_item"}, {"name": "shop", "column": "past_shop"}]
    return FeatureSchema.model_validate(
        {
            "tables": {"item": {}, "shop": {}},
            "dense": ["price"],
            "ids": ["item", "shop"],
            "sequences": [{"name": "past", "max_length": longest, "timestamp": "past_time", "columns": columns}],
            "labels": ["label"],
            "group": "user",
        }
    )


def write(folder: Path, longest: int, total: int, rows_a_user: int) -> tuple[int, int]:
    """events.parquet and fat.parquet; how many rows and users."""
    draw = np.random.default_rng(longest)
    users = max(2, total // (longest * rows_a_user))
    held, span = longest * 3 // 2, 90 * 86_400_000
    times = np.sort(draw.integers(0, span, (users, held)), axis=1)
    items = np.minimum(draw.zipf(1.2, (users, held)), ITEMS)
    shops = draw.integers(0, SHOPS, (users, held)).astype(np.int32)
    log = np.argsort(times.ravel(), kind="stable")  # events are logged as they come, users mixed
    owner = np.repeat(np.arange(users), held)
    columns = {"user": owner, "time": times.ravel(), "past_item": items.ravel(), "past_shop": shops.ravel()}
    pq.write_table(pa.table({name: values[log] for name, values in columns.items()}), folder / "events.parquet")
    count = users * rows_a_user
    user = np.repeat(np.arange(users), rows_a_user)
    at = draw.integers(span * 7 // 10, span, count)
    order = np.argsort(at, kind="stable")
    user, at = user[order], at[order]
    plain = {
        "user": user,
        "time": at,
        "price": draw.random(count).astype(np.float32),
        "item": draw.integers(1, ITEMS, count),
    }
    plain |= {"shop": draw.integers(0, SHOPS, count), "label": draw.integers(0, 2, count).astype(np.int8)}
    ends = np.array([np.searchsorted(times[one], moment) for one, moment in zip(user, at, strict=True)])
    begins = np.maximum(ends - longest, 0)
    group = max(1, GROUP_EVENTS // longest)
    writer: pq.ParquetWriter | None = None
    for start in range(0, count, group):
        part = slice(start, start + group)
        spans = list(zip(user[part], begins[part], ends[part], strict=True))
        offsets = np.concatenate([[0], np.cumsum(ends[part] - begins[part])]).astype(np.int32)
        made = {name: values[part] for name, values in plain.items()}
        for name, values in zip(LISTS, (items, shops, times), strict=True):
            flat = np.concatenate([values[one, begin:end] for one, begin, end in spans])
            made[name] = pa.ListArray.from_arrays(offsets, pa.array(flat))
        table = pa.table(made)
        writer = writer or pq.ParquetWriter(folder / "fat.parquet", table.schema, compression="zstd")
        writer.write_table(table)
    assert writer is not None
    writer.close()
    return count, users


class Form:
    """The rows of one form, and what reading them took in each round."""

    def __init__(self, source: Source, features: FeatureSchema, data: DataConfig) -> None:
        self.loader = Loader(source, features, fit(features, source), data, seed=0)
        self.seconds: list[float] = []

    def read(self, epoch: int) -> None:
        """Every batch made, none kept."""
        began, rows = time.process_time(), 0
        for batch, _ in self.loader.batches(epoch):
            rows += batch.rows
        assert rows == self.loader.rows
        self.seconds.append(time.process_time() - began)


def measure(longest: int, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One length. Raises RuntimeError where the forms' batches differ."""
    rows, users = write(folder, longest, options.events, options.rows_a_user)
    began = time.process_time()
    events(str(folder / "events.parquet"), str(folder / "store"), StoreOptions("user", "time"), memory=1.0)
    built = time.process_time() - began
    Path(folder / "plain").mkdir()
    fat = open_source(str(folder / "fat.parquet"))
    schema = pa.schema([field for field in fat.schemas[0] if field.name not in LISTS])
    with pq.ParquetWriter(folder / "plain" / "rows.parquet", schema, compression="zstd") as writer:
        for group in range(len(fat.group_rows)):
            writer.write_table(fat.read([group], schema.names))
    features = schema_of(longest)
    stores = {"user": "user", "time": "time", "stores": {"past": str(folder / "store")}, "cache": str(folder / "cache")}
    size = max(1, BATCH_EVENTS // longest)
    common = {"batch_size": size, "shuffle_rows": BUFFER_EVENTS // longest, "workers": 1}
    data = {"fat": DataConfig.model_validate(common), "store": DataConfig.model_validate({**common, "events": stores})}
    began = time.process_time()
    joined = open_rows(str(folder / "plain"), data["store"], features)
    assert isinstance(joined, JoinedSource)
    unpacked = time.process_time() - began
    forms = {"fat": Form(fat, features, data["fat"]), "store": Form(joined, features, data["store"])}
    _require_equal(forms)
    for epoch in range(options.rounds + 1):  # the first one warms up
        for form in forms.values():
            form.read(epoch)
    seconds = {name: statistics.median(form.seconds[1:]) for name, form in forms.items()}
    sizes = {name: _bytes(folder / name) for name in ("fat.parquet", "plain", "store", "cache")}
    mean = float(np.mean([len(one) for one in fat.read([0], ["past_item"])["past_item"].to_pylist()]))
    ratios = [one / other for one, other in zip(forms["fat"].seconds[1:], forms["store"].seconds[1:], strict=True)]
    return {
        "T": longest,
        "rows": rows,
        "users": users,
        "events_a_history": mean,
        "events_stored": users * (longest * 3 // 2),
        "fat_bytes_a_row": sizes["fat.parquet"] / rows,
        "store_bytes_a_row": (sizes["plain"] + sizes["store"]) / rows,
        "of_which_store": sizes["store"] / rows,
        "bytes_smaller": sizes["fat.parquet"] / (sizes["plain"] + sizes["store"]),
        "cache_bytes_a_row": sizes["cache"] / rows,
        "fat_rows_per_cpu_s": rows / seconds["fat"],
        "store_rows_per_cpu_s": rows / seconds["store"],
        "times_faster": statistics.median(ratios),
        "times_faster_least": min(ratios),
        "times_faster_most": max(ratios),
        "build_cpu_s": built,
        "unpack_cpu_s": unpacked,
    }


def _require_equal(forms: dict[str, Form]) -> None:
    pairs = zip(*(itertools.islice(form.loader.batches(0), 3) for form in forms.values()), strict=True)
    for (one, _), (other, _) in pairs:
        if not torch.equal(one.sequences.values(), other.sequences.values()) or not torch.equal(
            one.labels, other.labels
        ):
            raise RuntimeError("rows joined with the store give other batches than rows with histories in them")


def _bytes(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def table(cases: list[dict[str, Any]]) -> Table:
    """For the terminal."""
    shown = Table(box=None, header_style="bold")
    names = (
        "T",
        "rows",
        "fat_bytes_a_row",
        "store_bytes_a_row",
        "bytes_smaller",
        "fat_rows_per_cpu_s",
        "store_rows_per_cpu_s",
        "times_faster",
    )
    for name in names:
        shown.add_column(name.replace("_", " "), justify="right")
    for case in cases:
        shown.add_row(*(f"{case[name]:,.2f}" if isinstance(case[name], float) else f"{case[name]:,}" for name in names))
    return shown


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", default="100,1000,10000", help="newest events of a history")
    parser.add_argument("--events", type=int, default=4_000_000, help="of the histories of all rows")
    parser.add_argument("--rows-a-user", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cases = []
    for longest in map(int, options.lengths.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            cases.append(measure(longest, options, Path(folder)))
        Console(width=None if sys.stdout.isatty() else 160).print(table(cases[-1:]))
    command = " ".join(["python -m benchmarks.event_store", *sys.argv[1:]])
    write_result(
        options.json, {"benchmark": "event_store", **facts(torch.device("cpu")), "command": command, "cases": cases}
    )


if __name__ == "__main__":
    main()
