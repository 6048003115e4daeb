"""A training run from its start to its report. In: a config; out: the run folder's files and an exit code."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from typing import Any

import pyarrow as pa
import torch.distributed as dist

from interformer_rec.config import RunConfig
from interformer_rec.data.loader import Loader
from interformer_rec.distributed.environment import Environment, process_group
from interformer_rec.training.evaluation import Evaluation
from interformer_rec.training.evaluation import evaluate as run_evaluation
from interformer_rec.training.located import Located
from interformer_rec.training.measured import FILE as MEASURED
from interformer_rec.training.report import write_report
from interformer_rec.training.resume import Resumed, resumed
from interformer_rec.training.run_folder import COMPLETE, RunFolder
from interformer_rec.training.run_lock import ending_signals
from interformer_rec.training.same_run import require_same, run_facts
from interformer_rec.training.start import Start, prepare, write_start


def train(config: RunConfig, resume: bool = False) -> int:
    """Train a run from its config, test it with its best checkpoint, write its report.

    Returns 0, or 128 + n if signal n ended it (everything is saved; `resume` continues). Raises InputError; a start that is refused
    changes no file of the run.
    """
    pa.set_memory_pool(pa.system_memory_pool())  # beside malloc Arrow would keep an idle pool of its own
    with process_group(config.training.device) as env, ending_signals() if env.is_main else nullcontext():
        require_same(env, run_facts(config, resume))
        folder = RunFolder(config)
        env.on_main(lambda: folder.claim(resume))
        try:
            before = env.on_main(lambda: resumed(config, folder)) if resume else Resumed(config)
            if before.complete is not None:
                return _nothing_to_do(env, folder, before.complete)
            stopped_by = _train(before.config, env, folder, resume, before.notes)
        finally:
            folder.release()
        return 128 + stopped_by if stopped_by else 0


def _train(config: RunConfig, env: Environment, folder: RunFolder, resume: bool, notes: tuple[str, ...]) -> int:
    """Train in a folder that is locked for this job. Returns the number of the signal that ended it, or 0."""
    start = prepare(config, env, folder, resume)
    write_start(config, env, folder, start)
    with start.log:
        for note in notes:
            start.log.message(note)
        stopped_by = start.trainer.fit()
        if not stopped_by:
            _finish(config, env, folder, start)
    facts = _data_facts(config, start)
    measured = start.recorder.gather(start.parallel)
    folder.require(env)
    if env.is_main:
        folder.write_json("data.json", facts)
        folder.write_json(MEASURED, measured)
        report = write_report(folder.path)
        if not stopped_by:
            folder.write_json(COMPLETE, {"step": start.trainer.position.step})
        print(f"report: {report}", flush=True)
    return stopped_by


def _nothing_to_do(env: Environment, folder: RunFolder, step: int) -> int:
    if env.is_main:
        print(
            f"run {str(folder.path)!r} is already complete at step {step}, nothing to do: to train on, raise training.epochs or "
            "training.max_steps; a new experiment needs a new training.out",
            flush=True,
        )
    return 0


def _finish(config: RunConfig, env: Environment, folder: RunFolder, start: Start) -> None:
    """Test once, with the best checkpoint, and write evaluation.json."""
    found: dict[str, dict[str, Any]] = {}
    best = env.on_main(lambda: Located.among(folder.checkpoints))
    if best.candidates:
        state = best.load(start.parallel, env)
        if (warning := best.warning()) is not None:
            start.log.message(warning)
        if (valid := start.loaders.get("valid")) is not None:  # of the same weights as the test
            evaluation = state["evaluation"]
            found["valid"] = evaluation or _evaluate(config, env, start, valid).to_dict()
        if (test := start.loaders.get("test")) is not None:
            tested = _evaluate(config, env, start, test)
            start.log.evaluation("test", {"epoch": state["epoch"], "step": state["step"], **tested.metrics})
            found["test"] = tested.to_dict()
    if env.is_main:
        folder.write_json("evaluation.json", found)


def _evaluate(config: RunConfig, env: Environment, start: Start, loader: Loader) -> Evaluation:
    return run_evaluation(start.pipeline, loader.batches(), config.features, env)


def _data_facts(config: RunConfig, start: Start) -> dict[str, Any]:
    """Rows, skipped rows, tables and history lengths, for the report (collective)."""
    facts: dict[str, Any] = {}
    for split, loader in start.loaders.items():
        skipped: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(skipped, loader.bad_rows)
        bad_rows = dict(sum((Counter(part) for part in skipped), Counter()))
        facts[split] = {"path": getattr(config.data, split), "rows": loader.rows, "bad_rows": bad_rows}
    facts["tables"] = {
        name: {"rows": start.fitted.table_rows[name], "ids": table.ids}
        for name, table in config.features.tables.items()
    }
    facts["sequences"] = start.trainer.lengths.to_dict()
    return facts
