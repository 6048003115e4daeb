"""What a run has measured: measured.json's keys. In: a run folder; out: its config, plan, statistics and measurements, or an InputError.

training/measure/recorder.py makes a Measured of a run and writes it; a run that stopped early has measured too, if it trained a
step.
"""

import json
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from interformer_rec.config.found import at_home, run_folder_config
from interformer_rec.config.run import RunConfig
from interformer_rec.distributed.lookup.communication import Exchange
from interformer_rec.errors import InputError
from interformer_rec.files import first_problem
from interformer_rec.planning.plan_file import read_plan
from interformer_rec.planning.table_plan import TablePlan
from interformer_rec.redaction import redact
from interformer_rec.storage import Storage

FILE, FORMAT = "measured.json", 2


class _Loose(BaseModel):
    """Keys that a later release may add do no harm."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class MemoryOf(_Loose):
    """Bytes on a rank; None where the system did not tell."""

    before: int | None = None  # when nothing of the model was made
    tables: int
    table_state: int  # their optimizer's
    dense_parameters: int
    gradients: int
    dense_state: int  # the dense optimizer's
    peak: int | None = None  # in the training steps of the first segment, until something is saved
    evaluation_peak: int | None = None  # in the first evaluation, and the checkpoint before it
    process_peak: int | None = None  # of the whole run, with evaluations and checkpoints
    # CPU, of glibc's malloc when a backward pass began: `kept` is free, but not given back to the system
    in_use: int | None = None
    kept: int | None = None
    reserved: int | None = None  # CUDA


class TimeOf(_Loose):
    """Milliseconds of each measured step."""

    first_step: int
    step: list[float]  # the sum of its stages
    stages: dict[str, list[float]]


class RankOf(_Loose):
    """One rank."""

    memory: MemoryOf
    peak_of: str  # "training steps", or "the whole process" where the system cannot reset it
    time: TimeOf | None
    rows: list[int]  # of each measured step
    elements: dict[str, float]  # ids a row of each key, in the measured steps
    evaluation_elements: dict[str, float] = {}  # and in the first evaluation


class Measured(_Loose):
    """measured.json."""

    format: Literal[2]
    version: str
    device: Literal["cuda", "cpu"]
    ranks: int
    ranks_per_node: int
    versions: dict[str, str] = {}  # of torch, torchrec, fbgemm
    by_rank: list[RankOf]
    why_no_time: str = ""  # one sentence, where no rank has `time`

    @property
    def elements(self) -> dict[str, float]:
        """Ids a row of each key in the measured steps, all ranks together."""
        rows = np.array([sum(rank.rows) for rank in self.by_rank], float)
        keys = self.by_rank[0].elements
        return {k: float(np.average([r.elements.get(k, 0.0) for r in self.by_rank], weights=rows)) for k in keys}


@dataclass(frozen=True)
class Run:
    """A run that can be scored."""

    folder: Storage
    config: RunConfig
    plan: dict[str, TablePlan]  # plan.json
    exchange: Exchange  # as well
    measured: Measured
    facts: dict[str, Any]  # data.json

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.place.rstrip("/").rpartition("/")[2]

    @property
    def place(self) -> str:
        """Where it is, for a reader."""
        return redact(self.folder.location)


def read_run(path: str, trust: bool = False) -> Run:
    """`trust`: its config may name what is opened (config/found.py). Raises InputError for what is no run, or one without measurements."""
    folder, config = Storage.open(path), run_folder_config(path, trust)
    if config is None:
        raise InputError(
            f"{path!r} is not a run folder: it has no config.yaml. Name what `interformer train` wrote to, such as runs/NAME"
        )
    where = folder.folder(FILE).location
    try:
        for name in (FILE, "data.json", "plan.json"):
            if folder.size(name) is None:
                raise InputError(
                    f"run {path!r} has no {name}: it was trained by an earlier release, or did not come to its end. Train it again, "
                    f"a few steps are enough: --set training.max_steps=40 --set training.out=DIR"
                )
        measured = Measured.model_validate_json(folder.get(FILE))
        planned = read_plan(folder.folder("plan.json").location)
        facts = json.loads(folder.get("data.json"))
    except InputError:
        raise
    except ValidationError as error:
        raise InputError(f"{where!r} is not of format {FORMAT}: {first_problem(error)}") from None
    except (OSError, pa.ArrowException, ValueError, RecursionError) as error:
        raise InputError(f"run {path!r} cannot be read: {error}") from None
    if len(measured.by_rank) != measured.ranks:
        raise InputError(f"{where!r} is damaged: {measured.ranks} ranks, measurements of {len(measured.by_rank)}")
    return Run(folder, config if trust else at_home(config, path), planned.tables, planned.exchange, measured, facts)
