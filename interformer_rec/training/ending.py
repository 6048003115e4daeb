"""The end of a training run. In: a run that has trained; out: metrics of its best checkpoint, and the run folder's last files.

The test comes last, and whatever does not need it is written before: one bad row among the test's files loses nothing.
"""

from typing import Any

from interformer_rec.checkpoint.write import SaveError
from interformer_rec.config.run import RunConfig
from interformer_rec.distributed.environment import Environment
from interformer_rec.errors import InputError
from interformer_rec.planning.score.measured_file import FILE as MEASURED
from interformer_rec.storage import Storage
from interformer_rec.training.build import eval_loader
from interformer_rec.training.folder.located import Located
from interformer_rec.training.folder.run_folder import COMPLETE, RunFolder
from interformer_rec.training.folder.writing import writing
from interformer_rec.training.report.page import write_report
from interformer_rec.training.scoring.evaluation import Evaluation, worse_than_constant
from interformer_rec.training.scoring.evaluation import evaluate as run_evaluation
from interformer_rec.training.scoring.trained import fitted_of
from interformer_rec.training.start.prepare import Start


class Ending:
    """Writes the files of a run that has trained, as often as there is something new to write; all methods are collective."""

    def __init__(self, config: RunConfig, env: Environment, folder: RunFolder, start: Start) -> None:
        self.config, self.env, self.folder, self.start = config, env, folder, start
        self.measured = start.recorder.gather(start.parallel)
        self.report = ""  # once it is written; on rank 0

    def stopped(self) -> None:
        """After a signal: `--resume` goes on, and ends the run some day."""
        self._write(None)

    def complete(self) -> None:
        """Validate and test with the best checkpoint. Raises InputError where a file does not let it, SaveError without a checkpoint."""
        found: dict[str, Any] = {}
        best = self.env.on_main(lambda: Located.among(self.folder.checkpoints))
        if not best.candidates:
            self._write(found)
            damaged = f" that can be read: {'; '.join(best.damaged)}" if best.damaged else ""
            raise SaveError(
                f"run {self.folder.shown()!r} was trained to step {self.start.run.position.step}, and has no checkpoint{damaged}. "
                "The messages above say why none was written; the weights are lost. Name another training.checkpoint.path and train again"
            )
        state = best.load(self.start.parallel, self.env)
        if (warning := best.warning()) is not None:
            self.start.run.log.message(warning)
        if "valid" in self.start.data:  # of the same weights as the test
            found["valid"] = state["evaluation"] or self._evaluate("valid").to_dict()
            for text in worse_than_constant(found["valid"], self._labels, "data.valid", bool(state["recalibration"])):
                self.start.run.log.message(text)
        self.start.pipeline.recalibrate(state["recalibration"], self._labels)
        self._write(found)
        if "test" in self.start.data:
            if self.start.trainer.hooks.growing is not None:
                self._read_test_files_as(best.checkpoint)
            why = (
                f"the best of data.valid by {state['monitor']}" if "valid" in self.start.data else "the last of the run"
            )
            self.start.run.log.message(f"tests the weights of step {state['step']}, {why}")
            try:
                tested = self._evaluate("test")
            except InputError as error:
                raise error.reworded(
                    f"training is done and saved, and the report is written; the test failed: {error}. Then --resume, which tests again"
                ) from error
            self.start.run.log.evaluation("test", {"epoch": state["epoch"], "step": state["step"], **tested.metrics})
            found["test"] = tested.to_dict()
            self._write(found)
        self.env.on_main(self._write_complete)
        self.folder.require(self.env)

    @property
    def _labels(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.config.features.labels)

    def _read_test_files_as(self, checkpoint: Storage) -> None:
        """With the vocabularies of its weights: growing tables had others at the start."""
        fitted = self.env.on_main(lambda: fitted_of(checkpoint))
        rows = self.start.data["test"]
        rows.read(eval_loader(self.config, rows.loader.source, self.env, fitted))

    def _write_complete(self) -> None:
        self.folder.write_json(COMPLETE, {"step": self.start.run.position.step})
        self.folder.send()

    def _evaluate(self, split: str) -> Evaluation:
        return run_evaluation(self.start.pipeline, self.start.data[split], self.config.features)

    def _write(self, evaluation: dict[str, Any] | None) -> None:
        facts = self._data_facts()
        self.folder.require(self.env)
        self.env.on_main(lambda: self._write_files(evaluation, facts))
        self.folder.require(self.env)

    def _write_files(self, evaluation: dict[str, Any] | None, facts: dict[str, Any]) -> None:
        if evaluation is not None:
            self.folder.write_json("evaluation.json", evaluation)
        self.folder.write_json("data.json", facts)
        self.folder.write_json(MEASURED, self.measured)
        with writing(self.folder.path):
            write_report(self.folder.path)
        self.folder.send()
        self.report = self.folder.shown("report.html")

    def _data_facts(self) -> dict[str, Any]:
        """Rows, skipped rows, tables and history lengths, for the report (collective)."""
        facts: dict[str, Any] = {}
        windows = self.start.trainer.hooks.windows
        for split, rows in self.start.data.items():
            if split == "train" and windows is not None:
                path, count = self.config.written(("data", "windows", "path")), windows.order.rows
            else:
                path, count = self.config.written(("data", split)), rows.loader.rows
            facts[split] = {"path": path, "rows": count, "bad_rows": rows.reasons()}
        facts["tables"] = {
            name: {"rows": self.start.fitted.table_rows[name], "ids": table.ids}
            for name, table in self.config.features.tables.items()
        }
        facts["sequences"] = self.start.trainer.hooks.lengths.to_dict()
        return facts
