"""One point of a benchmark: a model kind, a longest history, candidates a request, ranks. In: the user's config; out: the config measured.

Everything that makes a step is the user's: schema, tables, plan, optimizers, precision, loader threads. What a step has not is left out:
evaluations, checkpoints, windows, history pre-training, publications.
"""

from dataclasses import asdict, dataclass
from typing import Any

from interformer_rec.config import run as run_config
from interformer_rec.config.run import RunConfig
from interformer_rec.errors import InputError

BUFFER = 2  # batches of all ranks in the shuffle buffer, so that a short run decodes as it trains
# Keys that need files to evaluate on, or files of a run; None: as if the config were silent.
LEFT_OUT: dict[str, tuple[str, ...]] = {
    "data": ("valid", "test", "windows", "history_pretraining", "events"),
    "training": ("patience", "eval_every_steps", "max_steps"),
}


@dataclass(frozen=True)
class Point:
    """What one turn measures. `candidates` None: rows as they are."""

    kind: str
    longest: int
    candidates: int | None
    ranks: int

    def to_dict(self) -> dict[str, Any]:
        """For a result file."""
        return asdict(self)

    @property
    def rows_key(self) -> tuple[int, int | None, int]:
        """Points that are alike in this read the same files."""
        return self.longest, self.candidates, self.ranks

    @property
    def text(self) -> str:
        """`interformer, 256 events, 8 candidates, 2 ranks`."""
        parts = [self.kind, f"{self.longest:,} events"]
        parts += [f"{self.candidates} candidates"] if self.candidates else []
        parts += [f"{self.ranks} ranks"] if self.ranks > 1 else []
        return ", ".join(parts)


def config_of(base: RunConfig, point: Point, train: str, batch_size: int | None = None) -> RunConfig:
    """The config of a point, whose rows are at `train`. Raises InputError where the config cannot have it."""
    tree: dict[str, Any] = base.model_dump(mode="json")
    for part, keys in LEFT_OUT.items():
        tree[part].update(dict.fromkeys(keys))
    data, features, training = tree["data"], tree["features"], tree["training"]
    size = batch_size or data["batch_size"]
    data |= {"train": train, "batch_size": size, "shuffle_rows": min(data["shuffle_rows"], BUFFER * size * point.ranks)}
    for group in features["sequences"]:
        group["max_length"] = point.longest
    if point.candidates is not None or base.features.request is not None:  # as the rows are written here
        features["request"] = {"candidates": list(base.features.candidate)}
    if point.kind != base.model.kind:
        tree["model"] = {"kind": point.kind, "embedding_dim": base.model.embedding_dim}
    members = tree["model"].get("ensemble_members", 1)
    training |= {"epochs": members, "recalibrate": False, "follow": False, "log_every_steps": 1 << 30}
    training["checkpoint"] = {}
    if tree["optimizer"]["schedule"]["kind"] == "plateau":
        tree["optimizer"]["schedule"]["kind"] = "constant"
    tree["publish"] = None
    try:
        return run_config.parse(tree, "the config")
    except InputError as error:
        raise InputError(f"{point.text}: {error}") from None


def require_candidates(base: RunConfig, wanted: tuple[int, ...]) -> None:
    """Raises InputError unless the schema says which features are the candidate's."""
    if wanted and not base.features.candidate:
        raise InputError(
            "--candidates makes requests of the rows: list the names of the candidate's features (the item shown) under features.candidate"
        )
