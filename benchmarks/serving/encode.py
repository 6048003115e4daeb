"""CPU time of a request's encoding: the thin encoder against the training Decoder, which makes the same table rows of the same row.

    python -m benchmarks.serving.encode [--data PATH] [--json PATH] [--repeats 9]

One thread, process time, repeats interleaved, medians; the ratios are what counts. The Decoder gets its row as an Arrow table, so that what
a server would need to make one of JSON is not counted. The data: KuaiRand-Pure's train.parquet (--data, or the environment variable
KUAIRAND_PURE: the file or its folder), else the synthetic file of benchmarks.data.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.data import schema_of, write_synthetic
from benchmarks.harness.result_file import write_result
from interformer_rec.config.features import FeatureSchema
from interformer_rec.data.decode.decoder import Decoder
from interformer_rec.data.files.source import open_source
from interformer_rec.data.fit import fit
from interformer_rec.serving.encode.encoder import Encoder
from interformer_rec.serving.signature import signature_of

CANDIDATE = ["video_id", "author_id", "tags"]  # the item shown
SIZES = (1, 50, 500)  # candidates of a request, rows of a batch
TARGET = 0.1  # of the Decoder, one row
CALLS = {1: 100, 50: 20, 500: 5}  # that are timed together


def measure(path: str, repeats: int) -> dict[str, Any]:
    """Microseconds of CPU time for each form and size, and the ratio to the Decoder for one row."""
    source = open_source(path)
    features = FeatureSchema.model_validate({**schema_of(source.schemas[0]).model_dump(), "candidate": CANDIDATE})
    fitted = fit(features, source)
    assert fitted.meaning is not None
    signature = signature_of(fitted.meaning)
    encoder, decoder = Encoder(features, fitted, signature), Decoder(features, fitted, labels=False)
    names = [one.name for one in signature.inputs]
    table = source.read([0], names).slice(0, max(SIZES)).combine_chunks()
    runs = _runs(encoder, decoder, table, {one.name for one in signature.inputs if one.part == "user"})
    seconds: dict[tuple[str, int], list[float]] = {run: [] for run in runs}
    for repeat in range(repeats + 1):  # the first round warms up
        for run, call in runs.items():
            began = time.process_time()
            for _ in range(CALLS[run[1]]):
                call()
            if repeat:
                seconds[run].append((time.process_time() - began) / CALLS[run[1]])
    pairs = zip(seconds["row as an object", 1], seconds["Decoder", 1], strict=True)
    return {
        "data": "/".join(Path(path).parts[-2:]),
        "columns": len(names),
        "events": sum(len(table[group][0]) for group in names if pa.types.is_list(table[group].type)),
        "repeats": repeats,
        "ratio_one_row": statistics.median(ours / theirs for ours, theirs in pairs),
        "target": TARGET,
        "cases": [
            {"form": form, "rows": rows, "cpu_microseconds": round(statistics.median(times) * 1e6, 1)}
            for (form, rows), times in seconds.items()
        ],
    }


def _runs(
    encoder: Encoder, decoder: Decoder, table: pa.Table, users: set[str]
) -> dict[tuple[str, int], Callable[[], object]]:
    """(form, rows) -> one call. Candidates are those of the first row's user."""
    own = [name for name in table.column_names if name not in users]
    objects = table.to_pylist()
    user = {name: objects[0][name] for name in table.column_names if name in users}
    arrow_user = table.slice(0, 1).select(list(user))
    runs: dict[tuple[str, int], Callable[[], object]] = {}
    for rows in SIZES:
        few, part = objects[:rows], table.slice(0, rows).combine_chunks()
        candidates = [{name: row[name] for name in own} for row in few]
        lists = {name: [row[name] for row in few] for name in own}
        arrow = part.select(own)
        runs["Decoder", rows] = lambda part=part: decoder(part, str)
        runs["row as an object", rows] = lambda few=few: encoder.score(few)
        runs["row as an Arrow table", rows] = lambda part=part: encoder.score(part)
        runs["user, candidates as objects", rows] = lambda given=candidates: encoder.rank(user, given)
        runs["user, candidates as lists", rows] = lambda given=lists: encoder.rank(user, given)
        runs["user, candidates as an Arrow table", rows] = lambda given=arrow: encoder.rank(arrow_user, given)
    return runs


def main() -> None:
    """Parse, measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", default=os.environ.get("KUAIRAND_PURE"), help="a KuaiRand-Pure train.parquet or its folder"
    )
    parser.add_argument("--json", help="write the result here")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    pa.set_cpu_count(1)
    with tempfile.TemporaryDirectory() as folder:
        path = options.data or str(Path(folder) / "synthetic.parquet")
        if options.data is None:
            write_synthetic(Path(path), rows=10_000)
        elif os.path.isdir(path):
            path = os.path.join(path, "train.parquet")
        result = measure(path, options.repeats)
    print(f"{result['columns']} columns, {result['events']} list elements in the first row")
    for case in result["cases"]:
        print(f"{case['form']:35} {case['rows']:4} rows {case['cpu_microseconds']:10,.0f} us")
    print(f"one row as an object against the Decoder: {result['ratio_one_row']:.3f}, target {TARGET}")
    write_result(options.json, result)


if __name__ == "__main__":
    main()
