"""What travels between ranks in a step. In: a Problem and placed options; out: Traffic, bytes by rank and link.

Who sends is known shard by shard (work.py); who receives follows from the exchange: vectors go to the rank of their row, so every other
rank gets an equal part of what a rank sends to its node, and of what it sends to other nodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torchrec.distributed.planner.types import ShardingOption

from interformer_rec.planning.cost.load import FLOAT
from interformer_rec.planning.cost.work import Work, work
from interformer_rec.planning.question import Problem

PARTS = ("near", "far", "near_back", "far_back", "near_ids", "far_ids")
ALL_REDUCE = "far_all_reduce"
FAR = {"vectors": "far", "gradients of vectors": "far_back", "ids": "far_ids"}


@dataclass(frozen=True)
class Traffic:
    """(ranks,) bytes of a step by part of it: vectors, gradients (`_back`) and ids, to the node (`near`) or beyond (`far`).

    `owner` is by the rank that holds the table: it sends vectors, and receives gradients and ids.
    """

    owner: dict[str, np.ndarray]
    local: int  # ranks a node
    all_reduce: float = 0.0  # bytes that a rank sends to the next node in all-reduces: dense part, replicated tables

    @classmethod
    def read(cls, sent: Mapping[str, Any], local: int) -> Traffic:
        """From a plan's `sent`."""
        return cls({part: np.array(sent[part]) for part in PARTS}, local, sent[ALL_REDUCE])

    def to_dict(self) -> dict[str, Any]:
        """A plan's `sent`."""
        return {**{part: values.tolist() for part, values in self.owner.items()}, ALL_REDUCE: self.all_reduce}

    @property
    def hosts(self) -> dict[str, np.ndarray]:
        """(nodes,) bytes that a host sends to others, by what they are. Those of vectors, gradients and ids go to all alike."""
        found = {name: self.sent(part).reshape(-1, self.local).sum(1) for name, part in FAR.items()}
        return {**found, "all-reduce": np.full(len(found["ids"]), self.all_reduce * self.local)}

    @property
    def between_hosts(self) -> tuple[np.ndarray, np.ndarray]:
        """(nodes,) and (nodes,) bytes: from host i to another host j travel first[i] + second[j], and to the next one the all-reduce."""
        others = max(1, len(self.owner["far"]) // self.local - 1)
        owned = {part: self.owner[part].reshape(-1, self.local).sum(1) / others for part in FAR.values()}
        return owned["far"], owned["far_back"] + owned["far_ids"]

    def other_side(self, part: str) -> np.ndarray:
        """(ranks,) bytes at the ranks that ask: they receive vectors, and send gradients and ids."""
        sent = self.owner[part]
        ranks, nodes = len(sent), len(sent) // self.local
        by_node = sent.reshape(nodes, self.local)
        if part.startswith("near"):
            return ((by_node.sum(1, keepdims=True) - by_node) / max(1, self.local - 1)).ravel()
        others = sent.sum() - by_node.sum(1)
        return np.repeat(others / max(1, ranks - self.local), self.local)

    def sent(self, *parts: str) -> np.ndarray:
        """(ranks,) bytes that a rank sends in these parts; all where none is named."""
        forward = ("near", "far")
        return sum(
            (self.owner[part] if part in forward else self.other_side(part) for part in parts or PARTS),
            np.zeros(len(self.owner["near"])),
        )

    @property
    def received(self) -> np.ndarray:
        """(ranks,) bytes of all parts."""
        forward = ("near", "far")
        return sum(
            (self.other_side(part) if part in forward else self.owner[part] for part in PARTS),
            np.zeros(len(self.owner["near"])),
        )


def traffic(problem: Problem, options: Sequence[ShardingOption]) -> Traffic:
    """Of a placed plan."""
    found = {part: np.zeros(problem.ranks) for part in PARTS}
    known: dict[object, Work] = {}
    reduced = problem.dense_parameters * FLOAT + sum(
        problem.tables[option.name].rows * problem.tables[option.name].dim * FLOAT
        for option in options
        if option.sharding_type == "data_parallel"
    )
    for option in options:
        table, kind = problem.tables[option.name], option.sharding_type
        for number, shard in enumerate(option.shards):
            key = (problem.alike[option.name], kind, tuple(shard.size), number == 0)
            if key not in known:
                known[key] = work(table, kind, shard.size, problem.job, number == 0)
            for part, values in found.items():
                values[shard.rank] += getattr(known[key], part)
    local = problem.cluster.devices_per_node
    return Traffic(found, local, 2 * reduced * (problem.nodes - 1) / problem.nodes / local)
