"""What removing an input would save. In: a run's config, its tables' rows and data; out: memory and step time by the planner, without it.

The planner costs the real model of each config, so a table that another input still reads stays, and a smaller model is counted.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from interformer_rec.config.run import RunConfig, parse
from interformer_rec.distributed.environment import Environment
from interformer_rec.errors import InputError
from interformer_rec.explaining.targets import Target
from interformer_rec.planning.answer import Placed, place
from interformer_rec.planning.command import constraints_of, hush
from interformer_rec.planning.cost.cluster import Cluster, load_cluster
from interformer_rec.planning.cost.sizes import Sizes
from interformer_rec.planning.question import Problem
from interformer_rec.planning.running_job import cluster_of_job

REMOVABLE = ("feature", "group", "history", "field")


@dataclass(frozen=True)
class Machines:
    """What a run is planned for."""

    cluster: Cluster
    nodes: int

    @classmethod
    def of(cls, cluster: str | None, nodes: int, env: Environment) -> Machines:
        """A cluster by name or file; by default the ranks and memory that there are here (collective). Raises InputError."""
        if cluster is None:
            here = cluster_of_job(env)
            return cls(here, env.world_size // here.devices_per_node)
        found = load_cluster(cluster)
        found.ranks(nodes)
        return cls(found, nodes)


class Savings:
    """The plan of a run, and how others compare with it."""

    def __init__(self, config: RunConfig, sizes: Sizes, machines: Machines) -> None:
        """Raises InputError where the run itself has no plan on these machines."""
        hush()
        # Epochs of past events have the same step: a history that they need may go.
        data = config.data.model_copy(update={"history_pretraining": None})
        self._config = config.model_copy(update={"data": data})
        self._sizes, self._machines = sizes, machines
        self._whole = self._plan(self._config)

    def base(self) -> dict[str, Any]:
        """The run's own plan."""
        problem = self._whole.problem
        about = {"cluster": problem.cluster.name, "nodes": problem.nodes, "ranks": problem.ranks}
        return {**about, "batch_size": problem.batch_size, **_costs(self._whole)}

    def without(self, target: Target) -> dict[str, Any]:
        """What the plan needs less without a target's inputs; `why` where the model cannot be without them."""
        names = target.about.get("features", [target.name])
        fields = [(target.about["history"], target.about["field"])] if target.kind == "field" else []
        try:
            costs = _costs(self._plan(without(self._config, names, fields)))
        except InputError as error:
            reason = str(error).splitlines()[-1].strip()  # of a config that cannot be: what the model needs
            return {"why": reason.removeprefix("(top level): ")}
        return {name: value - costs[name] for name, value in _costs(self._whole).items()}

    def _plan(self, config: RunConfig) -> Placed:
        tables, sizes = config.features.tables, self._sizes
        known = replace(sizes, rows={name: sizes.rows[name] for name in tables})
        cluster, batch = self._machines.cluster, config.data.batch_size
        return place(Problem(config, cluster, self._machines.nodes, batch, known, constraints_of(config, cluster)))


def _costs(placed: Placed) -> dict[str, float]:
    weights = sum(table.rows * table.dim * table.weight_bytes for table in placed.problem.tables.values())
    peak = int(placed.memory.peak.max())
    return {"peak_bytes": peak, "table_bytes": weights, "step_ms": placed.time.total}


def without(config: RunConfig, names: Collection[str], fields: Collection[tuple[str, str]]) -> RunConfig:
    """The config without these features and histories, columns of histories (history, column), and tables that nothing else reads.

    Raises InputError where that is no run: the model needs them.
    """
    tree: dict[str, Any] = config.model_dump(mode="json")
    features = tree["features"]
    for part in ("dense", "ids", "bags", "sequences"):
        features[part] = [feature for feature in features[part] if feature["name"] not in names]
    for history in features["sequences"]:
        left = [column for column in history["columns"] if (history["name"], column["name"]) not in fields]
        history["columns"] = left
    features["candidate"] = [name for name in features["candidate"] if name not in names]
    columns = [column for history in features["sequences"] for column in history["columns"]]
    used = {feature["table"] for feature in (*features["ids"], *features["bags"], *columns)}
    for tables in (features["tables"], tree["sharding"]["tables"]):
        for name in set(tables) - used:
            del tables[name]
    return parse(tree, "the run without it")
