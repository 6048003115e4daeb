"""Checkpoints of tables of several GB: how long training stalls, how long saving and loading take, against raw file access.

    python -m benchmarks.checkpoint [--gigabytes 0.5,2] [--ranks 1,2] [--repeats 3] [--folder DIR] [--json PATH]

Two tables (one pooled, one of a history) with row-wise Adagrad, row-wise sharded where TorchRec can. On the same disk and in the same
run, in turns: the same bytes written and read by the operating system in pieces of 16 MiB ("raw": write + fsync; read
with a cold page cache), this package's save (training waits), its asynchronous save, an increment after 1% of the rows
were looked up, its load, and torch.distributed.checkpoint's save and load of the same tables' weights and optimizer state
("DCP"). Medians. Peak memory is the resident set's high-water mark beyond what the tables need. Recovery times after a
kill are in benchmarks.faults.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from torch import nn
from torchrec.modules.embedding_configs import EmbeddingBagConfig, EmbeddingConfig
from torchrec.modules.embedding_modules import EmbeddingBagCollection, EmbeddingCollection
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from benchmarks.harness.result_file import write_result
from interformer_rec.checkpoint.read import load
from interformer_rec.checkpoint.retention import Checkpoints
from interformer_rec.checkpoint.saver import Saver
from interformer_rec.config.optimizer import EmbeddingOptimizer, OptimizerConfig, Schedule
from interformer_rec.config.run import CheckpointConfig, ShardingConfig
from interformer_rec.distributed.environment import Environment, process_group
from interformer_rec.distributed.lookup.tables import FirstWeights
from interformer_rec.distributed.optimizer import LearningRate
from interformer_rec.distributed.parallelize import Parallel, parallelize
from interformer_rec.distributed.state import local_state
from interformer_rec.install import stack
from interformer_rec.planning.torchrec_plan import torchrec_plan
from interformer_rec.training.measure.memory import held, peak, reset_peak

CPU = torch.device("cpu")
DIM = 64
PIECE = 16 << 20
TOUCHED = 0.01


class Tables(nn.Module):
    """Two tables and a dense layer."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        shape = {"embedding_dim": DIM, "num_embeddings": rows}
        meta = torch.device("meta")
        self.ebc = EmbeddingBagCollection(
            tables=[EmbeddingBagConfig(name="pooled", feature_names=["pooled"], **shape)], device=meta
        )
        self.ec = EmbeddingCollection(
            tables=[EmbeddingConfig(name="history", feature_names=["history"], **shape)], device=meta
        )
        self.out = nn.Linear(2 * DIM, 1)

    def forward(self, pooled: KeyedJaggedTensor, history: KeyedJaggedTensor) -> torch.Tensor:
        """(B, 1)."""
        return self.out(torch.cat([self.ebc(pooled).values(), self.ec(history)["history"].values()], 1))


def build(env: Environment, rows: int) -> Parallel:
    """The model on all ranks."""
    model, sharding = Tables(rows), ShardingConfig(tables={"pooled": "table_wise", "history": "row_wise"})
    plan = torchrec_plan(model, env, batch_size=1024, sharding=sharding)
    return parallelize(
        model,
        env,
        plan=plan,
        sharding=sharding,
        optimizer=OptimizerConfig(embedding=EmbeddingOptimizer(kind="rowwise_adagrad")),
        rate=LearningRate(Schedule(), lambda: 1, True),
        first_weights=FirstWeights(0, {"pooled": 0.1, "history": 0.1}),
    )


def step(parallel: Parallel, rows: int, batch: int, seed: int) -> None:
    """One training step that looks up `batch` random rows of each table."""
    generator = torch.Generator().manual_seed(seed)
    ones = torch.ones(batch, dtype=torch.int32)
    pooled, history = (
        KeyedJaggedTensor([name], torch.randint(rows, (batch,), generator=generator), lengths=ones)
        for name in ("pooled", "history")
    )
    parallel.optimizer.zero_grad()
    parallel.model(pooled, history).mean().backward()
    parallel.optimizer.step()


def timed(work: Callable[[], Any]) -> float:
    """Seconds of the slowest rank."""
    dist.barrier()
    began = time.perf_counter()
    work()
    seconds = torch.tensor(time.perf_counter() - began)
    dist.all_reduce(seconds, dist.ReduceOp.MAX)
    return float(seconds)


def forget(folder: Path) -> None:
    """Out of the page cache, so that reading reads the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Peak:
    """Bytes by which this process's resident set grew at most inside the block."""

    def __enter__(self) -> Peak:
        reset_peak(CPU)
        self.before, self.bytes = held(CPU) or 0, 0
        return self

    def __exit__(self, *_: object) -> None:
        self.bytes = (peak(CPU) or 0) - self.before


def raw_write(path: Path, size: int) -> None:
    """`size` bytes from memory to the disk."""
    piece = memoryview(torch.arange(PIECE // 8).numpy()).cast("B")
    with path.open("wb") as file:
        for start in range(0, size, PIECE):
            file.write(piece[: min(PIECE, size - start)])
        file.flush()
        os.fsync(file.fileno())


def raw_read(path: Path) -> None:
    """All of a file, into one buffer again and again."""
    buffer = bytearray(PIECE)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def measure_rank(env: Environment, rows: int, repeats: int, folder: Path) -> dict[str, Any]:
    """Every time and every peak of one size on this world size; the same on every rank but for the peaks."""
    parallel = build(env, rows)
    step(parallel, rows, 1024, 0)
    mine = sum(part.numel() * part.element_size() for _, parts in local_state(parallel) for part in parts.values())
    seconds: dict[str, list[float]] = {}
    peaks: dict[str, list[int]] = {}

    def take(name: str, work: Callable[[], Any]) -> None:
        with Peak() as grown:
            spent = timed(work)
        seconds.setdefault(name, []).append(spent)
        peaks.setdefault(name, []).append(grown.bytes)

    records: list[dict[str, Any]] = []
    places = {name: folder / name for name in ("raw", "waiting", "asynchronous", "increments", "dcp")}
    places["raw"].mkdir(parents=True, exist_ok=True)
    waiting = Saver(Checkpoints(places["waiting"]), parallel, env, CheckpointConfig(keep=1, asynchronous=False))
    background = Saver(
        Checkpoints(places["asynchronous"]), parallel, env, CheckpointConfig(keep=1), done=records.append
    )
    rows_alone = CheckpointConfig(keep=1, full_every=10**6, asynchronous=False)
    increments = Saver(Checkpoints(places["increments"]), parallel, env, rows_alone)
    increments.save({"step": 0})
    step(parallel, rows, int(TOUCHED * rows / env.world_size), 1)
    state = {"model": parallel.model.state_dict(), "fused": parallel.optimizer.fused.state_dict()}
    raw = places["raw"] / f"{env.rank}"
    for repeat in range(1, repeats + 1):
        take("raw write", lambda: raw_write(raw, mine))
        take("save, training waits", lambda n=repeat: waiting.save({"step": n}))
        take("save, asynchronous, stall", lambda n=repeat: background.save({"step": n}))
        seconds.setdefault("save, asynchronous, until whole", []).append(
            seconds["save, asynchronous, stall"][-1] + timed(background.wait)
        )
        take("increment of 1% of the rows", lambda n=repeat: increments.save({"step": n}))
        if env.is_main:
            shutil.rmtree(places["dcp"], ignore_errors=True)
        take("DCP save", lambda: dcp.save(state, checkpoint_id=places["dcp"]))
        for place in places.values():
            forget(place)
        take("raw read", lambda: raw_read(raw))
        checkpoint = waiting.checkpoints.storage.folder(waiting.checkpoints.newest_first()[0])
        take("load", lambda c=checkpoint: load(c, parallel, env))
        take("DCP load", lambda: dcp.load(state, checkpoint_id=places["dcp"]))
    total = torch.tensor(mine, dtype=torch.float64)
    dist.all_reduce(total)
    return {"bytes": int(total), "seconds": seconds, "peaks": peaks, "largest_shard": largest_shard(parallel)}


def largest_shard(parallel: Parallel) -> int:
    """Bytes of the weights of this rank's largest shard."""
    return max((s.tensor.numel() * s.tensor.element_size() for s, _ in local_state(parallel)), default=0)


def _rank(rank: int, world: int, rows: int, repeats: int, folder: str, out: str) -> None:
    torch.set_num_threads(1)
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    os.environ.update({name: str(n) for name, n in zip(names, (rank, world, rank, world), strict=True)})
    with process_group("cpu", rendezvous=f"file://{folder}/store") as env:
        found = measure_rank(env, rows, repeats, Path(folder))
        parts: list[Any] = [None] * world
        dist.all_gather_object(parts, {"peaks": found["peaks"], "largest_shard": found["largest_shard"]})
        if env.is_main:
            peaks = {name: max(max(part["peaks"][name]) for part in parts) for name in found["peaks"]}
            found |= {"peaks": peaks, "largest_shard": max(part["largest_shard"] for part in parts)}
            Path(out).write_text(json.dumps(found), encoding="utf-8")


def measure(gigabytes: float, world: int, repeats: int, folder: str | None) -> dict[str, Any]:
    """One size on one world size."""
    rows = int(gigabytes * 1e9 / 2 / (4 * DIM + 4))
    with tempfile.TemporaryDirectory(dir=folder) as place:
        out = f"{place}/result.json"
        mp.spawn(_rank, (world, rows, repeats, place, out), nprocs=world)
        found = json.loads(Path(out).read_text(encoding="utf-8"))
    medians = {name: statistics.median(times) for name, times in found["seconds"].items()}
    return {
        "ranks": world,
        "bytes": found["bytes"],
        "rows_a_table": rows,
        "largest_shard_bytes": found["largest_shard"],
        "seconds": medians,
        "seconds_all": found["seconds"],
        "peak_bytes": found["peaks"],
        "ratio": {
            "save, training waits / raw write": medians["save, training waits"] / medians["raw write"],
            "stall / save, training waits": medians["save, asynchronous, stall"] / medians["save, training waits"],
            "load / raw read": medians["load"] / medians["raw read"],
            "save / DCP save": medians["save, training waits"] / medians["DCP save"],
            "load / DCP load": medians["load"] / medians["DCP load"],
        },
    }


def show(result: dict[str, Any]) -> None:
    """A table on the screen."""
    size = result["bytes"]
    print(
        f"\n{size / 1e9:.2f} GB, {result['ranks']} rank(s), largest shard {result['largest_shard_bytes'] / 1e9:.2f} GB"
    )
    for name, seconds in result["seconds"].items():
        peak = result["peak_bytes"].get(name)
        extra = f"  peak memory +{peak / 1e9:5.2f} GB" if peak is not None else ""
        print(f"  {name:34} {seconds:8.2f} s  {size / seconds / 1e9:6.2f} GB/s{extra}")
    for name, ratio in result["ratio"].items():
        print(f"  {name:34} {ratio:8.2f}")


def main() -> None:
    """Parse, measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", default="0.5,2", help="sizes of tables and optimizer state, with commas")
    parser.add_argument("--ranks", default="1,2", help="world sizes, with commas")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", help="a folder on the disk to measure; default: the system's temporary folder")
    parser.add_argument("--json", help="write the results here")
    options = parser.parse_args()
    results = []
    for world in map(int, options.ranks.split(",")):
        for gigabytes in map(float, options.gigabytes.split(",")):
            results.append(measure(gigabytes, world, options.repeats, options.folder))
            show(results[-1])
    if options.json:
        versions = stack.read()
        machine = {
            "cpus": os.cpu_count(),
            "memory_bytes": psutil.virtual_memory().total,
            "torch": versions.torch,
            "torchrec": versions.torchrec,
        }
        write_result(options.json, {"machine": machine, "results": results})


if __name__ == "__main__":
    main()
