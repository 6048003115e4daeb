"""Training rows a second of this project's DIN, DCNv2 and BST beside FuxiCTR's, one process, one thread, CPU, in turns.

    python -m benchmarks.fuxictr --source FOLDER [--models din,dcnv2,bst] [--longest 100] [--batch 1024] [--rounds 9] [--json PATH]

--source: a checkout of https://github.com/reczoo/FuxiCTR, whose imports (pandas, polars, h5py, keras_preprocessing) are installed.
Both train models of the same sizes on the same made-up rows (KuaiRand's number of fields, histories 27% full). Both are whole steps,
data to optimizers: ours reads Parquet, theirs has all rows in memory, padded to the longest history, and its NpzDataLoader makes batches
of them. Theirs moves all rows of all tables by Adam, as it does by default; ours moves the rows that were read, by row-wise Adagrad. Times
are CPU seconds of the process.
"""

import argparse
import importlib
import itertools
import json
import sys
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.harness.interleaved import measure
from benchmarks.harness.machine import facts
from benchmarks.harness.result_file import write_result
from benchmarks.requests import AUTHORS, ITEM_FIELDS, ITEMS, USER_FIELDS, USERS, training, write_data
from interformer_rec.config import run as run_config
from interformer_rec.config.run import RunConfig
from interformer_rec.distributed.environment import process_group

DIM, HIDDEN, BATCHES = 16, [256, 128], 4
IDS = {
    "user_id": USERS,
    "item": ITEMS,
    "author": AUTHORS,
    **{f"user{i}": 20 for i in range(USER_FIELDS)},
    **{f"item{i}": 50 for i in range(ITEM_FIELDS)},
}
HISTORY = ("item", "author")
OURS = {
    "din": {"hidden": HIDDEN, "activation": "relu", "attention": [64]},
    "dcnv2": {"hidden": HIDDEN, "cross_layers": 3},
    "bst": {"hidden": HIDDEN, "activation": "relu", "heads": 2, "layers": 1, "feedforward": 48, "pooling": "mean"},
}
FIELDS = {"target_field": [HISTORY], "sequence_field": [tuple(f"watch_{name}" for name in HISTORY)]}
THEIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "din": (
        "DIN",
        {"dnn_hidden_units": HIDDEN, "attention_hidden_units": [64], **{f"din_{k}": v for k, v in FIELDS.items()}},
    ),
    "dcnv2": ("DCNv2", {"parallel_dnn_hidden_units": HIDDEN, "num_cross_layers": 3}),
    "bst": ("BST", {"dnn_hidden_units": HIDDEN, "num_heads": 2, **{f"bst_{k}": v for k, v in FIELDS.items()}}),
}


def our_config(rows: Path, kind: str, longest: int, batch: int) -> RunConfig:
    """A run of one kind on the rows."""
    events = [{"name": name, "column": f"watch_{name}", "table": name} for name in HISTORY]
    tree = {
        "name": kind,
        "data": {"train": str(rows), "batch_size": batch, "shuffle_rows": 0},
        "features": {
            "tables": {name: {"ids": "identity", "num_embeddings": count} for name, count in IDS.items()},
            "ids": list(IDS),
            "sequences": [{"name": "watch", "max_length": longest, "columns": events}],
            "labels": ["label"],
        },
        "model": {"kind": kind, "embedding_dim": DIM, **OURS[kind]},
        "training": {"device": "cpu"},
    }
    return run_config.parse_yaml(yaml.safe_dump(tree), kind)


def their_training(kind: str, table: pa.Table, folder: Path, longest: int, batch: int) -> Iterator[float]:
    """The loss of one step after another. Their id 0 is padding, so ids are one more than ours."""
    feature_map = importlib.import_module("fuxictr.features").FeatureMap("made_up", "")
    features: OrderedDict[str, dict[str, Any]] = OrderedDict(
        (name, {"source": "", "type": "categorical", "padding_idx": 0, "vocab_size": count + 1})
        for name, count in IDS.items()
    )
    for name in HISTORY:
        spec = {"source": "", "type": "sequence", "padding_idx": 0, "vocab_size": IDS[name] + 1, "max_len": longest}
        pooled = {"feature_encoder": "layers.MaskedAveragePooling()"} if kind == "dcnv2" else {}
        features[f"watch_{name}"] = {**spec, "share_embedding": name, **pooled}
    feature_map.features, feature_map.labels, feature_map.default_emb_dim = features, ["label"], DIM
    feature_map.num_fields = feature_map.get_num_fields()
    module, options = THEIRS[kind]
    model = getattr(importlib.import_module(f"model_zoo.{module}.src"), module)(
        feature_map, embedding_dim=DIM, gpu=-1, optimizer="adam", loss="binary_crossentropy", learning_rate=1e-3,
        metrics=["AUC"], verbose=0, model_root=tempfile.gettempdir(), **options,
    )  # fmt: skip
    model._max_gradient_norm = 10.0  # of its fit()
    model.train()
    file = folder / f"{kind}.npz"
    np.savez(file, **_padded(table, longest))
    loaders = importlib.import_module("fuxictr.pytorch.dataloaders.npz_dataloader")
    # without a worker process, whose CPU time would not be counted
    loader = loaders.NpzDataLoader(feature_map, str(file), batch_size=batch, num_workers=0)
    for one in itertools.chain.from_iterable(itertools.repeat(loader)):
        yield model.train_step(one).item()


def _padded(table: pa.Table, longest: int) -> dict[str, np.ndarray]:
    found = {name: table[name].to_numpy().astype(np.int64) + 1 for name in IDS}
    for name in HISTORY:
        events = table[f"watch_{name}"]
        lengths = pc.list_value_length(events).to_numpy()
        padded = np.zeros((len(table), longest), np.int64)
        padded[np.arange(longest) < lengths[:, None]] = pc.list_flatten(events).to_numpy() + 1
        found[f"watch_{name}"] = padded
    return {**found, "label": table["label"].to_numpy().astype(np.int64)}


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--models", default=",".join(OURS))
    parser.add_argument("--longest", type=int, default=100)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json")
    options = parser.parse_args()
    if not (options.source / "model_zoo").is_dir():
        parser.error(f"--source {options.source} has no model_zoo/: it is no checkout of FuxiCTR")
    kinds = options.models.split(",")
    for kind in kinds:
        if kind not in OURS:
            parser.error(f"--models: {kind!r} is none of {', '.join(OURS)}")
    sys.path.insert(0, str(options.source))
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    with process_group("cpu") as env, tempfile.TemporaryDirectory() as name:
        write_data(Path(name), 1, options.longest, options.batch * BATCHES)
        file = Path(name, "impressions.parquet")
        version = importlib.import_module("fuxictr").__version__
        result = {"benchmark": "fuxictr", **facts(env.device), "fuxictr": version, "cases": rows}
        for kind in kinds:
            streams = {
                "ours": training(our_config(file, kind, options.longest, options.batch), env),
                "theirs": their_training(kind, pq.read_table(file), Path(name), options.longest, options.batch),
            }
            steps: dict[str, Callable[[], object]] = {who: (lambda s=s: next(s)) for who, s in streams.items()}
            times = measure(steps, rounds=options.rounds, clock=process_time)
            rows.append(
                {
                    "kind": kind,
                    "longest": options.longest,
                    "batch": options.batch,
                    **{f"{who}_rows_per_cpu_second": options.batch / times[who].median for who in steps},
                    "times_faster": times["ours"].ratio(times["theirs"]),
                    "repeats": options.rounds,
                }
            )
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    shown = Table(box=None, header_style="bold")
    for column in ("kind", "ours, rows/CPU s", "FuxiCTR's", "times faster", "middle half"):
        shown.add_column(column, justify="right")
    for row in rows:
        ratio = row["times_faster"]
        rates = (f"{row[f'{who}_rows_per_cpu_second']:,.0f}" for who in ("ours", "theirs"))
        shown.add_row(row["kind"], *rates, f"{ratio['median']:.2f}", f"{ratio['p25']:.2f} to {ratio['p75']:.2f}")
    Console(width=None if sys.stdout.isatty() else 160).print(shown)
    write_result(options.json, result)


if __name__ == "__main__":
    main()
