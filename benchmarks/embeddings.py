"""Table lookups and the fused update through TorchRec and FBGEMM, in bytes a second against the measured copy bandwidth.

    python -m benchmarks.embeddings [--dims 16,64,128,256] [--pooling 1,10,100] [--ids uniform,zipf] [--table-rows 500000]
        [--lookups 65536] [--device auto] [--ranks 1] [--rounds 9] [--json PATH]

One table. `bags` (EmbeddingBagCollection): --lookups ids a rank in bags of --pooling, summed. `events` (EmbeddingCollection): a vector an
id, with and without deduplication. Built by distributed/parallelize.py, as training does. The named alternative is torch.nn.EmbeddingBag
or Embedding with sparse gradients and torch.optim.Adagrad; FBGEMM's `adagrad` is the same arithmetic (checked before timing, on one
rank), `rowwise_adagrad` is what training uses by default, on a CPU `unpooled` the same with FBGEMM's kernel for events instead of
distributed/lookup/event_bags.py. Phases: `lookup` (no gradients) and `step` (lookup, backward, update).

Bytes counted are those that have to move, L ids, U distinct ones, V vectors out, D floats each: lookup 4D (L + V), a step 4D (L + 2V + 2U),
that is rows read, vectors written, their gradients read, distinct rows read and written. Rows found in a cache can take the rate
above that of a copy. With --ranks over 1 each rank reads its own ids (V counts what it gets), and the rate is that of a rank.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.multiprocessing as mp
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torchrec.modules.embedding_configs import EmbeddingBagConfig, EmbeddingConfig
from torchrec.modules.embedding_modules import EmbeddingBagCollection, EmbeddingCollection
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from benchmarks.harness.interleaved import Times, measure
from benchmarks.harness.machine import facts
from benchmarks.harness.result_file import write_result
from interformer_rec.benchmarking.machine import copy_bandwidth
from interformer_rec.config.optimizer import EmbeddingOptimizer, OptimizerConfig, Schedule
from interformer_rec.config.run import ShardingConfig
from interformer_rec.distributed.environment import Environment, process_group
from interformer_rec.distributed.lookup.tables import FirstWeights, local_shards, lookup_kernels
from interformer_rec.distributed.optimizer import LearningRate
from interformer_rec.distributed.parallelize import parallelize
from interformer_rec.planning.torchrec_plan import torchrec_plan

META = torch.device("meta")
LR = 0.1


@dataclass(frozen=True)
class Case:
    """One table and one way to read it; every rank draws ids of its own."""

    kind: str  # bags or events
    dim: int
    pooling: int
    ids: str  # uniform or zipf
    table_rows: int
    lookups: int

    def draw(self, rank: int) -> KeyedJaggedTensor:
        """The ids, in bags or histories of `pooling`; zipf: the k-th most frequent is drawn with probability ~ 1 / k."""
        generator = torch.Generator().manual_seed(rank)
        if self.ids == "uniform":
            ids = torch.randint(self.table_rows, (self.lookups,), generator=generator)
        else:
            chances = (1 / torch.arange(1, self.table_rows + 1, dtype=torch.float64)).cumsum(0)
            drawn = torch.rand(self.lookups, generator=generator, dtype=torch.float64) * chances[-1]
            # frequent rows are no neighbours
            places = torch.randperm(self.table_rows, generator=torch.Generator().manual_seed(0))
            ids = places[torch.searchsorted(chances, drawn).clamp_(max=self.table_rows - 1)]
        lengths = torch.full((self.lookups // self.pooling,), self.pooling, dtype=torch.int32)
        return KeyedJaggedTensor(["t"], ids[: len(lengths) * self.pooling], lengths=lengths)


class OneTable(nn.Module):
    """A collection of one table; forward gives its vectors."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        options: dict[str, Any] = {
            "name": "t",
            "embedding_dim": case.dim,
            "num_embeddings": case.table_rows,
            "feature_names": ["t"],
        }
        self.ebc = EmbeddingBagCollection([EmbeddingBagConfig(**options)], device=META) if case.kind == "bags" else None
        self.ec = EmbeddingCollection([EmbeddingConfig(**options)], device=META) if case.kind == "events" else None

    def forward(self, ids: KeyedJaggedTensor) -> Tensor:
        """(bags, dim) or (ids, dim)."""
        return self.ebc(ids).values() if self.ebc is not None else self.ec(ids)["t"].values()


class Ours:
    """TorchRec's sharded collection with the optimizer in FBGEMM's backward kernel."""

    def __init__(
        self, case: Case, env: Environment, kind: str, deduplicate: bool = False, unpooled: bool = False
    ) -> None:
        model, default = OneTable(case), "table_wise" if env.world_size == 1 else "auto"
        sharding = ShardingConfig.model_validate({"default": default, "deduplicate": deduplicate})
        plan = torchrec_plan(model, env, batch_size=case.lookups // case.pooling, sharding=sharding)
        self.parallel = parallelize(
            model,
            env,
            plan=plan,
            sharding=sharding,
            optimizer=OptimizerConfig(embedding=EmbeddingOptimizer.model_validate({"kind": kind, "lr": LR})),
            rate=LearningRate(Schedule(), lambda: 1, True),
            first_weights=FirstWeights(1, {"t": 0.1}),
        )
        self.parallel.optimizer.zero_grad()  # sets the learning rate
        self.ids = case.draw(env.rank).to(env.device)
        for kernel in lookup_kernels(self.parallel.model) if unpooled else ():
            vars(kernel).pop("forward", None)

    def weight(self) -> Tensor:
        """The table, on one rank."""
        return next(local_shards(self.parallel.model)).tensor

    def lookup(self) -> Tensor:
        """Without gradients."""
        with torch.no_grad():
            return self.parallel.model(self.ids)

    def step(self) -> None:
        """Lookup, and backward with the update inside."""
        out = self.parallel.model(self.ids)
        out.backward(torch.ones_like(out))


class Plain:
    """torch.nn.EmbeddingBag or Embedding with sparse gradients, and torch.optim.Adagrad."""

    def __init__(self, case: Case, env: Environment) -> None:
        ids = case.draw(env.rank).to(env.device)
        self.arguments = (ids.values(), ids.offsets()[:-1].long()) if case.kind == "bags" else (ids.values(),)
        shape = (case.table_rows, case.dim)
        self.table: nn.Module = (
            nn.EmbeddingBag(*shape, mode="sum", sparse=True, include_last_offset=False, device=env.device)
            if case.kind == "bags"
            else nn.Embedding(*shape, sparse=True, device=env.device)
        )
        self.optimizer = torch.optim.Adagrad(self.table.parameters(), lr=LR, eps=EmbeddingOptimizer().eps)

    def lookup(self) -> Tensor:
        """Without gradients."""
        with torch.no_grad():
            return self.table(*self.arguments)

    def step(self) -> None:
        """Lookup, backward, update."""
        self.optimizer.zero_grad(set_to_none=True)
        out = self.table(*self.arguments)
        out.backward(torch.ones_like(out))
        self.optimizer.step()


def check(ours: Ours, plain: Plain) -> None:
    """The same vectors from the same weights, and the same weights after a step."""
    with torch.no_grad():
        plain.table.weight.copy_(ours.weight())  # type: ignore[operator,union-attr]
    torch.testing.assert_close(ours.lookup(), plain.lookup(), atol=1e-4, rtol=1e-4)
    ours.step()
    plain.step()
    torch.testing.assert_close(ours.weight(), plain.table.weight.detach(), atol=1e-5, rtol=1e-4)  # type: ignore[union-attr,operator]


def measure_case(case: Case, env: Environment, rounds: int, bandwidth: float) -> list[dict[str, Any]]:
    """One row an alternative and phase, timed in turns."""
    alternatives: dict[str, Ours | Plain] = {"adagrad": Ours(case, env, "adagrad")}
    if env.world_size == 1:
        alternatives["torch"] = Plain(case, env)
        check(alternatives["adagrad"], alternatives["torch"])  # type: ignore[arg-type]
    alternatives["rowwise_adagrad"] = Ours(case, env, "rowwise_adagrad")
    if case.kind == "events":
        alternatives["rowwise_adagrad, deduplicated"] = Ours(case, env, "rowwise_adagrad", deduplicate=True)
        if env.device.type == "cpu":
            alternatives["rowwise_adagrad, unpooled"] = Ours(case, env, "rowwise_adagrad", unpooled=True)
    ids = case.draw(env.rank).values()
    distinct = len(ids.unique())
    vectors = len(ids) // case.pooling if case.kind == "bags" else len(ids)
    rows = []
    for phase, moved in (("lookup", len(ids) + vectors), ("step", len(ids) + 2 * vectors + 2 * distinct)):
        work: dict[str, Callable[[], object]] = {name: getattr(one, phase) for name, one in alternatives.items()}
        times = measure(work, rounds, device=env.device)
        for name, taken in times.items():
            rate = 4 * case.dim * moved / taken.median
            row = {**case.__dict__, "alternative": name, "phase": phase, "ranks": env.world_size, "distinct": distinct}
            row |= {**taken.to_dict(), "gb_per_second": rate / 1e9, "of_ceiling": rate / bandwidth}
            rows.append({**row, "ratio": _against(taken, times.get("torch"))})
    return rows


def _against(ours: Times, plain: Times | None) -> float | None:
    """Times as fast as the alternative."""
    return None if plain is None else ours.ratio(plain)["median"]


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """bags over all of it; events need one length of history."""
    numbers = {name: [int(part) for part in getattr(options, name).split(",")] for name in ("dims", "pooling")}
    for dim in numbers["dims"]:
        for ids in options.ids.split(","):
            for pooling in numbers["pooling"]:
                yield Case("bags", dim, pooling, ids, options.table_rows, options.lookups)
            yield Case("events", dim, numbers["pooling"][-1], ids, options.table_rows, options.lookups)


def rank_main(rank: int, options: argparse.Namespace, store: str) -> None:
    """One rank's part; rank 0 prints and writes."""
    if options.ranks > 1:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        sizes = (rank, options.ranks, rank, options.ranks)
        os.environ.update({name: str(value) for name, value in zip(names, sizes, strict=True)})
    torch.set_num_threads(options.threads)
    with process_group(options.device, rendezvous=f"file://{store}") as env:
        bandwidth = copy_bandwidth(env.device)
        rows = []
        for case in cases(options):
            rows += measure_case(case, env, options.rounds, bandwidth)
        if not env.is_main:
            return
        show(rows, bandwidth)
        write_result(
            options.json,
            {"benchmark": "embeddings", **facts(env.device), "copy_gb_per_second": bandwidth / 1e9, "cases": rows},
        )


def show(rows: list[dict[str, Any]], bandwidth: float) -> None:
    """A table on the terminal."""
    shown = Table(box=None, header_style="bold", title=f"a copy moves {bandwidth / 1e9:.1f} GB/s")
    for name in ("table", "alternative", "phase", "distinct", "P50 ms", "GB/s", "of a copy", "times torch"):
        shown.add_column(name, justify="left" if name in ("table", "alternative", "phase") else "right")
    for row in rows:
        table = f"{row['kind']} dim {row['dim']} pooling {row['pooling']} {row['ids']}"
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
        shown.add_row(
            table, row["alternative"], row["phase"], f"{row['distinct']:,}", f"{row['p50_ms']:.2f}", f"{row['gb_per_second']:.1f}",
            f"{row['of_ceiling']:.0%}", ratio,
        )  # fmt: skip
    Console(width=None if sys.stdout.isatty() else 160).print(shown)


def main() -> None:
    """Parse, start the ranks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dims", default="16,64,128,256")
    parser.add_argument("--pooling", default="1,10,100", help="ids a bag; the last one is also the length of histories")
    parser.add_argument("--ids", default="uniform,zipf")
    parser.add_argument("--table-rows", type=int, default=500_000)
    parser.add_argument("--lookups", type=int, default=65_536, help="ids a rank and step")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="of each rank")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.ranks == 1:
            rank_main(0, options, f"{folder}/store")
        else:
            mp.spawn(rank_main, (options, f"{folder}/store"), nprocs=options.ranks)


if __name__ == "__main__":
    main()
