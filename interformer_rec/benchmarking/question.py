"""What a benchmark asks. In: the command line; out: a Question, everything that can be refused before work starts refused."""

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from interformer_rec.benchmarking.arguments import MOST_POINTS, BenchmarkOptions
from interformer_rec.benchmarking.point import Point, config_of, require_candidates
from interformer_rec.benchmarking.rows import own
from interformer_rec.config import run as run_config
from interformer_rec.config.errors import nearest
from interformer_rec.config.run import RunConfig
from interformer_rec.data.decode.kinds import check_kinds
from interformer_rec.errors import InputError
from interformer_rec.model.build import MODELS, build_model
from interformer_rec.planning.cost.cluster import load_cluster


@dataclass(frozen=True)
class Question:
    """The user's config, and the points that are measured."""

    base: RunConfig
    config_path: str
    changes: tuple[str, ...]
    options: BenchmarkOptions
    points: tuple[Point, ...]
    out: Path

    @property
    def device(self) -> str:
        """Where steps are computed."""
        wanted = self.base.training.device
        return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"

    @property
    def named(self) -> str:
        """The config's name."""
        return self.base.name


def ask(config: str, changes: Sequence[str], options: BenchmarkOptions) -> Question:
    """Check everything that the command line can have wrong. Raises InputError."""
    base = run_config.load(config, list(changes))
    kinds = options.kinds or (base.model.kind,)
    for kind in kinds:
        if kind not in MODELS:
            raise InputError(
                f"--kinds {kind}: no such kind of model; there are {', '.join(MODELS)}{nearest(kind, list(MODELS))}"
            )
    _require_rows(base, options)
    require_candidates(base, options.candidates)
    ranks = _ranks(base, options)
    if options.cluster is not None:
        load_cluster(options.cluster)
    candidates: tuple[int | None, ...] = options.candidates or (None,)
    points = tuple(
        Point(*values) for values in itertools.product(kinds, sorted(options.lengths), candidates, sorted(ranks))
    )
    if len(points) > MOST_POINTS:
        raise InputError(f"{len(points)} points to measure; {MOST_POINTS} at most: vary less at a time")
    for point in {(point.kind, point.candidates): point for point in points}.values():
        _require_built(base, point)
    out = Path(options.out) if options.out else base.run_dir.with_name(f"{base.run_dir.name}-benchmark")
    return Question(base, config, tuple(changes), options, points, out)


def _require_rows(base: RunConfig, options: BenchmarkOptions) -> None:
    if not base.features.sequences:
        raise InputError(
            "features.sequences is empty: without a history there is no length to vary. Name one, or use interformer plan"
        )
    if options.distribution == "data":
        check_kinds(own.open_training(base), base.features, labels=True)
    elif base.features.request is not None and not options.candidates:
        raise InputError(
            f"--distribution {options.distribution} makes up requests: say how many candidates they have, for example --candidates 8"
        )


def _ranks(base: RunConfig, options: BenchmarkOptions) -> tuple[int, ...]:
    """Numbers of ranks: torchrun's, or what is asked."""
    job = os.environ.get("WORLD_SIZE")
    if job is not None and options.ranks and options.ranks != (int(job),):
        raise InputError(
            f"--ranks starts processes on this host, and this job has its {job} already: leave --ranks out, or start without torchrun"
        )
    ranks = (int(job),) if job is not None else options.ranks or (1,)
    on_gpus = base.training.device != "cpu" and torch.cuda.is_available()
    if on_gpus and job is None and max(ranks) > torch.cuda.device_count():
        raise InputError(
            f"--ranks {max(ranks)}: a rank has a GPU of its own, and there are {torch.cuda.device_count()}"
        )
    return ranks


def _require_built(base: RunConfig, point: Point) -> None:
    """Raises InputError where the schema is not for this kind of model."""
    config = config_of(base, point, base.data.train or "rows")
    with torch.device("meta"):
        build_model(config.features, config.model)
